"""Random forest that labels windows of lung by pattern, federated by union; no leaf tells of fewer than some patients.

A patient has hundreds of windows, so a leaf of many records may be of one patient. Splits that part off too few patients are taken back before
anything leaves: what a leaf says is then said of a group of patients.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from shared_models.blocks.spec import ModelSpec
from shared_models.classical.forest import Forest
from shared_models.core.arrays import State


class TextureForest(Forest):
    """A `Forest` over windows; its state is that of a forest.

    ``contribution`` reads y (n,) class numbers, each record a patient of its own, or y (n, 2): class number and number of the patient.
    """

    def __init__(self, columns: int, classes: int, trees: int, min_leaf: int, min_patients: int, balance: float) -> None:
        super().__init__(columns, classes, trees, min_leaf, balance)
        self.min_patients = min_patients

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Grow the trees of one site on its windows, and take back every split that parts off fewer than `min_patients` patients."""
        labels, patients = (y[:, 0], y[:, 1]) if y.ndim == 2 else (y, np.arange(len(y)))
        grown = super().contribution(state, x, np.asarray(labels, np.int64), seed=seed)
        return self.pruned(grown, x, np.asarray(patients)) if len(x) else grown

    def pruned(self, state: State, x: np.ndarray, patients: np.ndarray) -> State:
        """Return a forest whose every split leaves at least `min_patients` different patients of x (n, columns) on either side.

        A node whose split is taken back says its own class shares.
        """
        owners = np.unique(patients, return_inverse=True)[1]
        bounds = np.append(state["first"], len(state["feature"]))
        parts: tuple[list[Any], ...] = ([], [], [], [], [], [])
        for tree, ends in enumerate(self.groups(state, x)):
            one = {name: state[name][bounds[tree] : bounds[tree + 1]] for name in ("feature", "threshold", "left", "right", "value")}
            held = _patients_of_nodes(one, ends - bounds[tree], owners)
            for column, array in zip(parts, _cut(one, held, self.min_patients), strict=False):
                column.append(array)
            parts[5].append(len(parts[0][-1]))
        return self._pack(*parts)


def _patients_of_nodes(tree: dict[str, np.ndarray], ends: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return the number of different patients that pass through each node, shape (nodes,)."""
    count = int(owners.max()) + 1
    passes = np.zeros((len(tree["feature"]), count), bool)
    passes[ends, owners] = True
    for node in range(len(passes) - 1, -1, -1):  # children come after their parent
        if tree["feature"][node] >= 0:
            passes[node] |= passes[tree["left"][node]] | passes[tree["right"][node]]
    return passes.sum(axis=1)


def _cut(tree: dict[str, np.ndarray], patients: np.ndarray, least: int) -> tuple[np.ndarray, ...]:
    """Return feature, threshold, left, right and value of the tree without the splits of which a side has fewer than `least` patients."""
    kept: list[int] = [0]
    children: list[tuple[int, int]] = []
    for node in kept:  # the list grows: breadth first, so children come after their parent
        sides = (int(tree["left"][node]), int(tree["right"][node]))
        stays = tree["feature"][node] >= 0 and min(patients[sides[0]], patients[sides[1]]) >= least
        children.append((len(kept), len(kept) + 1) if stays else (-1, -1))
        kept += sides if stays else ()
    left, right = np.array(children).T
    return np.where(left < 0, -1, tree["feature"][kept]), tree["threshold"][kept], left, right, tree["value"][kept]


def texture_forest(
    inputs: int,
    outputs: int,
    *,
    trees: Annotated[int, Field(ge=1, le=5000)] = 60,
    min_leaf: Annotated[int, Field(ge=1, le=1000)] = 10,
    min_patients: Annotated[int, Field(ge=1, le=1000)] = 5,
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0,
) -> TextureForest:
    """Build a random forest over `inputs` columns of a window and `outputs` patterns.

    Parameters
    ----------
    trees : int
        Trees of the united forest; also the number each site grows.
    min_leaf : int
        Windows that a leaf must hold at least.
    min_patients : int
        Patients that a leaf must hold at least. A site refuses fewer than its policy's `min_per_class`.
    balance : float
        Weigh patterns by the inverse of their frequency at the site to this power. At 0 the rare ones lose nearly every window that looks like two
        patterns, and their extents are too small; at 1 they win it, and their extents are too large.

    Examples
    --------
    >>> model = texture_forest(1, 2, trees=5, min_leaf=1, min_patients=2)
    >>> x, pattern, patient = np.arange(40.0)[:, None], np.arange(40) // 20, np.arange(40) % 4
    >>> state = model.combine({}, [model.contribution({}, x, np.stack([pattern, patient], axis=1), seed=1)], [4.0])
    >>> model.predict(state, np.array([[2.0], [38.0]])).argmax(1).tolist()
    [0, 1]
    """
    return TextureForest(inputs, outputs, trees, min_leaf, min_patients, balance)


SPEC = ModelSpec(
    build=texture_forest,
    takes="table",
    fit="trees",
    task="segmentation",
    source="local histograms and pleural distance: Ash et al., Respir Res 2017;18:45; forest: Breiman, Machine Learning 2001; union over sites",
)
