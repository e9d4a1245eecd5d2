"""How sure the risks of a prognosis are: an interval where a release has one, else why there is none, and how far its members lie apart."""

from __future__ import annotations

from typing import Any

from client.prognosis import prognosis_of
from client.training.records import Records
from shared_models.core.arrays import State
from shared_models.ensemble import is_ensemble, members_of
from shared_models.experiment import Experiment
from shared_models.phases import trained

ALONE = "one set of weights gives one risk: how far it would move with other training patients was not measured"
SEEDS = "members that were trained on the same patients show what chance in training does, and not what other patients would: no 95 % interval"


def uncertainty_of(experiment: Experiment, state: State, records: Records) -> dict[str, Any]:
    """Return what is known of the uncertainty of the risks of the one record.

    No release holds what an interval is made of (refits on resampled patients, or the covariance of its weights), so that `interval` is None and
    `why_none` says so; an ensemble tells the lowest and the highest risk of its members, which is less.

    Returns
    -------
    dict
        ``interval`` (None), ``why_none``, ``members`` and ``spread``: of an ensemble by horizon ``[lowest, highest]``, else None.
    """
    if not is_ensemble(state):
        return {"interval": None, "why_none": ALONE, "members": 1, "spread": None}
    members = members_of(trained(state))
    found = [prognosis_of(experiment, member.state, records)[0].tolist() for member in members]
    spread = {f"{horizon:g}": [min(risks), max(risks)] for horizon, risks in zip(experiment.data.horizons, zip(*found, strict=True), strict=True)}
    return {"interval": None, "why_none": SEEDS, "members": len(members), "spread": spread}
