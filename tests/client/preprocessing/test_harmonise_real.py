"""One patient, one acquisition, a sharp and a soft kernel: after harmonising they tell the same."""

from __future__ import annotations

import numpy as np
import pytest

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.dicom.acquisition import describe_acquisition
from client.dicom.header import read_full_header, read_headers
from client.dicom.read import read_series
from client.dicom.scan import group, list_files
from client.features.densitometry import densitometry
from client.preprocessing.harmonise import harmonise
from client.preprocessing.sharpness import measure_sharpness
from client.segmentation.threshold import threshold
from tests.client.real_data import needs_real_data, real

pytestmark = needs_real_data
TARGET_PER_MM = 0.25


@pytest.fixture(scope="module")
def kernels() -> dict[str, Volume]:
    series, _ = group(read_headers(list_files(real("lung_pet_ct_dx"))))
    found = {}
    for one in series:
        reading = read_series(one)
        kernel = describe_acquisition(read_full_header(reading.slices[0])).kernel_class
        found["sharp" if kernel == "sharp" else "soft"] = reading.volume
    return found


@pytest.fixture(scope="module")
def matched(kernels: dict[str, Volume]) -> dict[str, Prepared]:
    return {name: harmonise(Prepared(volume, threshold(volume)), mtf50_per_mm=TARGET_PER_MM) for name, volume in kernels.items()}


def gap(studies: dict[str, Prepared]) -> np.ndarray:
    """Soft less sharp: mean lung HU, LAA-950."""
    found = {name: densitometry(study) for name, study in studies.items()}
    return np.array([found["soft"][key] - found["sharp"][key] for key in ("whole_mld_hu", "whole_laa950_percent")])


def test_the_gap_between_kernels_shrinks_by_at_least_70_percent(kernels: dict[str, Volume], matched: dict[str, Prepared]) -> None:
    before = gap({name: Prepared(volume, threshold(volume)) for name, volume in kernels.items()})
    assert before[0] > 4 and before[1] < -4
    own_masks = gap(matched)
    again = gap({name: Prepared(study.volume, threshold(study.volume)) for name, study in matched.items()})
    for after in (own_masks, again):
        assert (np.abs(after) <= 0.3 * np.abs(before)).all(), (before, after)


def test_sharpness_is_told_apart_and_then_alike(kernels: dict[str, Volume], matched: dict[str, Prepared]) -> None:
    before = {name: measure_sharpness(volume).mtf50_per_mm for name, volume in kernels.items()}
    after = {name: measure_sharpness(study.volume).mtf50_per_mm for name, study in matched.items()}
    assert before["sharp"] > 1.3 * before["soft"]
    assert all(value == pytest.approx(TARGET_PER_MM, rel=0.05) for value in after.values())


def test_the_ratio_of_both_transfers_is_what_their_spectra_say(kernels: dict[str, Volume]) -> None:
    """Both images hold the same patient, so least squares between their spectra gives the filter from one to the other."""
    soft, sharp = (measure_sharpness(kernels[name]) for name in ("soft", "sharp"))
    a, b = (np.clip(kernels[name].hu[::4], -1000, 200) for name in ("soft", "sharp"))
    waves_a, waves_b = np.fft.rfft2(a), np.fft.rfft2(b)
    pixel = kernels["soft"].spacing_mm[2]
    radius = np.hypot(np.fft.fftfreq(a.shape[1], pixel)[:, None], np.fft.rfftfreq(a.shape[2], pixel))
    for low in (0.10, 0.15, 0.20, 0.25, 0.30, 0.35):
        ring = (radius >= low) & (radius < low + 0.05)
        truth = np.abs((waves_a * waves_b.conj())[:, ring].sum()) / (np.abs(waves_b[:, ring]) ** 2).sum()
        found = np.interp(low + 0.02, soft.per_mm, soft.transfer) / np.interp(low + 0.02, sharp.per_mm, sharp.transfer)
        assert found == pytest.approx(truth, rel=0.1)
