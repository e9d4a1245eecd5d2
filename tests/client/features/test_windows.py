"""Windows of lung: the fast sums against the slow obvious way on every window, and that air around changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kurtosis, skew

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.features.pleura import depth_mm
from client.features.windows import EDGES_HU, LEVELS_HU, Layout, window_names, windows_of
from shared_models.core.errors import BadInput
from tests.client.features.chests import padded

SPACING_MM = (5.0, 1.5, 1.4)


def study(seed: int = 0) -> Prepared:
    """A lung of odd shape with a hole; blocks of 1 x 2 x 2 or 3 voxels, some of them half empty."""
    rng = np.random.default_rng(seed)
    hu = rng.normal(-700, 180, (5, 11, 13)).astype(np.float32)
    hu[2, :4] = -800
    mask = np.ones(hu.shape, np.uint8)
    mask[:, :, 7:] = 2
    mask[rng.random(hu.shape) < 0.2] = 0
    return Prepared(Volume(hu, SPACING_MM), mask)


def numbers(count: int, step_mm: float) -> np.ndarray:
    """The block of each voxel along an axis, voxel by voxel: 3 mm each, or one voxel where that is wider."""
    return np.array([i if step_mm > 3 else int((i + 0.5) * step_mm / 3) for i in range(count)])


def slow(prepared: Prepared, block: tuple[int, ...], reach: int = 1) -> dict[str, float]:
    """Histogram and texture of the window about a block, voxel by voxel."""
    assert prepared.mask is not None
    z, y, x = np.meshgrid(*(numbers(n, step) for n, step in zip(prepared.mask.shape, SPACING_MM, strict=True)), indexing="ij")
    near = (abs(z - block[0]) <= reach) & (abs(y - block[1]) <= reach) & (abs(x - block[2]) <= reach) & (prepared.mask > 0)
    hu, held = prepared.volume.hu, prepared.mask > 0
    values = hu[near].astype(float)
    gaps, met = [], np.zeros((6, 6))
    for here in np.argwhere(near):
        for axis in (1, 2):
            there = here.copy()
            there[axis] += 1
            if there[axis] < hu.shape[axis] and held[tuple(there)]:
                gaps.append(float(hu[tuple(here)] - hu[tuple(there)]))
                levels = sorted(int(np.digitize(hu[tuple(one)], LEVELS_HU)) for one in (here, there))
                met[levels[0], levels[1]] += 1
    share = met[met > 0] / met.sum()
    out = {"mean_hu": values.mean(), "sd_hu": values.std(), "skewness": float(skew(values)), "kurtosis": float(kurtosis(values))}
    out |= {"contrast_hu": float(np.sqrt(np.mean(np.square(gaps)))), "entropy": float(-(share * np.log2(share)).sum())}
    return out | {f"cumulative_{k}": 100 * float((values < edge).mean()) for k, edge in enumerate(EDGES_HU[1:-1])}


def test_every_window_is_what_its_voxels_say() -> None:
    prepared = study()
    assert prepared.mask is not None
    found, names = windows_of(prepared), window_names()
    inside = np.argwhere(prepared.mask > 0)
    assert found.rows.shape == (found.block.max() + 1, len(names)) and len(found.block) == len(inside)
    deep = depth_mm(prepared.mask, SPACING_MM)[prepared.mask > 0]
    for voxel in range(0, len(inside), 61):
        row = dict(zip(names, found.rows[found.block[voxel]].tolist(), strict=True))
        z, y, x = (int(v) for v in inside[voxel])
        for name, value in slow(prepared, tuple(int(numbers(i + 1, step)[-1]) for i, step in zip((z, y, x), SPACING_MM, strict=True))).items():
            assert row[f"window_{name}"] == pytest.approx(value, rel=2e-3, abs=2e-3), name
        same = found.block == found.block[voxel]
        assert row["window_depth_mm"] == pytest.approx(deep[same].mean(), rel=1e-5)
        assert row["window_height_percent"] == pytest.approx(100 * z / 4)


def test_a_wide_window_is_made_of_its_windows() -> None:
    prepared = study(1)
    found, names = windows_of(prepared), window_names()
    flat = Prepared(Volume(np.full(prepared.volume.hu.shape, -650.0, np.float32), SPACING_MM), prepared.mask)
    column = {name: number for number, name in enumerate(names)}
    rows = windows_of(flat).rows
    for name in ("window", "window_wide"):
        np.testing.assert_allclose(rows[:, column[f"{name}_mean_hu"]], -650.0, rtol=1e-6)
        assert not rows[:, [column[f"{name}_{measure}"] for measure in ("sd_hu", "skewness", "kurtosis", "contrast_hu", "entropy")]].any()
    near, wide = (found.rows[:, column[f"{name}_mean_hu"]] for name in ("window", "window_wide"))
    assert wide.std() < near.std() and near.min() <= wide.min() <= wide.max() <= near.max()


def test_air_around_the_lung_changes_nothing_and_what_is_missing_is_named() -> None:
    prepared = study(2)
    wider = windows_of(padded(prepared, 4))
    found = windows_of(prepared)
    np.testing.assert_allclose(wider.rows[wider.block], found.rows[found.block], rtol=1e-5, atol=1e-5)
    with pytest.raises(BadInput, match="lung"):
        windows_of(Prepared(prepared.volume, np.zeros(prepared.volume.hu.shape, np.uint8)))
    with pytest.raises(BadInput, match="Hounsfield"):
        windows_of(prepared.with_image(prepared.volume, is_hu=False))


@pytest.mark.parametrize("step_mm", [0.5, 0.7, 1.1, 2.1, 2.9, 4.2])
def test_a_window_is_as_wide_on_every_scanner(step_mm: float) -> None:
    shape = (round(60 / step_mm),) * 2
    flat = Prepared(Volume(np.full((3, *shape), -700, np.float32), (5.0, step_mm, step_mm)), np.ones((3, *shape), np.uint8))
    layout = windows_of(flat).layout
    edge = 60 / (layout.grid[1] - 2)
    assert edge == pytest.approx(max(3.0, step_mm), rel=0.06)


@given(st.integers(0, 1000), st.sampled_from([(1, 1, 1), (2, 5, 4), (4, 3, 6)]))
def test_a_vote_counts_the_voxels_of_27_blocks(seed: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    there = rng.random(shape) < 0.7
    there.flat[0] = True
    grid = (shape[0] + 2, shape[1] + 2, shape[2] + 2)
    at = np.argwhere(there)
    layout = Layout(rng.integers(1, 4, len(at)), np.ravel_multi_index(tuple((at + 1).T), grid), grid)
    called = rng.integers(0, 3, len(at)).astype(np.uint8)
    voted = layout.voted(called)
    for number, here in enumerate(at):
        near = (abs(at - here) <= 1).all(1)
        count = [int(layout.voxels[near & (called == label)].sum()) for label in range(3)]
        best = [label for label in range(3) if count[label] == max(count)]
        assert voted[number] == (called[number] if called[number] in best else best[0])
    some = rng.random(len(at)) < 0.3
    slow_beside = [bool((some & (abs(at - here) <= 1).all(1)).any()) for here in at]
    assert layout.beside(some).tolist() == slow_beside
    near = layout.beside(some)
    np.testing.assert_array_equal(layout.of(near).voted(called[near])[some[near]], voted[some])
