"""Steps: resampling against slow interpolation, geometry kept, and no way back to HU."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.preprocessing import STEPS
from client.preprocessing.resample import resample, weights
from shared_models.core.errors import BadInput


def study(shape: tuple[int, int, int] = (9, 11, 13), spacing: tuple[float, float, float] = (2.0, 1.5, 1.0)) -> Prepared:
    random = np.random.default_rng(1)
    mask = np.zeros(shape, np.uint8)
    mask[2:-2, 2:-2, 2:6], mask[2:-2, 2:-2, 7:-2] = 1, 2
    return Prepared(Volume(random.normal(-700, 200, shape).astype(np.float32), spacing, (5.0, -3.0, 7.0)), mask)


def centres(volume: Volume) -> list[np.ndarray]:
    """World coordinate of the voxel centres along z, y, x for axes that are those of the patient."""
    return [o + s * np.arange(n) for o, s, n in zip(volume.origin_mm[::-1], volume.spacing_mm, volume.hu.shape, strict=True)]


def test_finer_is_linear_interpolation() -> None:
    before = study()
    after = resample(before, z_mm=0.8, y_mm=0.7, x_mm=0.9)
    old, new = centres(before.volume), centres(after.volume)
    slow = RegularGridInterpolator(old, before.volume.hu.astype(float))
    inside = [np.clip(n, o[0], o[-1]) for n, o in zip(new, old, strict=True)]  # beyond the last centre its value goes on
    grid = np.stack(np.meshgrid(*inside, indexing="ij"), -1)
    np.testing.assert_allclose(after.volume.hu, slow(grid), atol=0.01)


def test_coarser_keeps_the_mean_and_the_field_of_view() -> None:
    before = study((8, 12, 12), (1.0, 1.0, 1.0))
    after = resample(before, isotropic_mm=2.0)
    slow = before.volume.hu.reshape(4, 2, 6, 2, 6, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(after.volume.hu, slow, atol=1e-3)
    assert after.volume.spacing_mm == (2.0, 2.0, 2.0) and after.volume.origin_mm == (5.5, -2.5, 7.5)


@given(st.integers(1, 60), st.floats(0.4, 6), st.floats(0.4, 6))
def test_weights_are_averages(n: int, old_mm: float, new_mm: float) -> None:
    count = max(1, round(n * old_mm / new_mm))
    matrix = weights(n, count, old_mm, new_mm)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    assert (matrix >= 0).all()
    ramp = matrix @ np.arange(n, dtype=np.float32)
    assert (np.diff(ramp) >= -1e-4).all()


def test_mask_follows_by_nearest_neighbour() -> None:
    before = study()
    after = resample(before, isotropic_mm=1.0)
    assert before.mask is not None and after.mask is not None
    old, new = centres(before.volume), centres(after.volume)
    index = [np.clip(np.abs(o[:, None] - n[None]).argmin(axis=0), 0, len(o) - 1) for o, n in zip(old, new, strict=True)]
    agree = after.mask == before.mask[np.ix_(*index)]
    assert agree.all()


def test_same_grid_changes_nothing() -> None:
    before = study()
    after = resample(before, z_mm=2.0, y_mm=1.5, x_mm=1.0)
    np.testing.assert_array_equal(after.volume.hu, before.volume.hu)
    assert after.volume.origin_mm == before.volume.origin_mm


def test_crop_keeps_places() -> None:
    before = study()
    after = STEPS["crop_lung"](before, margin_mm=1.0)
    z, y, x = (
        round((a - b) / s) for a, b, s in zip(after.volume.origin_mm[::-1], before.volume.origin_mm[::-1], before.volume.spacing_mm, strict=True)
    )
    assert (z, y, x) == (1, 1, 1)
    np.testing.assert_array_equal(
        after.volume.hu, before.volume.hu[z : z + after.volume.hu.shape[0], y:, x:][:, : after.volume.hu.shape[1], : after.volume.hu.shape[2]]
    )
    assert after.mask is not None and before.mask is not None and (after.mask > 0).sum() == (before.mask > 0).sum()
    with pytest.raises(BadInput):
        STEPS["crop_lung"](Prepared(before.volume, np.zeros_like(before.mask)))


@pytest.mark.parametrize("name", ["clip", "window"])
def test_once_not_hu_never_hu(name: str) -> None:
    changed = STEPS[name](study())
    assert not changed.is_hu
    assert not STEPS["resample"](STEPS["crop_lung"](changed), isotropic_mm=3.0).is_hu
