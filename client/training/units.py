"""Who counts as one under differential privacy: a patient with all records, or a record."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

import numpy as np

from client.privacy.spending import Spend
from client.training.records import Records
from shared_models.catalogue import spec_of
from shared_models.core.errors import BadCohort, Refused
from shared_models.experiment import Experiment

FEWEST_UNITS = 50
"""Below this many patients no privacy is claimed: the expected batch alone would give their number away."""


def units_of(records: Records, unit: str) -> list[np.ndarray]:
    """Return the record numbers of every unit, patients in the order of their first record.

    Raises
    ------
    BadCohort
        Patients are wanted, and the records do not say whose they are.

    Examples
    --------
    >>> records = Records(np.zeros((3, 1)), np.zeros(3, int), ("p1", "p2", "p1"))
    >>> [unit.tolist() for unit in units_of(records, "patient")], [unit.tolist() for unit in units_of(records, "record")]
    ([[0, 2], [1]], [[0], [1], [2]])
    """
    if unit == "record":
        return [np.array([number]) for number in range(len(records))]
    if not records.identified:
        raise BadCohort("patients can only be protected where records say whose they are", remedy='privacy.unit = "record" protects single records')
    found: dict[str, list[int]] = {}
    for number, name in enumerate(records.names):
        found.setdefault(name, []).append(number)
    return [np.array(numbers) for numbers in found.values()]


def check_units(count: int, delta: float, *, fewest: int = FEWEST_UNITS) -> None:
    """Refuse what no honest claim can be made for.

    Raises
    ------
    Refused
        E_FEW_CASES: fewer than `fewest`; E_PRIVACY_DELTA: `delta` is not below ``1 / (10 count)``.
    """
    if count < fewest:
        raise Refused("privacy is claimed for enough patients only", remedy="take part with more patients", code="E_FEW_CASES")
    if delta >= 1 / (10 * count):
        raise Refused("delta must lie below 1 / (10 n)", value=delta, remedy="choose a smaller privacy.delta", code="E_PRIVACY_DELTA")


def noise_adds_up(experiment: Experiment, steps: int) -> bool:
    """Say whether the noise of sites that share it is, in the sum of their updates, the noise of one mechanism.

    It is where every update is linear in its noise and all weigh alike: exact sums, or one step of plain SGD a round with equal votes.
    Several steps, Adam, a clip after the noise or lossy compression turn each site's share into something that no longer adds up.
    """
    if spec_of(experiment.model).fit == "sums":
        return True
    train = experiment.train
    equal = experiment.strategy is not None and experiment.strategy.knobs.get("weighting") == "equal"
    linear = train.optimiser.name == "sgd" and train.clip_norm is None and experiment.federation.compression.name == "none"
    return steps == 1 and linear and equal


def spend_of(experiment: Experiment, units: Sequence[np.ndarray], *, q: float, steps: int, nonce: str = "", summed: bool = False) -> Spend:
    """Return what `steps` draws with probability `q` will spend.

    Parameters
    ----------
    experiment : Experiment
        Its ``[privacy]``.
    units : sequence of ndarray
        From `units_of`.
    q : float
        Probability with which each unit enters a step.
    steps : int
        Steps.
    nonce : str
        Of an attempt that goes on; a new one by default.
    summed : bool
        A secure sum hides the single update: only then may the noise of all sharing sites be claimed.
    """
    privacy = experiment.privacy
    sigma = (privacy.noise_multiplier or 0.0) / (1 if summed else math.sqrt(privacy.noise_share))
    return Spend(sigma, q, steps, len(units), privacy.unit, privacy.clip, privacy.delta, nonce or secrets.token_hex(16))
