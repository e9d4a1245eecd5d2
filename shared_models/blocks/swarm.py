"""Particle swarm optimisation in plain arrays: where particles go next, from where they are and how well they did.

    v <- w v + c1 r1 (own best - x) + c2 r2 (best of all - x)        x <- x + v

with the constriction of Clerc and Kennedy, under which the swarm comes to rest by itself. All chance comes from the seed and the number of the
generation, so whoever knows both takes the same step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

INERTIA, PULL = 0.729, 1.49445
"""w, and c1 = c2: the constriction of phi = 4.1 (Clerc & Kennedy, IEEE Trans Evol Comput 2002; Eberhart & Shi, CEC 2000)."""

UNKNOWN = float(np.finfo(np.float64).max)
"""The loss of a place before it was judged: a number, for states that travel hold nothing else."""


class Swarm(NamedTuple):
    """Particles and what they remember.

    Parameters
    ----------
    place, pace : ndarray, shape (particles, dimensions)
        Where each is, and its last step.
    best : ndarray, shape (particles, dimensions)
        Where each did best.
    reached : ndarray, shape (particles,)
        The loss there; `UNKNOWN` before any was known.
    """

    place: np.ndarray
    pace: np.ndarray
    best: np.ndarray
    reached: np.ndarray

    @property
    def leader(self) -> int:
        """The particle whose best is the best of all, the first of several."""
        return int(np.argmin(self.reached))


def gather(particles: int, low: np.ndarray, high: np.ndarray, *, seed: int) -> Swarm:
    """Return particles at rest, spread evenly over the box between `low` and `high` (dimensions,)."""
    place = np.random.default_rng([seed, 0]).uniform(low, high, (particles, len(low)))
    return Swarm(place, np.zeros_like(place), place.copy(), np.full(particles, UNKNOWN))


def judged(swarm: Swarm, loss: np.ndarray) -> Swarm:
    """Return the swarm once the loss (particles,) of its places is known; what is not a number was no success."""
    better = loss < swarm.reached
    return swarm._replace(best=np.where(better[:, None], swarm.place, swarm.best), reached=np.where(better, loss, swarm.reached))


def moved(swarm: Swarm, low: np.ndarray, high: np.ndarray, *, seed: int, generation: int) -> Swarm:
    """Return the swarm after one step; who would leave the box stays on its wall and loses the pace towards it.

    Examples
    --------
    >>> low, high = np.full(2, -5.0), np.full(2, 5.0)
    >>> swarm = gather(20, low, high, seed=0)
    >>> for generation in range(1, 101):
    ...     swarm = judged(swarm, (swarm.place**2).sum(1))
    ...     swarm = moved(swarm, low, high, seed=0, generation=generation)
    >>> bool(swarm.reached.min() < 1e-6)
    True
    """
    generator = np.random.default_rng([seed, generation])
    own, shared = (generator.uniform(size=swarm.place.shape) for _ in range(2))
    pace = INERTIA * swarm.pace + PULL * own * (swarm.best - swarm.place) + PULL * shared * (swarm.best[swarm.leader] - swarm.place)
    place = swarm.place + pace
    outside = (place < low) | (place > high)
    return swarm._replace(place=np.clip(place, low, high), pace=np.where(outside, 0.0, pace))


def scattered(swarm: Swarm, low: np.ndarray, high: np.ndarray, *, seed: int, generation: int) -> Swarm:
    """Return the swarm with every particle drawn anew from the box: random search, what a swarm's steps are to be judged by.

    Source: Bergstra & Bengio, Random search for hyper-parameter optimization, JMLR 2012.

    Examples
    --------
    >>> low, high = np.zeros(2), np.ones(2)
    >>> swarm = judged(gather(5, low, high, seed=0), np.arange(5.0))
    >>> after = scattered(swarm, low, high, seed=0, generation=1)
    >>> bool((after.place != swarm.place).all()), bool((after.best == swarm.best).all())
    (True, True)
    """
    return swarm._replace(place=np.random.default_rng([seed, generation]).uniform(low, high, swarm.place.shape), pace=np.zeros_like(swarm.pace))
