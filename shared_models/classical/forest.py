"""Random forest on a table, federated by union: each site grows trees, the server keeps a share of them in proportion to its patients."""

from __future__ import annotations

import itertools
from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.spec import ModelSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState

CHUNK = 16384
"""Records that walk down a tree together: as many as stay in the processor's cache."""


class Forest:
    """Trees as plain arrays, so that they travel without pickle and are read without scikit-learn.

    State
    -----
    feature : int32 (nodes,)
        Column to compare, -1 at a leaf.
    threshold : float64 (nodes,)
        Go left when the value is at most this.
    left, right : int32 (nodes,)
        Children, counted from the first node of the tree.
    value : float32 (nodes, classes)
        Share of each class among the training patients that reached the node.
    first : int32 (trees,)
        First node of each tree.
    """

    def __init__(self, columns: int, classes: int, trees: int, min_leaf: int, balanced: float) -> None:
        self.columns, self.classes, self.trees, self.min_leaf, self.balanced = columns, classes, trees, min_leaf, balanced

    def start(self, *, seed: int) -> State:
        """Return a forest without trees."""
        del seed
        return self._pack([], [], [], [], [], [])

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Grow the trees of one site on its patients: x (n, columns), y (n,) class numbers."""
        del state
        if len(x) == 0:
            return self.start(seed=seed)
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            self.trees,
            min_samples_leaf=self.min_leaf,
            max_features="sqrt",
            class_weight=class_shares(y, self.balanced),
            random_state=seed % (1 << 31),
            n_jobs=1,
        ).fit(x, y)
        known = forest.classes_.astype(int)
        features, thresholds, lefts, rights, values, sizes = [], [], [], [], [], []
        for estimator in forest.estimators_:
            tree = estimator.tree_
            value = np.zeros((tree.node_count, self.classes), np.float32)
            counts = tree.value[:, 0, :]
            value[:, known] = counts / np.maximum(counts.sum(1, keepdims=True), 1e-12)
            features.append(np.where(tree.children_left < 0, -1, tree.feature))
            thresholds.append(tree.threshold)
            lefts.append(tree.children_left)
            rights.append(tree.children_right)
            values.append(value)
            sizes.append(tree.node_count)
        return self._pack(features, thresholds, lefts, rights, values, sizes)

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Unite the sites' trees: about `trees` in all, each site's share in proportion to its patients (at least one tree a site)."""
        del state
        total = sum(weights)
        kept: tuple[list, ...] = ([], [], [], [], [], [])
        for contribution, weight in zip(contributions, weights, strict=True):
            grown = len(contribution["first"])
            take = min(grown, max(1, round(self.trees * weight / total))) if total > 0 else grown
            bounds = np.append(contribution["first"], len(contribution["feature"]))
            for tree in range(take):
                part = slice(bounds[tree], bounds[tree + 1])
                for column, name in zip(kept, ("feature", "threshold", "left", "right", "value"), strict=False):
                    column.append(contribution[name][part])
                kept[5].append(bounds[tree + 1] - bounds[tree])
        return self._pack(*kept)

    def check(self, contribution: State, state: State) -> None:
        """Refuse trees that point outside themselves, loop, or name a column that does not exist."""
        del state
        empty = self.start(seed=0)
        if contribution.keys() != empty.keys():
            raise BadState("a forest has the keys of a forest", value=sorted(contribution))
        for key, like in empty.items():
            array = contribution[key]
            if array.dtype != like.dtype or array.ndim != like.ndim or array.shape[1:] != like.shape[1:]:
                raise BadState(f"{key!r} must be {like.dtype} with {like.ndim} axes", value=f"{array.dtype}{list(array.shape)}")
        nodes, trees = len(contribution["feature"]), len(contribution["first"])
        if any(len(contribution[k]) != nodes for k in ("threshold", "left", "right", "value")) or trees > self.trees:
            raise BadState("a forest's node arrays must have one length and at most the agreed number of trees", value=(nodes, trees))
        if trees == 0 and nodes:
            raise BadState("nodes must belong to a tree", value=nodes)
        if trees == 0:
            return
        first = contribution["first"].astype(int)
        bounds = np.append(first, nodes)
        if first[0] != 0 or (np.diff(bounds) < 1).any():
            raise BadState("each tree must have nodes of its own")
        size = np.repeat(np.diff(bounds), np.diff(bounds))
        here = np.arange(nodes) - np.repeat(first, np.diff(bounds))
        inner = contribution["feature"] >= 0
        left, right = contribution["left"], contribution["right"]
        # A child always comes after its parent, so no walk through a tree can loop.
        if (inner & ((left <= here) | (right <= here) | (left >= size) | (right >= size))).any():
            raise BadState("a tree's children must come after their parent and lie inside the tree")
        if (contribution["feature"] >= self.columns).any() or (contribution["feature"] < -1).any():
            raise BadState("a tree may compare only agreed columns", value=int(contribution["feature"].max()))
        if not np.isfinite(contribution["threshold"]).all():
            raise BadState("a tree's thresholds must be finite")
        self.check_values(contribution["value"])

    def check_values(self, value: np.ndarray) -> None:
        """Refuse leaves that no patients can have made."""
        if not (np.isfinite(value).all() and (value >= 0).all() and (value <= 1.0001).all()):
            raise BadState("a tree's class shares must lie in 0..1")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the mean class shares over all trees, shape (n, classes); uniform when there are no trees."""
        votes = np.zeros((len(x), self.classes))
        for leaves in self.groups(state, x):
            votes += state["value"][leaves]
        return votes / len(state["first"]) if len(state["first"]) else np.full_like(votes, 1 / self.classes)

    def groups(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the node at which each record ends in each tree, shape (trees, n)."""
        x = np.ascontiguousarray(x, np.float32)  # scikit-learn compares in float32
        if state["feature"].max(initial=-1) >= x.shape[1]:  # values are read flat: such a column would be another record's
            raise BadState("a tree may compare only columns that there are", value=int(state["feature"].max()))
        found = np.zeros((len(state["first"]), len(x)), int)
        bounds = np.append(state["first"], len(state["feature"]))
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            feature, threshold = state["feature"][start:end], state["threshold"][start:end]
            inner, own = feature >= 0, np.arange(end - start)
            column = np.where(inner, feature, 0).astype(np.intp)
            sides = np.stack([state["left"][start:end], state["right"][start:end]], axis=1)
            child = np.where(inner[:, None], sides, own[:, None]).astype(np.intp).ravel()  # a leaf is its own child
            for first in range(0, len(x), CHUNK):
                part = x[first : first + CHUNK]
                values, row = part.ravel(), np.arange(len(part)) * x.shape[1]
                node = np.zeros(len(part), np.intp)
                while inner[node].any():
                    node = child[2 * node + ~(values[row + column[node]] <= threshold[node])]
                found[number, first : first + CHUNK] = start + node
        return found

    def _pack(self, features: list, thresholds: list, lefts: list, rights: list, values: list, sizes: list) -> State:
        def joined(parts: list, dtype: type, shape: tuple[int, ...] = (0,)) -> np.ndarray:
            return np.concatenate(parts).astype(dtype) if parts else np.zeros(shape, dtype)

        return {
            "feature": joined(features, np.int32),
            "threshold": joined(thresholds, np.float64),
            "left": joined(lefts, np.int32),
            "right": joined(rights, np.int32),
            "value": joined(values, np.float32, (0, self.classes)),
            "first": (np.cumsum([0, *sizes])[:-1] if sizes else np.zeros(0)).astype(np.int32),
        }


