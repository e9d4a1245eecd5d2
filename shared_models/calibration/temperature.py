"""Temperature scaling: one number that makes all sites' probabilities as sure as they are right."""

from __future__ import annotations

import numpy as np

from shared_models.calibration.spec import CalibrationSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout

SHARPEST = 20.0
"""Bounds of the inverse temperature: 1/20 to 20. Held-out patients that are all told rightly would drive it to infinity."""
ROUNDS = 6


class Temperature:
    """Newton's method for ``beta = 1 / T`` on the held-out log-likelihood, which is concave in it; a round sums two numbers a site.

    With ``z`` the logits of a patient of class y and ``p = softmax(beta z)``: gradient ``z_y - E_p z``, curvature ``Var_p z``. The fit equals
    that of all held-out patients in one place. Two sums a round tell less of patients than a histogram of their scores would.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def start(self, width: int) -> State:
        """Return temperature 1."""
        del width
        return {"beta": np.ones(1)}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return the number of patients, and gradient and curvature of their log-likelihood."""
        del seed
        logits = np.asarray(x, np.float64).reshape(-1, self.classes)
        p = np.exp(self.seen(state, logits))
        mean = (p * logits).sum(1)
        return {
            "n": np.array([float(len(logits))]),
            "gradient": np.array([(logits[np.arange(len(logits)), y] - mean).sum()]),
            "curvature": np.array([np.maximum((p * logits**2).sum(1) - mean**2, 0).sum()]),
        }

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Take one Newton step, at most to half or to twice the present value."""
        del weights
        beta = float(state["beta"][0])
        gradient, curvature = (float(np.sum([part[key] for part in contributions])) for key in ("gradient", "curvature"))
        step = gradient / curvature if curvature > 1e-12 else 0.0
        return {"beta": np.clip([np.clip(beta + step, beta / 2, 2 * beta)], 1 / SHARPEST, SHARPEST)}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, and a curvature or count below 0."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.classes)), np.zeros(0, int), seed=0))
        if not is_finite(contribution) or contribution["n"][0] < 0 or contribution["curvature"][0] < 0:
            raise BadState("sums must be finite, counts and curvatures not negative")

    def seen(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the logarithms of ``softmax(x / T)``."""
        scaled = float(state["beta"][0]) * np.asarray(x, np.float64)
        scaled = scaled - scaled.max(1, keepdims=True)
        return scaled - np.log(np.exp(scaled).sum(1, keepdims=True))


def temperature(classes: int) -> Temperature:
    """Divide the logits by a temperature that is fitted on the held-out patients of all sites; six rounds of two numbers.

    The order of the classes of a patient never changes, only how sure the model says it is.

    Parameters
    ----------
    classes : int
        Of the experiment.

    Examples
    --------
    >>> fit, rng = temperature(2), np.random.default_rng(0)
    >>> logits = rng.normal(size=(4000, 2))
    >>> y = (rng.random(4000) < 1 / (1 + np.exp(-(logits[:, 1] - logits[:, 0]) / 3))).astype(int)
    >>> state = fit.start(2)
    >>> for _ in range(ROUNDS):
    ...     state = fit.combine(state, [fit.contribution(state, logits, y, seed=0)], [])
    >>> bool(abs(1 / state["beta"][0] - 3) < 0.3)
    True
    """
    return Temperature(classes)


SPEC = CalibrationSpec(
    temperature,
    reads="logits",
    held_out=(True,) * ROUNDS,
    source="Guo, Pleiss, Sun & Weinberger, On calibration of modern neural networks, ICML 2017; sums over sites in place of one held-out set",
)
