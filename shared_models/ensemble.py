"""Several networks of one layout in one state: what a one-shot federation releases. Its prediction is the weighted mean of probabilities.

ensemble/weights        weight of each member, shape (members,), float64, summing to 1
ensemble/<n>/<key>      the arrays of member n
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadState

PREFIX = "ensemble/"
WEIGHTS = PREFIX + "weights"


class Member(NamedTuple):
    """One network of an ensemble and its weight."""

    weight: float
    state: State


def join(members: Sequence[Member]) -> State:
    """Return one state with all members.

    Raises
    ------
    BadState
        No members, or weights that do not sum to a positive number.

    Examples
    --------
    >>> both = join([Member(30, {"w": np.array([1.0])}), Member(10, {"w": np.array([2.0])})])
    >>> both["ensemble/weights"], is_ensemble(both), [member.weight for member in members_of(both)]
    (array([0.75, 0.25]), True, [0.75, 0.25])
    """
    weights = np.array([member.weight for member in members], np.float64)
    if not len(weights) or (weights < 0).any() or not weights.sum() > 0:
        raise BadState("an ensemble has members of positive weight", value=weights.tolist())
    arrays = {f"{PREFIX}{number}/{key}": value for number, member in enumerate(members) for key, value in member.state.items()}
    return {WEIGHTS: weights / weights.sum(), **arrays}


def is_ensemble(state: State) -> bool:
    """Return whether `state` holds several networks."""
    return WEIGHTS in state


def members_of(state: State) -> list[Member]:
    """Return the members in order; a state that is no ensemble is its own only member.

    Raises
    ------
    BadState
        Arrays that belong to no member, or weights that cannot be.
    """
    if not is_ensemble(state):
        return [Member(1.0, state)]
    weights = state[WEIGHTS]
    if weights.ndim != 1 or not len(weights) or not np.isfinite(weights).all() or (weights < 0).any() or abs(float(weights.sum()) - 1) > 1e-9:
        raise BadState("the weights of an ensemble sum to 1", value=weights.shape)
    parts: list[State] = [{} for _ in weights]
    for key, value in state.items():
        number, _, name = key.removeprefix(PREFIX).partition("/")
        if key == WEIGHTS:
            continue
        if not key.startswith(PREFIX) or not number.isdecimal() or not int(number) < len(parts) or not name:
            raise BadState("an ensemble holds the arrays of its members", value=key)
        parts[int(number)][name] = value
    return [Member(float(weight), part) for weight, part in zip(weights, parts, strict=True)]


def largest_of(state: State) -> State:
    """Return the member of the largest weight, the first of several: the one that is shown where only one can be."""
    return max(members_of(state), key=lambda member: member.weight).state
