"""Densitometry: golden values, edges of every bound, the histogram against the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.features import feature_names
from client.features.densitometry import HIGHEST_HU, LOWEST_HU, MEASURES, densitometry, densitometry_names, describe_counts, describe_values
from shared_models.core.choices import Choice
from shared_models.core.errors import BadInput

GOLDEN = np.array([-1000, -951, -950, -949, -601, -600, -500, -250, -249, 0])


def counts_of(hu: np.ndarray) -> np.ndarray:
    return np.bincount(hu - LOWEST_HU, minlength=HIGHEST_HU - LOWEST_HU + 1)


@pytest.mark.parametrize("way", ["values", "counts"])
def test_golden_values(way: str) -> None:
    found = describe_values(GOLDEN.astype(float), 1.0) if way == "values" else describe_counts(counts_of(GOLDEN), 1.0)
    assert found["haa_percent"] == 30.0 and found["laa950_percent"] == 20.0 and found["mld_hu"] == -605.0
    assert found["skewness"] == pytest.approx(0.330319, abs=1e-6) and found["kurtosis"] == pytest.approx(-1.217267, abs=1e-6)
    assert found["perc15_hu"] == pytest.approx(-950.65, abs=1e-9)
    assert found["mass_g"] == pytest.approx(sum(1 + h / 1000 for h in GOLDEN.tolist())) and found["volume_l"] == 0.01


@pytest.mark.parametrize(
    ("hu", "measure", "inside"),
    [
        (-601, "haa_percent", False),
        (-600, "haa_percent", True),
        (-250, "haa_percent", True),
        (-249, "haa_percent", False),
        (-951, "laa950_percent", True),
        (-950, "laa950_percent", False),
        (-911, "laa910_percent", True),
        (-910, "laa910_percent", False),
        (-1001, "hyperaerated_percent", False),
        (-1000, "hyperaerated_percent", True),
        (-900, "hyperaerated_percent", False),
        (-900, "normally_aerated_percent", True),
        (-500, "normally_aerated_percent", False),
        (-500, "poorly_aerated_percent", True),
        (-100, "poorly_aerated_percent", False),
        (-100, "nonaerated_percent", True),
        (100, "nonaerated_percent", True),
        (101, "nonaerated_percent", False),
    ],
)
def test_edges(hu: int, measure: str, inside: bool) -> None:
    wanted = 100.0 if inside else 0.0
    assert describe_values(np.array([float(hu)]), 1.0)[measure] == wanted
    assert describe_counts(counts_of(np.array([hu])), 1.0)[measure] == wanted


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.int64, st.integers(1, 300), elements=st.integers(-1100, 1500)))
def test_histogram_equals_voxels(hu: np.ndarray) -> None:
    slow, fast = describe_values(hu.astype(float), 0.3), describe_counts(counts_of(hu), 0.3)
    assert list(slow) == list(fast) == list(MEASURES)
    for name, value in slow.items():
        # moments of nearly constant values lose digits in both ways
        assert fast[name] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), name


def test_moments_against_a_reference() -> None:
    hu = np.random.default_rng(0).normal(-800, 90, 5000)
    found = describe_values(hu, 1.0)
    assert found["skewness"] == pytest.approx(stats.skew(hu)) and found["kurtosis"] == pytest.approx(stats.kurtosis(hu))


def lungs() -> Prepared:
    random = np.random.default_rng(4)
    hu = np.rint(random.normal(-800, 100, (12, 10, 10))).astype(np.float32)
    mask = np.zeros(hu.shape, np.uint8)
    mask[2:11, 2:8, 1:4] = 1
    mask[3:11, 2:8, 6:9] = 2
    return Prepared(Volume(hu, (2.0, 1.0, 1.0)), mask)


def test_regions_are_the_patients_own() -> None:
    prepared = lungs()
    assert prepared.mask is not None
    found = densitometry(prepared)
    hu, mask = prepared.volume.hu, prepared.mask
    z = np.arange(12)[:, None, None]
    for region, where in {
        "whole": mask > 0,
        "right": mask == 1,
        "left": mask == 2,
        "lower": (mask > 0) & (z >= 2) & (z < 5),
        "middle": (mask > 0) & (z >= 5) & (z < 8),
        "upper": (mask > 0) & (z >= 8),
    }.items():
        for name, value in describe_values(hu[where].astype(float), 0.002).items():
            assert found[f"{region}_{name}"] == pytest.approx(value, rel=1e-9), (region, name)
    assert tuple(found) == densitometry_names() == feature_names([Choice(name="densitometry")])


def test_fractional_hu_take_the_slow_way_to_the_same_place() -> None:
    prepared = lungs()
    nudged = Prepared(Volume(prepared.volume.hu + np.float32(1 / 64), (2.0, 1.0, 1.0)), prepared.mask)
    assert densitometry(nudged)["left_mld_hu"] == pytest.approx(densitometry(prepared)["left_mld_hu"] + 1 / 64, abs=1e-4)


def test_empty_regions_and_refusals() -> None:
    prepared = lungs()
    assert prepared.mask is not None
    right = Prepared(prepared.volume, np.where(prepared.mask == 1, prepared.mask, 0).astype(np.uint8))
    found = densitometry(right)
    assert found["left_volume_l"] == 0.0 and math.isnan(found["left_mld_hu"])
    nothing = densitometry(Prepared(prepared.volume, np.zeros_like(prepared.mask)))
    assert tuple(nothing) == densitometry_names() and nothing["whole_volume_l"] == 0.0
    with pytest.raises(BadInput, match="Hounsfield"):
        densitometry(Prepared(prepared.volume, prepared.mask, is_hu=False))
    with pytest.raises(BadInput, match="mask"):
        densitometry(Prepared(prepared.volume))
