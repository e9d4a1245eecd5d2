"""Lung graphs: measures as their definitions say, the same numbers for the same lung however it is stored, and disease told by where it lies."""

from __future__ import annotations

import dataclasses
import itertools

import networkx as nx
import numpy as np
import pytest

from client.cases.prepared import Prepared
from client.features import graph_measures
from client.features.densitometry import densitometry
from client.features.lung_graph import CENTRALITIES, MEASURES, gradients, lung_graph, lung_graph_names, node_measures
from client.preprocessing.resample import resample
from client.segmentation.atlas import atlas, depth_mm, region_names
from shared_models.blocks.lung_grid import CELLS, EDGES, cell_names, neighbours, node_names, positions
from shared_models.classical.ridge import ridge
from shared_models.core.errors import BadInput
from shared_models.metrics.ranking import auroc
from tests.client.features.chests import chest, texture
from tests.shared_models.classical.tables import federated


def graph(seed: int, nodes: int = 9) -> np.ndarray:
    """A connected graph of random weights, some edges missing."""
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.uniform(0.1, 1, (nodes, nodes)) * (rng.random((nodes, nodes)) < 0.5), 1)
    weights[range(nodes - 1), range(1, nodes)] = rng.uniform(0.1, 1, nodes - 1)
    return weights + weights.T


@pytest.mark.parametrize("seed", range(4))
def test_measures_are_those_of_networkx(seed: int) -> None:
    weights = graph(seed)
    graph_measures.check_graph(weights)
    n, theirs = len(weights), nx.from_numpy_array(weights)
    for *_, edge in theirs.edges(data=True):
        edge["length"] = 1 / edge["weight"]

    def listed(found: dict[int, float]) -> list[float]:
        return [found[node] for node in range(n)]

    np.testing.assert_allclose(graph_measures.strength(weights), [theirs.degree(weight="weight")[node] for node in range(n)])
    np.testing.assert_allclose(graph_measures.clustering(weights) / weights.max(), listed(nx.clustering(theirs, weight="weight")), atol=1e-12)
    np.testing.assert_allclose(graph_measures.closeness(weights), listed(nx.closeness_centrality(theirs, distance="length")))
    found = nx.current_flow_betweenness_centrality(theirs, weight="weight", solver="full")
    np.testing.assert_allclose(graph_measures.betweenness(weights), listed(found), atol=1e-9)
    np.testing.assert_allclose(graph_measures.spectrum(weights, n - 1), nx.laplacian_spectrum(theirs)[1:], atol=1e-9)


def test_what_is_no_connected_graph() -> None:
    one = graph(1)
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[1, 0] = apart[2, 3] = apart[3, 2] = 1.0
    for weights in (np.triu(one), -one, one + np.eye(len(one)), apart, one[:3]):
        with pytest.raises(BadInput):
            graph_measures.check_graph(weights)