def class_shares(y: np.ndarray, power: float) -> dict[int, float] | None:
    """Return what a record of each class weighs: ``(n / (classes n_k)) ** power``, or None where all weigh the same.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
        Class numbers.
    power : float
        0 counts every record once, 1 gives every class the same weight in all.

    Examples
    --------
    >>> class_shares(np.array([0, 0, 0, 2]), 1.0)
    {0: 0.6666666666666666, 2: 2.0}
    >>> class_shares(np.array([0, 0, 0, 2]), 0.0) is None
    True
    """
    if not power:
        return None
    known, counts = np.unique(y, return_counts=True)
    return {int(label): float((len(y) / (len(known) * count)) ** power) for label, count in zip(known, counts, strict=True)}


def forest(
    inputs: int,
    outputs: int,
    *,
    trees: Annotated[int, Field(ge=1, le=5000)] = 200,
    min_leaf: Annotated[int, Field(ge=1, le=1000)] = 5,
    balanced: bool = True,
) -> Forest:
    """Build a random forest over a table of `inputs` columns and `outputs` classes.

    Parameters
    ----------
    trees : int
        Trees of the united forest; also the number each site grows.
    min_leaf : int
        Records that a leaf must hold at least. A site refuses fewer than its policy's `min_per_class`: a leaf tells the classes of its patients.
    balanced : bool
        Weigh classes by the inverse of their frequency at the site.

    Examples
    --------
    >>> import numpy as np
    >>> model = forest(1, 2, trees=5, min_leaf=1)
    >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]] * 5), np.array([0, 0, 1, 1] * 5)
    >>> state = model.combine({}, [model.contribution({}, x, y, seed=1)], [20])
    >>> model.predict(state, np.array([[0.0], [3.0]])).argmax(1).tolist()
    [0, 1]
    """
    return Forest(inputs, outputs, trees, min_leaf, balanced)


SPEC = ModelSpec(
    build=forest,
    takes="table",
    fit="trees",
    source="Breiman, Random forests, Machine Learning 2001; union over sites: design of the federation modes (F-tree)",
)
