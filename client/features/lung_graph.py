"""The lung as a graph: 36 regions, how alike neighbours are, and what each region is to the others (after Dicente Cid et al., MICCAI 2018).

Two lungs of the same histogram differ in where their disease lies: that is what edges tell. Every lung is a graph of its own, for the two do not
touch; its nodes are the 18 regions of the atlas on its side, its edges the neighbours of the atlas's grid.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from client.cases.prepared import Prepared
from client.features import graph_measures
from client.features.densitometry import densitometry_of_cells
from client.features.roi import hu_of, side_mask
from client.segmentation.atlas import REGIONS, atlas
from client.segmentation.components import bounding_box
from shared_models.blocks.lung_grid import CELLS, EDGES, SIDES, cell_names, node_names

DENSITY = (
    "haa_percent",
    "laa950_percent",
    "mld_hu",
    "sd_hu",
    "perc5_hu",
    "perc15_hu",
    "perc50_hu",
    "perc85_hu",
    "perc95_hu",
    "poorly_aerated_percent",
    "nonaerated_percent",
)
MEASURES = (*DENSITY, "gradient_hu_per_mm")
"""What a node is: those measures of `densitometry` that do not grow with the lung, and how steeply intensities change."""

LEAST_SPREAD = np.array([5.0 if measure.endswith("_hu") else 1.0 for measure in MEASURES])
"""A measure that differs less over a patient's nodes (5 HU, 1 percentage point, 1 HU per millimetre) is not stretched to one standard deviation:
what is the same everywhere would else be all noise."""

LIKENESS = ("correlation", "euclid", "cosine")
"""Of two nodes: Pearson's coefficient, root mean square difference, cosine; all of measures in standard deviations over the patient's own nodes."""

CENTRALITIES = {
    "strength": graph_measures.strength,
    "clustering": graph_measures.clustering,
    "closeness": graph_measures.closeness,
    "betweenness": graph_measures.betweenness,
}
"""The degree is not among them: the grid gives every patient the same."""

EIGENVALUES = 5
"""Of each lung's Laplacian: ten in all."""


def lung_graph_names() -> tuple[str, ...]:
    """Return the columns of `lung_graph` in order: nodes, edges, centralities, spectra, differences of the sides, means.

    Examples
    --------
    >>> len(lung_graph_names()), lung_graph_names()[0], lung_graph_names()[-1]
    (1348, 'graph_right_lower_front_outer_haa_percent', 'graph_mean_gradient_hu_per_mm')
    """
    return (
        *(f"graph_{node}_{measure}" for node in node_names() for measure in MEASURES),
        *(f"graph_{side}_edge_{number}_{likeness}" for side in SIDES for number in range(1, len(EDGES) + 1) for likeness in LIKENESS),
        *(f"graph_{node}_{centrality}" for node in node_names() for centrality in CENTRALITIES),
        *(f"graph_{side}_eigenvalue_{number}" for side in SIDES for number in range(1, EIGENVALUES + 1)),
        *(f"graph_asymmetry_{cell}_{measure}" for cell in cell_names() for measure in MEASURES),
        *(f"graph_mean_{measure}" for measure in MEASURES),
    )


def lung_graph(prepared: Prepared) -> dict[str, float]:
    """Return the graph of a lung as columns.

    An edge weighs ``1 / (1 + euclid)``: 1 between equal regions. From these weights come the sum at each node, its clustering coefficient, its
    closeness, the current through it, and the smallest eigenvalues of each lung's Laplacian.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).

    Returns
    -------
    dict
        Keys of `lung_graph_names`; NaN for all of them where a lung is missing or too small for its regions.

    Raises
    ------
    BadInput
        No lung mask, or intensities that are no HU.
    """
    hu, lung = hu_of(prepared), side_mask(prepared)
    if prepared.mask is None or not lung.any():
        return dict.fromkeys(lung_graph_names(), math.nan)
    box = bounding_box(lung)
    regions = atlas(prepared.mask[box], prepared.volume.spacing_mm)
    if len(np.unique(regions)) < REGIONS + 1 - bool((regions > 0).all()):
        return dict.fromkeys(lung_graph_names(), math.nan)
    nodes = node_measures(hu[box], regions, prepared.volume.spacing_mm, prepared.volume.voxel_ml)
    return dict(zip(lung_graph_names(), map(float, describe_nodes(nodes)), strict=True))


