"""A table of three groups in columns of unlike sizes, and a federation over given sites."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared_models.core.arrays import State

Site = tuple[np.ndarray, np.ndarray]


def table(seed: int, count: int = 150) -> Site:
    """Columns (count, 4) and class numbers, of which three overlap."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    middles = np.array([[0, 1.5, 0, 0], [1.5, 0, 0, 0], [0, 0, 1.5, 0]])[y]
    return (rng.normal(0, 1, (count, 4)) + middles) * [1, 50, 0.01, 3] + [0, 1000, 5, -2], y


def standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


def federated(model: Any, sites: list[Site], rounds: int, *, seed: int = 0) -> State:
    """The state after some rounds, every contribution checked as the server checks it."""
    state = model.start(seed=seed)
    for _ in range(rounds):
        sums = [model.contribution(state, x, y, seed=0) for x, y in sites]
        for contribution in sums:
            model.check(contribution, state)
        state = model.combine(state, sums, [float(len(x)) for x, _ in sites])
    return state


def cut(x: np.ndarray, y: np.ndarray, *bounds: int) -> list[Site]:
    return list(zip(np.split(x, bounds), np.split(y, bounds), strict=True))
