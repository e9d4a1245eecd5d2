"""SCHEDULES: the factor on the sites' learning rate by round. Adding one is a function and a line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from shared_models.core.choices import Choice, pick

CYCLE_ROUNDS = 5
"""Rounds in a cycle where none are named, of the learning rate and of snapshots alike."""


def constant(round: int, rounds: int) -> float:
    """Leave the learning rate as it is."""
    del round, rounds
    return 1.0


def cosine(round: int, rounds: int, *, end: Annotated[float, Field(gt=0, le=1)] = 0.02) -> float:
    """Fall from 1 to `end` along half a cosine (Loshchilov and Hutter, ICLR 2017, equation 5, without restarts)."""
    return 1.0 if rounds <= 1 else end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (round - 1) / (rounds - 1)))


def cyclic(
    round: int, rounds: int, *, every: Annotated[int, Field(ge=1, le=10_000)] = CYCLE_ROUNDS, end: Annotated[float, Field(gt=0, le=1)] = 0.02
) -> float:
    """Fall from 1 to `end` along half a cosine in every `every` rounds, and start again (Huang et al., ICLR 2017, equation 2, ending at `end`)."""
    del rounds
    return cosine((round - 1) % every + 1, every, end=end)


def step(round: int, rounds: int, *, every: Annotated[int, Field(ge=1)] = 10, factor: Annotated[float, Field(gt=0, le=1)] = 0.1) -> float:
    """Multiply by `factor` after every `every` rounds."""
    del rounds
    return factor ** ((round - 1) // every)


def exponential(round: int, rounds: int, *, factor: Annotated[float, Field(gt=0, le=1)] = 0.95) -> float:
    """Multiply by `factor` after each round."""
    del rounds
    return factor ** (round - 1)


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "cosine": cosine,
    "cyclic": cyclic,
    "step": step,
    "exponential": exponential,
}


def schedule_of(chosen: Choice | str) -> Callable[[int, int], float]:
    """Return ``schedule(round, rounds)`` of a name, or of a name with knobs; `round` counts from 1.

    Raises
    ------
    BadChoice
        Unknown name, or a knob that cannot be.

    Examples
    --------
    >>> half = schedule_of(Choice.model_validate({"name": "step", "every": 2, "factor": 0.5}))
    >>> [half(round, 5) for round in range(1, 6)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return pick(SCHEDULES, Choice(name=chosen) if isinstance(chosen, str) else chosen, kind="schedule")


def factor_of(chosen: Choice | str, *, warm_up: int, round: int, rounds: int) -> float:
    """Return the factor in `round` of `rounds`: linear from ``1 / warm_up`` to 1 over the first `warm_up` rounds, then the schedule over the rest.

    The warm-up is that of Goyal et al. (arXiv:1706.02677, section 2.2).

    Examples
    --------
    >>> [round(factor_of("cosine", warm_up=2, round=number, rounds=5), 2) for number in range(1, 6)]
    [0.5, 1.0, 1.0, 0.51, 0.02]
    """
    return round / warm_up if round <= warm_up else schedule_of(chosen)(round - warm_up, rounds - warm_up)
