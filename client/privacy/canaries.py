"""The arithmetic of an audit by canaries: patients whose gradients are known, so that anyone can see how well a model gives them away.

Half of m canaries, drawn by coin, take part in training; each one's score is how far the weights moved along its own direction. A correct
Gaussian mechanism hides them exactly as well as theory says, no better and no worse: the area under the ROC curve of the scores is known
in advance. An audit that only bounds epsilon from below misses most mistakes; this one can fail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from client.privacy.accountant import epsilon
from client.privacy.spending import Spend

AUC_WITHIN = 0.05
NOISE_WITHIN = 0.05
GUESSES = 0.2
"""Share of the canaries that the attacker guesses about, half of them as present: chosen before anything is seen."""


@dataclass(frozen=True)
class Sighting:
    """What training did to its canaries.

    Parameters
    ----------
    scores : ndarray, shape (m,)
        Movement along each canary's direction, in units of the clip.
    present : ndarray of bool, shape (m,)
        Which canaries took part.
    empty : ndarray
        Movement along directions that nobody has: noise alone, in units of the clip.
    spends : tuple of Spend
        What was said to be spent, one a round.
    """

    scores: np.ndarray
    present: np.ndarray
    empty: np.ndarray
    spends: tuple[Spend, ...]


@dataclass(frozen=True)
class Verdict:
    """An audit's figures: the AUC beside the expected one, epsilon's lower bound beside the claim, the noise beside the promised one."""

    auc: float
    expected_auc: float
    epsilon_at_least: float
    epsilon_claimed: float
    noise: float

    def faults(self) -> list[str]:
        """Return what is wrong; nothing for a mechanism that does what it says."""
        found = []
        if abs(self.auc - self.expected_auc) > AUC_WITHIN:
            found.append(f"canaries are told apart with AUC {self.auc:.3f}; the claim means {self.expected_auc:.3f}")
        if self.epsilon_at_least > self.epsilon_claimed:
            found.append(f"epsilon is at least {self.epsilon_at_least:.2f}; {self.epsilon_claimed:.2f} was claimed")
        if abs(self.noise - 1) > NOISE_WITHIN:
            found.append(f"the noise is {self.noise:.3f} times the promised one")
        return found


def judge(sightings: Sequence[Sighting]) -> Verdict:
    """Return the verdict on several runs of one mechanism: AUC and noise averaged, the largest lower bound, all of which hold with 95 %."""
    verdicts = [_judge(sighting, confidence=1 - 0.05 / len(sightings)) for sighting in sightings]
    return Verdict(
        float(np.mean([one.auc for one in verdicts])),
        float(np.mean([one.expected_auc for one in verdicts])),
        max(one.epsilon_at_least for one in verdicts),
        verdicts[0].epsilon_claimed,
        float(np.sqrt(np.mean([one.noise**2 for one in verdicts]))),
    )


def _judge(seen: Sighting, *, confidence: float) -> Verdict:
    sigma, q, steps, delta = seen.spends[0].sigma, seen.spends[0].q, sum(spent.steps for spent in seen.spends), seen.spends[0].delta
    guesses = int(GUESSES * len(seen.scores)) // 2
    order = np.argsort(seen.scores)
    right = int(seen.present[order[-guesses:]].sum() + (~seen.present[order[:guesses]]).sum())
    return Verdict(
        auc(seen.scores[seen.present], seen.scores[~seen.present]),
        expected_auc(sigma, q, steps),
        epsilon_lower_bound(len(seen.scores), 2 * guesses, right, delta, confidence=confidence),
        epsilon([(spent.sigma, spent.q, spent.steps) for spent in seen.spends], delta),
        float(seen.empty.std() / (sigma * math.sqrt(steps))),
    )


def expected_auc(sigma: float, q: float, steps: int) -> float:
    """Return the AUC of canaries of one clip's length under a correct mechanism.

    A present canary moves by a binomial number of clips, everything by noise: ``Phi(q T / sqrt(2 sigma^2 T + T q (1 - q)))``.

    Examples
    --------
    >>> round(expected_auc(1.5, 0.2, 48), 3), round(expected_auc(1e9, 0.2, 48), 3)
    (0.74, 0.5)
    """
    return float(stats.norm.cdf(q * steps / math.sqrt(2 * sigma**2 * steps + steps * q * (1 - q))))


def auc(present: np.ndarray, absent: np.ndarray) -> float:
    """Return the chance that a present canary scores higher than an absent one (Mann & Whitney 1947).

    Examples
    --------
    >>> auc(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    0.875
    """
    ranks = stats.rankdata(np.concatenate([present, absent]))[: len(present)]
    return float((ranks.sum() - len(present) * (len(present) + 1) / 2) / (len(present) * len(absent)))


def epsilon_lower_bound(canaries: int, guesses: int, right: int, delta: float, *, confidence: float = 0.95) -> float:
    """Return the epsilon that one run refutes everything below of (Steinke, Nasr & Jagielski, NeurIPS 2023, theorem 5.2).

    Under (epsilon, delta) an attacker's right guesses are at most binomial with chance ``e^eps / (1 + e^eps)``, but for an error of delta.

    Parameters
    ----------
    canaries : int
        All canaries, each present with chance one half.
    guesses, right : int
        How many the attacker guessed about, and how many guesses were right.
    delta : float
        Of the claim.
    confidence : float
        Chance at least that the bound holds.

    Examples
    --------
    >>> round(epsilon_lower_bound(1000, 200, 100, 1e-5), 2), round(epsilon_lower_bound(1000, 200, 180, 1e-5), 2)
    (0.0, 1.8)
    """
    low, high = 0.0, 40.0
    if _p_value(canaries, guesses, right, low, delta) > 1 - confidence:
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if _p_value(canaries, guesses, right, middle, delta) <= 1 - confidence else (low, middle)
    return low


def _p_value(canaries: int, guesses: int, right: int, eps: float, delta: float) -> float:
    chance = 1 / (1 + math.exp(-eps))
    beta = float(stats.binom.sf(right - 1, guesses, chance))
    back = np.arange(1, right + 1)
    between = np.cumsum(stats.binom.pmf(right - back, guesses, chance))  # chance of right-i .. right-1 right guesses
    alpha = float((between / back).max(initial=0.0))
    return min(1.0, beta + 2 * canaries * delta * alpha)
