"""Centres that hospitals find together: those of their joined scans, and every segmenter of clusters takes them."""

from __future__ import annotations

import numpy as np
import pytest

from client.segmentation import SEGMENTERS
from client.segmentation.fuzzy_cmeans import LEVELS_HU, clustered, coarse_hu, histogram
from shared_models.blocks.fuzzy import fit_fuzzy
from shared_models.core.choices import Choice, knobs_of, pick
from shared_models.core.errors import BadChoice, BadStudy
from tests.client.segmentation.phantoms import dice, study

NAMES = sorted(name for name, segmenter in SEGMENTERS.items() if "centres_hu" in knobs_of(segmenter))
START = np.array([-850.0, 40.0])


def test_all_segmenters_of_clusters_take_them() -> None:
    assert NAMES == ["enfcm", "fgfcm", "frfcm", "fuzzy_cmeans"]


def test_summed_over_hospitals_they_are_those_of_the_joined_scans() -> None:
    scans = [coarse_hu(study(body=body)[0]) for body in (1, 4)]
    joined = fit_fuzzy([histogram(np.concatenate([scan.ravel() for scan in scans]))], LEVELS_HU, START, tolerance=1e-9).centres
    apart = fit_fuzzy([histogram(scan) for scan in scans], LEVELS_HU, START, tolerance=1e-9).centres
    summed = fit_fuzzy([sum(histogram(scan) for scan in scans)], LEVELS_HU, START, tolerance=1e-9).centres  # type: ignore[list-item]
    np.testing.assert_allclose(apart, joined, rtol=1e-10)
    np.testing.assert_allclose(summed, joined, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_lungs_are_found_with_the_centres_of_another_scan(name: str) -> None:
    volume, truth, _ = study()
    centres = clustered(coarse_hu(study(body=4)[0]), 2).centres.tolist()
    mask = pick(SEGMENTERS, Choice.model_validate({"name": name, "centres_hu": centres}), kind="segmenter")(volume)
    assert dice(mask > 0, truth > 0) >= 0.97
    far = pick(SEGMENTERS, Choice.model_validate({"name": name, "centres_hu": [-1000.0, -780.0]}), kind="segmenter")
    with pytest.raises(BadStudy, match="200 mL of air"):  # nearly all of the lung lies above their middle: they are used
        far(volume)


@pytest.mark.parametrize("centres", [[-800.0], [-800.0, -800.0], [-800.0, -300.0, 40.0], [-5000.0, 0.0]])
def test_centres_are_as_many_as_clusters_and_grey_values(centres: list[float]) -> None:
    with pytest.raises(BadChoice):
        pick(SEGMENTERS, Choice.model_validate({"name": "fuzzy_cmeans", "centres_hu": centres}), kind="segmenter")(study()[0])
