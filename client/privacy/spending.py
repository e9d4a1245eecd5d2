"""What one training run spends of its patients' privacy, said before its first step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spend:
    """Steps of a Poisson-subsampled Gaussian mechanism that are about to be taken.

    Parameters
    ----------
    sigma : float
        Noise multiplier: standard deviation of the noise over `clip`.
    q : float
        Share of the units drawn in each step.
    steps : int
        Steps.
    patients : int
        Units that may be drawn.
    unit : str
        What counts as one: ``patient`` or ``record``.
    clip : float
        Largest norm of one unit's part.
    delta : float
        Delta of the experiment.
    nonce : str
        Hexadecimal name of this attempt, kept in the step checkpoint: the same nonce was charged already.
    """

    sigma: float
    q: float
    steps: int
    patients: int
    unit: str
    clip: float
    delta: float
    nonce: str
