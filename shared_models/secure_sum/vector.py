"""What is summed under masks: the weight, the patients, the metrics, and the change of the weights or the exact sums.

    numbers        uint64 (2, 2 + 2 metrics)   weight, patients, and for each metric its patients and patients times value
    change         uint32 (parameters,)        weight times the change of all floating-point keys, one after another in the order of their names
    exact/KEY      uint64 (2, ...)             an array of exact sums, or weight times a counter

The weight of a site is its number of patients, or 1. So neither a count nor a metric of one site leaves in clear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadState, Refused
from shared_models.core.state import same_layout
from shared_models.experiment import Experiment, SecureSum
from shared_models.secure_sum.fixed_point import change_bits, decode_change, decode_exact, encode_change, encode_exact

METRICS = ("train_loss", "val_loss", "val_accuracy", "val_auroc_macro")
"""Metrics that are summed, each weighed with the patients behind it; the sum of ``val_cases`` comes with them."""


@dataclass(frozen=True)
class Part:
    """One site's share of a sum, in clear: it never leaves the site.

    `state` holds weights, or exact sums; `metrics` the patients behind each metric and its value.
    """

    state: State
    cases: int
    metrics: Mapping[str, tuple[int, float]]


@dataclass(frozen=True)
class Total:
    """What the server reads from the unmasked sum: the weighted mean of the weights or the total of the exact sums, patients, mean metrics."""

    state: State
    cases: int
    metrics: dict[str, float]


def weighs_equally(experiment: Experiment) -> bool:
    """Say whether the experiment's strategy gives every site one vote."""
    return experiment.strategy is not None and experiment.strategy.knobs.get("weighting") == "equal"


def encode(part: Part, current: State | None, experiment: Experiment, *, sites: int) -> State:
    """Return the words of one site.

    Parameters
    ----------
    part : Part
        What the gate let through.
    current : State or None
        The global weights, from which changes are counted; None for exact sums.
    experiment : Experiment
        With ``federation.secure_sum``.
    sites : int
        Members of the group: the range is divided among them.

    Raises
    ------
    Refused
        E_MASK_RANGE: a number that could overflow the sum.
    """
    settings = _settings(experiment)
    if part.cases > settings.most_cases:
        raise Refused("a site under the secure sum has at most federation.secure_sum.most_cases patients", value=part.cases, code="E_MASK_RANGE")
    equal = weighs_equally(experiment)
    weight = 1 if equal else part.cases
    numbers = [float(weight), float(part.cases)]
    for name in METRICS:
        behind, value = part.metrics.get(name, (0, 0.0))
        numbers += [float(behind), behind * value]
    try:
        words = {"numbers": encode_exact(np.array(numbers), sites=sites)}
        floats = [] if current is None else _floats(current)
        if current is not None:
            same_layout(part.state, current)
            changes = [np.subtract(part.state[key], current[key], dtype=np.float64).ravel() for key in floats]
            change = np.concatenate(changes) if changes else np.zeros(0)
            change *= 1.0 if equal else weight / settings.most_cases
            words["change"] = encode_change(change, sites=sites, largest=settings.largest_change)
        factor = weight if current is not None else 1
        for key in part.state.keys() - set(floats):
            words[f"exact/{key}"] = encode_exact(factor * part.state[key].astype(np.float64), sites=sites)
    except BadState as error:
        raise Refused(error.rule, value=error.value, remedy=error.remedy, code="E_MASK_RANGE") from None
    return words


def decode(words: State, current: State | None, experiment: Experiment, *, sites: int) -> Total:
    """Return what the sum of the sites' words stands for.

    The mean of the weights differs from the plain one by at most ``step(...)`` in each value.

    Raises
    ------
    BadState
        Words of another layout, or numbers that no sites can have.
    """
    settings = _settings(experiment)
    numbers = decode_exact(words["numbers"], sites=sites)
    weight, cases = float(numbers[0]), round(float(numbers[1]))
    if not (weight >= 1 and 1 <= cases <= sites * settings.most_cases and weight <= sites * settings.most_cases):
        raise BadState("a sum stands for at least one patient", value=(weight, cases))
    metrics = {}
    for name, behind, value in zip(METRICS, numbers[2::2], numbers[3::2], strict=True):
        if behind >= 1:
            metrics[name] = float(value / behind)
    behind = float(numbers[2 + 2 * METRICS.index("val_loss")])
    if behind >= 1:
        metrics["val_cases"] = behind
    exact = {key.removeprefix("exact/"): decode_exact(value, sites=sites) for key, value in words.items() if key.startswith("exact/")}
    if current is None:
        return Total(exact, cases, metrics)
    change = decode_change(words["change"], sites=sites, largest=settings.largest_change)
    change *= (1.0 if weighs_equally(experiment) else settings.most_cases) / weight
    state, at = {}, 0
    for key in _floats(current):
        value = current[key]
        state[key] = (value.astype(np.float64) + change[at : at + value.size].reshape(value.shape)).astype(value.dtype)
        at += value.size
    for key, value in exact.items():
        state[key] = np.rint(value / weight).astype(current[key].dtype)
    return Total({key: state[key] for key in current}, cases, metrics)


def layout(current: State) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return name, shape and type of the words for weights of the layout of `current`."""
    found: dict[str, tuple[tuple[int, ...], np.dtype]] = {"numbers": ((2, 2 + 2 * len(METRICS)), np.dtype(np.uint64))}
    floats = _floats(current)
    found["change"] = ((sum(current[key].size for key in floats),), np.dtype(np.uint32))
    return found | {f"exact/{key}": ((2, *current[key].shape), np.dtype(np.uint64)) for key in current.keys() - set(floats)}


def step(experiment: Experiment, *, sites: int, weight: float) -> float:
    """Return one quantisation step of the mean: how far it moves when every site's last bit moves one up.

    Parameters
    ----------
    sites : int
        Members of the group.
    weight : float
        Sum of the sites' weights.
    """
    settings = _settings(experiment)
    scale = 1.0 if weighs_equally(experiment) else settings.most_cases
    return sites * scale / weight * 2.0 ** -change_bits(sites, settings.largest_change)


def _floats(state: State) -> list[str]:
    return sorted(key for key, value in state.items() if value.dtype.kind == "f")


def _settings(experiment: Experiment) -> SecureSum:
    settings = experiment.federation.secure_sum
    if settings is None:
        raise BadState("the experiment must ask for the secure sum")
    return settings
