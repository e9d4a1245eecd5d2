"""Multi-frame CT and what streams announce: the same volume as from single slices, or a refusal by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import get_frame

from client.cases.identity import Pseudonyms
from client.dicom.acquisition import describe_acquisition
from client.dicom.codestream import image_size
from client.dicom.deidentify import deidentify
from client.dicom.frames import flattened
from client.dicom.header import read_headers, read_slices
from client.dicom.read import read_series
from client.dicom.scan import group
from client.dicom.slices import Dismissed
from tests.client.dicom_factory import SeriesPlan, chest, dataset, write
from tests.client.enhanced_factory import enhanced

HU = chest(24, 48, step_mm=8, pixel_mm=6.5)
PLAN = SeriesPlan(HU, step_mm=8, pixel_mm=(6.5, 6.5))


@pytest.mark.parametrize("syntax", ["", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"])
def test_one_file_or_many_give_one_volume(tmp_path: Path, syntax: str) -> None:
    order = [int(k) for k in np.random.default_rng(4).permutation(24)]
    ds = enhanced(PLAN, order=order, slopes=None if syntax else [1.0 + (n % 2) for n in range(24)])
    if syntax:
        ds.compress(syntax)
    ds.save_as(tmp_path / "all", enforce_file_format=True)
    (series,), dismissed = group(read_headers([str(tmp_path / "all")]))
    found = read_series(series).volume
    single = read_series(group(read_headers([str(p) for p in write(tmp_path / "single", PLAN)]))[0][0]).volume
    assert not dismissed and found.spacing_mm == single.spacing_mm and found.origin_mm == single.origin_mm
    assert np.abs(found.hu - single.hu).max() <= (0 if syntax else 1)  # a slope of 2 cannot store odd values


def test_words_of_functional_groups_reach_the_acquisition(tmp_path: Path) -> None:
    enhanced(PLAN).save_as(tmp_path / "all", enforce_file_format=True)
    clean = deidentify(flattened(dcmread(tmp_path / "all"), 3), Pseudonyms(bytes(32)))
    found = describe_acquisition(clean)
    assert (found.kernel_class, found.kvp, found.thickness_mm) == ("soft", 120.0, 8.0)
    assert "20240531" not in str(clean.get("PerFrameFunctionalGroupsSequence", ""))


def test_derived_frames_are_left_out_and_derived_files_turned_away(tmp_path: Path) -> None:
    ds = enhanced(PLAN)
    shared = ds.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence
    ds.PerFrameFunctionalGroupsSequence[5].CTImageFrameTypeSequence = [dataset(PLAN, 0, 1)]
    ds.PerFrameFunctionalGroupsSequence[5].CTImageFrameTypeSequence[0].FrameType = ["DERIVED", "PRIMARY"]
    ds.save_as(tmp_path / "one", enforce_file_format=True)
    assert len(read_slices(str(tmp_path / "one"))) == 23
    shared[0].FrameType = ["DERIVED", "PRIMARY"]
    ds.save_as(tmp_path / "all", enforce_file_format=True)
    (left,) = read_slices(str(tmp_path / "all"))
    assert isinstance(left, Dismissed) and left.reason == "DERIVED"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"])
def test_streams_announce_their_size(syntax: str) -> None:
    ds = dataset(SeriesPlan(chest(1, 48)[:, :40]), 0, 1)
    ds.compress(syntax)
    assert image_size(get_frame(ds.PixelData, 0, number_of_frames=1)) == (None if syntax.endswith("2.5") else (40, 48))