def node_measures(
    hu: NDArray[np.float32], regions: NDArray[np.uint8], spacing_mm: tuple[float, float, float], voxel_ml: float
) -> NDArray[np.float64]:
    """Return `MEASURES` of each region, shape (36, len(MEASURES))."""
    inside = regions > 0
    cells = regions[inside].astype(np.intp) - 1
    found = densitometry_of_cells(hu[inside], cells, {str(number): (number,) for number in range(REGIONS)}, voxel_ml)
    density = np.array([[found[str(number)][measure] for measure in DENSITY] for number in range(REGIONS)])
    return np.column_stack([density, gradients(hu, regions, spacing_mm)])


def gradients(hu: NDArray[np.float32], regions: NDArray[np.uint8], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the mean steepness of each region, HU per millimetre, shape (36,).

    The mean absolute difference of touching voxels along each axis, both in the lung and each counted for its own region, over their distance; the
    root of the sum of squares of the three axes.
    """
    squares = np.zeros(REGIONS)
    for axis, step_mm in enumerate(spacing_mm):
        lower, upper = (np.take(regions, range(cut, regions.shape[axis] - 1 + cut), axis) for cut in (0, 1))
        both = (lower > 0) & (upper > 0)
        steep = np.abs(np.diff(hu.astype(np.float64), axis=axis))[both] / step_mm
        ends = [part[both].astype(np.intp) - 1 for part in (lower, upper)]
        total = sum(np.bincount(end, steep, REGIONS) for end in ends)
        count = sum(np.bincount(end, minlength=REGIONS) for end in ends)
        squares += (total / np.maximum(count, 1)) ** 2
    return np.sqrt(squares)


def describe_nodes(nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return all columns of a graph from the measures of its nodes (36, measures), in the order of `lung_graph_names`."""
    scaled = (nodes - nodes.mean(0)) / np.maximum(nodes.std(0), LEAST_SPREAD)
    sides = scaled.reshape(len(SIDES), len(CELLS), -1)
    alike = [likeness(side) for side in sides]
    weights = [weights_of(side[:, 1]) for side in alike]
    centralities = np.concatenate([np.column_stack([measure(graph) for measure in CENTRALITIES.values()]) for graph in weights])
    spectra = np.concatenate([graph_measures.spectrum(graph, EIGENVALUES) for graph in weights])
    right, left = nodes.reshape(len(SIDES), len(CELLS), -1)
    edges = np.concatenate([side.ravel() for side in alike])
    return np.concatenate([nodes.ravel(), edges, centralities.ravel(), spectra, np.abs(right - left).ravel(), nodes.mean(0)])


def likeness(side: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how alike the two ends of each edge of one lung are by `LIKENESS`, shape (edges, 3); 0 for vectors without a direction.

    Examples
    --------
    >>> nodes = np.ones((18, 4)) * np.arange(4.0)
    >>> likeness(nodes)[0].round(9).tolist()
    [1.0, 0.0, 1.0]
    """
    a, b = (side[[edge[end] for edge in EDGES]] for end in (0, 1))
    about_mean = [part - part.mean(1, keepdims=True) for part in (a, b)]
    return np.column_stack([_cosine(*about_mean), np.sqrt(((a - b) ** 2).mean(1)), _cosine(a, b)])


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.where(size > 1e-12, (a * b).sum(1) / np.maximum(size, 1e-12), 0.0)


def weights_of(euclid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one lung's matrix of weights from the distance along each edge (edges,)."""
    found = np.zeros((len(CELLS), len(CELLS)))
    for (a, b), distance in zip(EDGES, euclid, strict=True):
        found[a, b] = found[b, a] = 1.0 / (1.0 + distance)
    return found