def test_the_grid_is_the_atlas_and_its_neighbours_touch() -> None:
    assert node_names() == region_names()
    assert len(EDGES) == 89
    prepared = chest(1)
    assert prepared.mask is not None
    regions = atlas(prepared.mask, prepared.volume.spacing_mm).astype(int)
    touching = set()
    for step in itertools.product((-1, 0, 1), repeat=3):
        moved = np.roll(regions, step, (0, 1, 2))
        pairs = (regions > 0) & (moved > 0) & (regions != moved)
        touching |= set(zip((regions[pairs] - 1).tolist(), (moved[pairs] - 1).tolist(), strict=True))
    ours = set(zip(*map(np.ndarray.tolist, np.nonzero(neighbours())), strict=True))
    same_lung = {(a, b) for a, b in touching if a // 18 == b // 18}
    assert len(ours & same_lung) >= 0.9 * len(ours)
    assert len(ours & same_lung) >= 0.9 * len(same_lung)
    assert (positions()[:18] == positions()[18:]).all()
    assert len(np.unique(positions()[:18], axis=0)) == len(CELLS)


def test_nodes_are_densitometry_and_the_slow_gradient() -> None:
    prepared = chest(2)
    assert prepared.mask is not None
    hu, spacing_mm = prepared.volume.hu, prepared.volume.spacing_mm
    regions = atlas(prepared.mask, spacing_mm)
    found = node_measures(hu, regions, spacing_mm, prepared.volume.voxel_ml)
    for number in (1, 20, 36):
        alone = densitometry(dataclasses.replace(prepared, mask=(regions == number).astype(np.uint8)))
        for place, measure in enumerate(MEASURES[:-1]):
            assert found[number - 1, place] == pytest.approx(alone[f"whole_{measure}"], rel=1e-6, abs=1e-6)
    small, mask = hu[8:14, 20:40, 12:30].astype(float), regions[8:14, 20:40, 12:30]
    steep: dict[tuple[int, int], list[float]] = {}
    for place in np.argwhere(mask > 0):
        for axis, direction in itertools.product(range(3), (-1, 1)):
            beside = place.copy()
            beside[axis] += direction
            if (beside >= 0).all() and (beside < mask.shape).all() and mask[tuple(beside)] > 0:
                step = abs(small[tuple(place)] - small[tuple(beside)]) / spacing_mm[axis]
                steep.setdefault((int(mask[tuple(place)]) - 1, axis), []).append(step)
    for number, value in enumerate(gradients(small.astype(np.float32), mask, spacing_mm)):
        means = [np.mean(steep.get((number, axis), [0.0])) for axis in range(3)]
        assert value == pytest.approx(float(np.linalg.norm(means)), rel=1e-6)


def test_a_mirrored_lung_is_the_same_graph_with_its_sides_changed() -> None:
    prepared = chest(3)
    assert prepared.mask is not None
    other = np.array([0, 2, 1], np.uint8)[prepared.mask][:, :, ::-1]
    mirrored = Prepared(dataclasses.replace(prepared.volume, hu=np.ascontiguousarray(prepared.volume.hu[:, :, ::-1])), np.ascontiguousarray(other))
    found, seen = lung_graph(prepared), lung_graph(mirrored)
    swap = {"right": "left", "left": "right"}
    for name, value in found.items():
        words = name.split("_")
        twin = "_".join([words[0], swap.get(words[1], words[1]), *words[2:]])
        assert seen[twin] == pytest.approx(value, rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_patient_is_known_again_on_other_voxels(factor: float) -> None:
    """The graph on 5 % larger or smaller voxels is nearer to the patient's own than to anybody else's, on a grid as coarse as this."""
    patients = [textured(seed) for seed in range(6)]
    own = np.array([list(lung_graph(patient).values()) for patient in patients])
    other = np.array([list(lung_graph(resampled(patient, factor)).values()) for patient in patients])
    scale = np.maximum(own.std(0), 1e-9)
    apart = np.minimum(np.abs(own[:, None] - other[None]) / scale, 5.0).mean(2)
    assert apart.argmin(0).tolist() == list(range(6))
    mine, others = apart.diagonal(), np.sort(apart, axis=0)[1]
    assert (mine < 0.8 * others).all()


def textured(seed: int) -> Prepared:
    """A chest of smooth texture with more or less ground glass, in front or at the back, under the pleura or away from it."""
    prepared = chest(seed)
    assert prepared.mask is not None
    shape, places = prepared.mask.shape, np.random.default_rng(seed).normal(size=2)
    back = np.linspace(-1, 1, shape[1])[:, None]
    depth = depth_mm(prepared.mask, prepared.volume.spacing_mm) / 15 - 1
    patches = texture(shape, 500 + seed, passes=12) + places[0] * back + places[1] * depth > 1.6 - 0.3 * seed
    hu = np.where(prepared.mask > 0, -840 + 40 * texture(shape, seed, passes=4) + 220 * patches, prepared.volume.hu)
    return Prepared(dataclasses.replace(prepared.volume, hu=hu.astype(np.float32)), prepared.mask)


def resampled(prepared: Prepared, factor: float) -> Prepared:
    z, y, x = (factor * step for step in prepared.volume.spacing_mm)
    return resample(prepared, z_mm=z, y_mm=y, x_mm=x)


def chest_with(seed: int, *, deep: bool, share: float = 0.2) -> Prepared:
    """Ground glass in a fifth of the lung, under the pleura or away from it: the very same intensities in both."""
    prepared = chest(100 + seed, whole_numbers=True)
    assert prepared.mask is not None
    lung = prepared.mask > 0
    depth = depth_mm(prepared.mask, prepared.volume.spacing_mm)[lung] + 3 * texture(lung.shape, 900 + seed, passes=2)[lung]
    order = np.argsort(-depth if deep else depth, kind="stable")
    values = np.rint(-830 + 45 * np.random.default_rng(seed).normal(size=len(order)))
    values[: int(share * len(order))] += 200
    hu = prepared.volume.hu.copy()
    inside = np.empty(len(order), np.float32)
    inside[order] = values
    hu[lung] = inside
    return Prepared(dataclasses.replace(prepared.volume, hu=hu), prepared.mask)


def test_where_the_disease_lies_is_told_by_the_graph_and_by_no_histogram() -> None:
    chests = [chest_with(seed, deep=bool(seed % 2)) for seed in range(32)]
    y = np.arange(32) % 2
    graphs, whole = (np.array([list(family(one).values()) for one in chests]) for family in (lung_graph, densitometry))
    likeness = [number for number, name in enumerate(lung_graph_names()) if name.endswith((*CENTRALITIES, "_euclid")) or "eigenvalue" in name]
    histogram = whole[:, :16]  # of both lungs together, without volume and mass
    figures = []
    for table in (graphs[:, likeness], histogram):
        train, test = (slice(0, 18), slice(18, 32))
        model = ridge(table.shape[1], 2, ridge=30.0)
        state = federated(model, [(table[train], y[train])], 2)
        figures.append(auroc(y[test], model.predict(state, table[test])[:, 1]))
    assert figures[0] >= 0.9
    assert abs(figures[1] - 0.5) <= 0.25


def test_a_lung_that_is_missing_has_no_graph() -> None:
    prepared = chest(4)
    assert prepared.mask is not None
    one = dataclasses.replace(prepared, mask=np.where(prepared.mask == 1, prepared.mask, 0).astype(np.uint8))
    assert np.isnan(list(lung_graph(one).values())).all()
    assert len(cell_names()) == 18
