"""Quantities on a coarser grid: ground glass keeps its volume, walls of small cysts do not, the less the smaller the cysts are."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.hrct.quantities import quantities_of
from client.preprocessing.resample import resample
from shared_models.taxonomy import PATTERN_CODES

SHAPE = (72, 80, 80)


def study() -> Prepared:
    """Two lungs at 1 mm with patches of ground glass of about 12 mm, and honeycombing in a corner."""
    rng = np.random.default_rng(2)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside = ((z - 36) / 33.0) ** 2 + ((y - 40) / 37.0) ** 2 + ((np.abs(x - 39.5) - 20) / 18.0) ** 2 < 1
    mask = np.where(inside, 1 + (x > 39), 0).astype(np.uint8)
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 6)
    drawn = np.where(field > np.quantile(field[inside], 0.8), PATTERN_CODES["ggo"], PATTERN_CODES["normal"]).astype(np.uint8)
    drawn[:20][inside[:20]] = PATTERN_CODES["honeycombing"]
    drawn[mask == 0] = 255
    hu = np.where(drawn == PATTERN_CODES["ggo"], -650.0, -850.0).astype(np.float32) + rng.normal(0, 20, SHAPE).astype(np.float32)
    return Prepared(Volume(hu, (1.0, 1.0, 1.0)), mask, annotation=drawn)


def whole(prepared: Prepared) -> dict:
    assert prepared.mask is not None and prepared.annotation is not None
    labels = np.where(prepared.annotation == 255, 0, prepared.annotation).astype(np.uint8)
    return quantities_of(labels, prepared.mask, prepared.volume.spacing_mm)["whole"]


@pytest.mark.parametrize("grid", [{"isotropic_mm": 2.0}, {"z_mm": 2.0}, {"z_mm": 1.5, "y_mm": 0.7, "x_mm": 0.7}])
def test_volumes_and_shares_of_ground_glass_stay_within_one_percent(grid: dict[str, float]) -> None:
    fine, other = whole(study()), whole(resample(study(), **grid))
    assert other["lung_ml"] == pytest.approx(fine["lung_ml"], rel=0.01)
    assert fine["ml"]["ggo"] > 10 and other["ml"]["ggo"] == pytest.approx(fine["ml"]["ggo"], rel=0.01)
    assert other["percent"]["ggo"] == pytest.approx(fine["percent"]["ggo"], rel=0.01)


def test_ground_glass_by_its_density_loses_little_where_voxels_are_shared() -> None:
    def dense_ml(prepared: Prepared) -> float:
        assert prepared.mask is not None
        return float(((prepared.volume.hu > -750) & (prepared.mask > 0)).sum() * math.prod(prepared.volume.spacing_mm) / 1000)

    fine = study()
    fine.volume.hu[fine.mask == 0] = -850.0  # no chest wall that voxels at the surface would share
    assert 0.97 < dense_ml(resample(fine, isotropic_mm=2.0)) / dense_ml(fine) < 1


def test_the_air_of_cysts_is_lost_on_a_coarser_grid_and_more_of_smaller_cysts() -> None:
    """What limits every measure of honeycombing by density: walls and air share voxels (partial volume), the more the smaller the cyst."""

    def kept(diameter_mm: int) -> float:
        places = np.indices((48, 48, 48)) % (diameter_mm + 2)
        air = np.sqrt(((places - (diameter_mm + 1) / 2) ** 2).sum(0)) < diameter_mm / 2
        hu = np.where(air, -980.0, -200.0).astype(np.float32)
        coarse = resample(Prepared(Volume(hu, (1.0, 1.0, 1.0))), isotropic_mm=2.0).volume.hu
        return float((coarse < -950).mean() / (hu < -950).mean())

    shares = [kept(diameter) for diameter in (12, 8, 5, 3)]
    assert all(smaller < larger for larger, smaller in pairwise(shares)) and shares[0] < 0.9 and shares[-1] < 0.2
