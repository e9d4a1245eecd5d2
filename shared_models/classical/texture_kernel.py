"""Kernel ridge classifier on the texture signature of patches, federated exactly: the sum over sites is the pooled fit."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.fourier import fourier_features
from shared_models.blocks.rings import placed_signature
from shared_models.blocks.semidefinite import nearest_semidefinite
from shared_models.blocks.signature import texture_signature
from shared_models.blocks.spec import ModelSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout


class TextureKernel:
    """Ridge regression on the class indicators over random Fourier features of the texture signature.

    Round 1 sums the patients of each class, so that classes can be weighed by the inverse of their frequency in the whole federation.
    Round 2 sums the weighted Gram matrix and its right-hand side; the server solves. Further rounds change nothing. The random features
    come from an agreed seed, so every site projects alike; no patch and no support vector ever travels.
    """

    def __init__(self, classes: int, features: int, gamma: float, ridge: float, sharpness: float, seed: int, placed: bool) -> None:
        self.classes, self.features, self.gamma, self.ridge, self.sharpness, self.seed = classes, features, gamma, ridge, sharpness, seed
        self.signature = placed_signature if placed else texture_signature

    def start(self, *, seed: int) -> State:
        """Return zero coefficients; `weights` are 0 until the class counts are known."""
        del seed
        return {"weights": np.zeros(self.classes), "coefficients": np.zeros((self.features + 1, self.classes))}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return one site's sums over patches x (n, 1, y, x) in HU and class numbers y (n,), each weighed by `weights` (n,), by default 1."""
        del seed
        width = self.features + 1
        counts = np.bincount(y, weights, minlength=self.classes).astype(np.float64)
        if not state["weights"].any():
            return {"counts": counts, "gram": np.zeros((width, width)), "target": np.zeros((width, self.classes))}
        design = self._design(x)
        weighted = design * (state["weights"][y] if weights is None else state["weights"][y] * weights)[:, None]
        return {"counts": counts, "gram": weighted.T @ design, "target": weighted.T @ np.eye(self.classes)[y]}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the class weights (first round) or solve for the coefficients."""
        del weights
        counts = np.sum([c["counts"] for c in contributions], axis=0)
        if not state["weights"].any():
            present = counts > 0
            balanced = np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0.0)
            return {**state, "weights": balanced}
        gram, target = contributions[0]["gram"].copy(), contributions[0]["target"].copy()
        for contribution in contributions[1:]:
            gram += contribution["gram"]
            target += contribution["target"]
        if not gram.any():  # under differential privacy nobody pays for the same sums twice
            return state
        gram[np.diag_indices(len(gram))] += self.ridge
        return {**state, "coefficients": np.linalg.solve(gram, target)}

    def parts(self, state: State) -> tuple[str, ...]:
        """Return the class counts in round 1, the Gram matrix and its right-hand side in round 2, nothing afterwards."""
        if not state["weights"].any():
            return ("counts",)
        return () if state["coefficients"].any() else ("gram", "target")

    def lengths(self, state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return 1 for a count; for features f of class weight w, ``|(w f f^T, w f)| = w |f| sqrt(|f|^2 + 1)``, shape (n,)."""
        if not state["weights"].any():
            return np.ones(len(y))
        squares = (self._design(x) ** 2).sum(1)
        return state["weights"][y] * np.sqrt(squares * (squares + 1))

    def mend(self, sums: State) -> State:
        """Return noisy sums with a symmetric, positive semidefinite Gram matrix and counts that are not negative."""
        return {**sums, "counts": np.maximum(sums["counts"], 0.0), "gram": nearest_semidefinite(sums["gram"])}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, sums that are not finite, negative counts, and a Gram matrix that is none."""
        width = self.features + 1
        like = {"counts": np.zeros(self.classes), "gram": np.zeros((width, width)), "target": np.zeros((width, self.classes))}
        same_layout(contribution, like)
        if not is_finite(contribution) or (contribution["counts"] < 0).any() or (np.diag(contribution["gram"]) < 0).any():
            raise BadState("sums must be finite and counts positive")
        gram = contribution["gram"]
        size = max(1.0, float(np.abs(gram).max()))
        try:
            # Sums over patients are symmetric and positive semidefinite; anything else could make the server's equations impossible.
            np.linalg.cholesky(gram + 1e-8 * size * width * np.eye(width))
        except np.linalg.LinAlgError:
            raise BadState("a Gram matrix must be positive semidefinite") from None
        if np.abs(gram - gram.T).max() > 1e-9 * size:
            raise BadState("a Gram matrix must be symmetric")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, classes): the softmax of the regression's values times `sharpness`."""
        scores = self.sharpness * (self._design(x) @ state["coefficients"])
        scores = np.exp(scores - scores.max(1, keepdims=True)) if len(scores) else scores
        return scores / scores.sum(1, keepdims=True)

    def _design(self, x: np.ndarray) -> np.ndarray:
        if len(x) == 0:
            return np.zeros((0, self.features + 1))
        return fourier_features(self.signature(x[:, 0]), features=self.features, gamma=self.gamma, seed=self.seed)


def texture_kernel(
    inputs: int,
    outputs: int,
    *,
    features: Annotated[int, Field(ge=16, le=8192)] = 1024,
    gamma: Annotated[float, Field(gt=0, le=100)] = 0.2,
    ridge: Annotated[float, Field(gt=0, le=1e6)] = 0.1,
    sharpness: Annotated[float, Field(gt=0, le=100)] = 6.0,
    seed: Annotated[int, Field(ge=0)] = 0,
    placed: bool = False,
) -> TextureKernel:
    """Build the kernel classifier over patches (n, 1, y, x) in Hounsfield units.

    Parameters
    ----------
    features : int
        Random Fourier features; the error of the kernel falls with their square root, the bytes of a round grow with their square.
    gamma : float
        Width of the Gaussian kernel ``exp(-gamma |a - b|^2)`` on signatures.
    ridge : float
        Penalty on the coefficients.
    sharpness : float
        Factor from regression values to logits.
    seed : int
        Seed of the random features: the same at every site.
    placed : bool
        Also describe the middle of a patch and rings around it: for patches whose label speaks of their middle.

    Examples
    --------
    >>> model = texture_kernel(1, 2, features=64)
    >>> rng = np.random.default_rng(0)
    >>> x = np.concatenate([rng.normal(-850, 30, (20, 1, 15, 15)), rng.normal(-950, 30, (20, 1, 15, 15))])
    >>> y = np.repeat([0, 1], 20)
    >>> state = model.start(seed=0)
    >>> for _ in range(2):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [40])
    >>> bool((model.predict(state, x).argmax(1) == y).all())
    True
    """
    del inputs
    return TextureKernel(outputs, features, gamma, ridge, sharpness, seed, placed)


SPEC = ModelSpec(
    build=texture_kernel,
    takes="patch",
    fit="sums",
    units="hu",
    counts={"counts": "class"},
    source="random Fourier features: Rahimi & Recht, NeurIPS 2007; least squares: Suykens & Vandewalle, Neural Process Lett 1999",
)
