"""The lung as a graph: 36 regions on a grid of sides, levels, faces and shells of depth, and which of them are neighbours.

What is agreed between the sites, which measure the regions (`client/segmentation/atlas`), and the networks that read them.
"""

from __future__ import annotations

import itertools

import numpy as np

SIDES = ("right", "left")
LEVELS = ("lower", "middle", "upper")
FACES = ("front", "back")
SHELLS = ("outer", "middle", "inner")

CELLS = tuple(itertools.product(range(len(LEVELS)), range(len(FACES)), range(len(SHELLS))))
"""(level, face, shell) of the 18 regions of one lung, in order."""

NODES = len(SIDES) * len(CELLS)

EDGES = tuple(
    (a, b) for a, b in itertools.combinations(range(len(CELLS)), 2) if all(abs(i - j) <= 1 for i, j in zip(CELLS[a], CELLS[b], strict=True))
)
"""Pairs of regions of one lung that share a face, an edge or a corner of the grid. The grid's neighbours and not the voxels': so every patient
has the same edges, and none comes or goes with the size of a voxel."""


def cell_names() -> tuple[str, ...]:
    """Return the names of one lung's regions in order.

    Examples
    --------
    >>> len(cell_names()), cell_names()[0], cell_names()[-1]
    (18, 'lower_front_outer', 'upper_back_inner')
    """
    return tuple(f"{LEVELS[level]}_{FACES[face]}_{SHELLS[shell]}" for level, face, shell in CELLS)


def node_names() -> tuple[str, ...]:
    """Return the names of all regions in order, the right lung's first.

    Examples
    --------
    >>> node_names()[0], node_names()[35]
    ('right_lower_front_outer', 'left_upper_back_inner')
    """
    return tuple(f"{side}_{cell}" for side in SIDES for cell in cell_names())


def neighbours() -> np.ndarray:
    """Return the adjacency of the 36 regions, shape (36, 36), 0 and 1; the two lungs do not touch.

    Examples
    --------
    >>> touching = neighbours()
    >>> int(touching.sum()) // 2 == 2 * len(EDGES), bool((touching == touching.T).all())
    (True, True)
    """
    found = np.zeros((NODES, NODES))
    for first in (0, len(CELLS)):
        for a, b in EDGES:
            found[first + a, first + b] = found[first + b, first + a] = 1
    return found


def positions() -> np.ndarray:
    """Return where each region lies as indicators of its level, face and shell, shape (36, 8); the side is not told, so lungs may be swapped.

    Examples
    --------
    >>> positions()[0].tolist()
    [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    """
    one = np.array([np.concatenate([np.eye(3)[level], np.eye(2)[face], np.eye(3)[shell]]) for level, face, shell in CELLS])
    return np.concatenate([one, one])
