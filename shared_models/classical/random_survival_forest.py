"""Random survival forest on a table, federated by union: each site grows trees by log-rank splits, the server keeps shares of them."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.spec import ModelSpec
from shared_models.blocks.survival_tree import grow
from shared_models.classical.forest import Forest
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice, BadState
from shared_models.survival.grid import HALF_YEARS, Times, check_rising

SHARE = 0.632
"""Share of the patients that a tree sees, drawn without replacement as randomForestSRC does; a bootstrap has as many different ones."""

MOST = 100.0
"""No cumulative hazard of a leaf is larger: Nelson-Aalen of n patients is at most 1 + 1/2 + ... + 1/n."""


class SurvivalForest(Forest):
    """Trees as those of `Forest`, with cumulative hazards at `times` in place of class shares: `value` is float32 (nodes, times)."""

    def __init__(self, columns: int, times: tuple[float, ...], trees: int, min_leaf: int, tries: int | None) -> None:
        super().__init__(columns, len(times), trees, min_leaf, balanced=False)
        self.times, self.tries = np.array(times), tries

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Grow the trees of one site on its patients: x (n, columns), y (n, 3): time, event, stratum."""
        del state
        if len(x) == 0:
            return self.start(seed=seed)
        rows, outcome = np.asarray(x, np.float32), np.asarray(y, np.float64).reshape(len(x), 3)
        tries = min(self.columns, self.tries or math.ceil(math.sqrt(self.columns)))
        drawn, rng = max(1, round(SHARE * len(rows))), np.random.default_rng(seed)
        grown = []
        for _ in range(self.trees):
            mine = rng.choice(len(rows), drawn, replace=False)
            grown.append(grow(rows[mine], outcome[mine, 0], outcome[mine, 1], self.times, min_leaf=self.min_leaf, tries=tries, rng=rng))
        feature, threshold, left, right, value = (
            [np.array(getattr(tree, name)) for tree in grown] for name in ("feature", "threshold", "left", "right", "value")
        )
        return self._pack(feature, threshold, left, right, value, [len(tree.feature) for tree in grown])

    def check_values(self, value: np.ndarray) -> None:
        """Refuse cumulative hazards that fall with time or are none."""
        if not (np.isfinite(value).all() and (value >= 0).all() and (value <= MOST).all() and (np.diff(value, axis=1) >= 0).all()):
            raise BadState("a leaf's cumulative hazards must be finite, not negative and rise with time")

    def cumulative_hazards(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the mean cumulative hazard over all trees at each of `times`, shape (n, times); 0 when there are no trees."""
        return super().predict(state, x) if len(state["first"]) else np.zeros((len(x), len(self.times)))

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the logarithm of the mean over `times` of the cumulative hazard, shape (n, 1): the order of Ishwaran's ensemble mortality."""
        return np.log(np.maximum(self.cumulative_hazards(state, x).mean(1), 1e-12))[:, None]

    def risks(self, state: State, x: np.ndarray, horizons: tuple[float, ...]) -> np.ndarray:
        """Return P(event by each horizon), shape (n, horizons), by the last of `times` that is not after it.

        Raises
        ------
        BadChoice
            A horizon outside `times`.
        """
        place = np.searchsorted(self.times, np.array(horizons) + 1e-12, side="right") - 1
        if (place < 0).any() or max(horizons) > self.times[-1] + 1e-9:
            raise BadChoice("a horizon lies within model.times", value=list(horizons), remedy=f"they are {self.times[0]:g} to {self.times[-1]:g}")
        return 1 - np.exp(-self.cumulative_hazards(state, x)[:, place])


def random_survival_forest(
    inputs: int,
    outputs: int,
    *,
    times: Times = HALF_YEARS,
    trees: Annotated[int, Field(ge=1, le=5000)] = 100,
    min_leaf: Annotated[int, Field(ge=1, le=1000)] = 10,
    tries: Annotated[int, Field(ge=1, le=10_000)] | None = None,
) -> SurvivalForest:
    """Build a random survival forest over a table of `inputs` columns; the target is survival (``data.target = "survival"``).

    Parameters
    ----------
    times : tuple of float
        Where cumulative hazards are read, rising, in the unit of ``data.time``: public, the same at every site.
    trees : int
        Trees of the united forest; also the number each site grows.
    min_leaf : int
        Patients that a leaf must hold at least. A site refuses fewer than its policy's `min_per_class`: a leaf tells how its patients fared.
    tries : int, optional
        Columns that are tried at a node; by default the square root of their number.

    Raises
    ------
    BadChoice
        Times that do not rise.

    Examples
    --------
    >>> model = random_survival_forest(1, 2, times=(1.0, 2.0, 4.0), trees=5, min_leaf=3)
    >>> x, y = np.repeat([[0.0], [1.0]], 10, axis=0), np.column_stack([np.repeat([4.0, 1.0], 10), np.ones(20), np.zeros(20)])
    >>> state = model.combine({}, [model.contribution({}, x, y, seed=1)], [20])
    >>> model.risks(state, np.array([[0.0], [1.0]]), (2.0, 4.0)).round(3).tolist()
    [[0.0, 0.632], [0.632, 0.632]]
    """
    del outputs
    check_rising(times, "model.times")
    return SurvivalForest(inputs, tuple(times), trees, min_leaf, tries)


SPEC = ModelSpec(
    build=random_survival_forest,
    takes="table",
    fit="trees",
    task="survival",
    source="Ishwaran et al., Random survival forests, Ann Appl Stat 2008;2:841; union over sites: design of the federation modes (F-tree)",
)
