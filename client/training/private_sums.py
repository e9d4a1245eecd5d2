"""Models whose fit is a sum, under differential privacy: the Gaussian mechanism on the site's sums, one charge a round.

A patient's part is the mean over the patient's records, each record weighed down so that its part of all summed arrays together has at most
the length `clip`. The length of a mean is at most the largest length in it, so adding or removing a patient moves the sums by `clip` at
most; noise of standard deviation ``sigma clip`` on every number then gives the guarantee of one Gaussian step with q = 1 (Dwork & Roth,
The algorithmic foundations of differential privacy, 2014, appendix A). A model says by `parts` which arrays a round reads: the others leave
as zeros and cost nothing. Making noisy sums possible again (symmetric, positive semidefinite, counts not negative) is post-processing of
what is released: of the site's own sums, or of the total where a secure sum releases nothing else. A part that was mended would carry less
than its share of the noise into that total.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from client.privacy.spending import Spend
from client.training.fitter import Fitted
from client.training.records import Records
from client.training.rules import Rule
from client.training.steps import StepFile
from client.training.units import FEWEST_UNITS, check_units, spend_of, units_of
from shared_models.blocks.spec import PrivateSums
from shared_models.catalogue import build
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice
from shared_models.core.randomness import SecretRandom
from shared_models.experiment import Experiment


def fit_private_sums(
    experiment: Experiment,
    state: State,
    records: Records,
    *,
    rule: Rule,
    factor: float,
    seed: int,
    steps: StepFile | None = None,
    spend: Callable[[Spend], None],
    summed: bool = False,
    secret: SecretRandom | None = None,
    model: PrivateSums | None = None,
) -> Fitted:
    """Return the site's noisy sums at the current state.

    Parameters
    ----------
    experiment, state, records, spend, summed, secret
        As in `fit_private`.
    rule, factor
        Of no use here.
    seed : int
        Handed to the model.
    model : PrivateSums, optional
        What is fitted, by default the experiment's model: a statistic before training. The audit fits sums of canaries.
    steps : StepFile, optional
        Keeps nonce and noise, so that a round that was killed is charged once.

    Raises
    ------
    Refused
        E_FEW_CASES or E_PRIVACY_DELTA; or what `spend` raises.
    BadChoice
        Nobody has worked out how much one patient can change this model's sums.
    """
    del rule, factor
    privacy = experiment.privacy
    model = model or build(experiment.model, inputs=records.inputs.shape[1], outputs=experiment.data.outputs)
    if not isinstance(model, PrivateSums):
        raise BadChoice(f"model {experiment.model.name!r} has no bound on what one patient changes", remedy="choose another model, or no [privacy]")
    units = units_of(records, privacy.unit)
    check_units(len(units), privacy.delta, fewest=1 if summed else FEWEST_UNITS)  # nothing tells their number: no batch, and it is masked
    parts = model.parts(state)
    if not parts:
        return Fitted(model.contribution(state, records.inputs[:0], records.labels[:0], seed=seed), steps=1)
    secret = secret or SecretRandom()
    spent = spend_of(experiment, units, q=1.0, steps=1, summed=summed)  # noise adds up in every sum
    if steps is not None and (saved := steps.load()) is not None:
        secret.load({"key": saved["key"], "used": saved["used"]})
        spent = spend_of(experiment, units, q=1.0, steps=1, nonce=saved["nonce"].tobytes().hex(), summed=summed)
    elif steps is not None:
        steps.write(0, lambda: {**secret.state(), "nonce": np.frombuffer(bytes.fromhex(spent.nonce), np.uint8).copy()})
    spend(spent)
    sums = clipped_sums(model, state, records, units, clip=privacy.clip, seed=seed)
    scale = (privacy.noise_multiplier or 0.0) * privacy.clip / math.sqrt(privacy.noise_share)
    noisy = {key: value + scale * secret.normal(value.size).reshape(value.shape) if key in parts else value for key, value in sums.items()}
    return Fitted(noisy if summed else model.mend(noisy), steps=1)


def clipped_sums(model: PrivateSums, state: State, records: Records, units: list[np.ndarray], *, clip: float, seed: int = 0) -> State:
    """Return the sums over units, each unit's part at most `clip` long over the arrays that this round reads; the other arrays are zero."""
    parts = model.parts(state)
    lengths = model.lengths(state, records.inputs, records.labels)
    weights = factors(lengths, clip)
    for unit in units:
        weights[unit] /= len(unit)
    kept = weights > 0  # a record whose numbers are broken adds nothing
    sums = model.contribution(state, records.inputs[kept], records.labels[kept], seed=seed, weights=weights[kept])
    return {key: value if key in parts else np.zeros_like(value) for key, value in sums.items()}


def factors(lengths: np.ndarray, clip: float) -> np.ndarray:
    """Return what each record is scaled by so that it is at most `clip` long; 0 where its length is not finite.

    Examples
    --------
    >>> factors(np.array([4.0, 0.5, np.inf, np.nan]), 1.0).tolist()
    [0.25, 1.0, 0.0, 0.0]
    """
    return np.where(np.isfinite(lengths), np.minimum(1.0, clip / np.maximum(lengths, 1e-300)), 0.0)
