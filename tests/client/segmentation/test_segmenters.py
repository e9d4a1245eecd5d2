"""One battery over SEGMENTERS: what every lung mask must be, on phantoms whose lungs are known to the voxel."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.cases.volume import Volume
from client.segmentation import SEGMENTERS
from shared_models.core.arrays import Mask
from shared_models.core.choices import Choice, knobs_of, pick
from shared_models.core.errors import BadChoice, BadStudy
from tests.client.segmentation.phantoms import dice, study, weights_file

Segment = Callable[[Volume], Mask]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Knobs that a segmenter cannot do without."""
    path, digest = weights_file(Path(tmp_path_factory.mktemp("weights")))
    return {"network": {"weights": str(path), "sha256": digest}}


@pytest.fixture(params=sorted(SEGMENTERS))
def choice(request: pytest.FixtureRequest, files: dict[str, dict[str, str]]) -> Choice:
    return Choice.model_validate({"name": request.param, **files.get(request.param, {})})


@pytest.fixture
def segment(choice: Choice) -> Segment:
    return pick(SEGMENTERS, choice, kind="segmenter")


def test_normal_lungs_are_found_and_their_sides_told_apart(segment: Segment) -> None:
    volume, truth, _ = study()
    mask = segment(volume)
    assert mask.dtype == np.uint8 and mask.shape == truth.shape and set(np.unique(mask)) == {0, 1, 2}
    assert dice(mask > 0, truth > 0) >= 0.97
    for side in (1, 2):
        assert dice(mask == side, truth == side) >= 0.965


def test_equal_volumes_give_equal_masks_and_stay_as_they_were(segment: Segment) -> None:
    volume = study(body=4)[0]
    own = Volume(volume.hu[::2].copy(), (2 * volume.spacing_mm[0], *volume.spacing_mm[1:]))
    before = own.hu.tobytes()
    first = segment(own)
    assert own.hu.tobytes() == before
    np.testing.assert_array_equal(first, segment(Volume(volume.hu[::2], own.spacing_mm)))


@pytest.mark.parametrize("kind", ["air", "water", "half"])
def test_what_holds_no_lung_is_refused(segment: Segment, kind: str) -> None:
    half = np.where(np.arange(32) < 16, -1000, 40).astype(np.float32) + np.zeros((20, 32, 1), np.float32)
    hu = {"air": np.full((20, 32, 32), -1000, np.float32), "water": np.full((20, 32, 32), 40, np.float32), "half": half}[kind]
    with pytest.raises(BadStudy) as caught:
        segment(Volume(hu, (5.0, 5.0, 5.0)))
    assert caught.value.reason == "NO_LUNG"


def test_voxels_need_not_be_cubes(segment: Segment) -> None:
    volume, truth, _ = study()
    z, y, x = volume.spacing_mm
    assert dice(segment(Volume(volume.hu[::3, :, ::2], (3 * z, y, 2 * x))) > 0, truth[::3, :, ::2] > 0) >= 0.96


def test_a_fine_grid_is_thinned_and_given_back(segment: Segment) -> None:
    hu, truth, _ = study(body=4)
    fine = Volume(np.repeat(np.repeat(hu.hu[::4], 2, axis=1), 2, axis=2), (4 * hu.spacing_mm[0], hu.spacing_mm[1] / 2, hu.spacing_mm[2] / 2))
    mask = segment(fine)
    assert mask.shape == fine.hu.shape
    assert dice(mask[:, ::2, ::2] > 0, truth[::4] > 0) >= 0.955


def test_knobs_are_documented_and_checked(choice: Choice) -> None:
    text = inspect.getdoc(SEGMENTERS[choice.name]) or ""
    assert "Returns" in text and "NO_LUNG" in text
    for knob in knobs_of(SEGMENTERS[choice.name]):
        assert knob in text
    with pytest.raises(BadChoice, match="no knob 'zzz'"):
        pick(SEGMENTERS, Choice.model_validate({**choice.model_dump(), "zzz": 1}), kind="segmenter")


@pytest.mark.parametrize("name", ["fuzzy_cmeans", "enfcm", "fgfcm", "frfcm"])
def test_a_large_volume_is_clustered_on_a_coarser_grid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, truth, _ = study()
    monkeypatch.setattr(importlib.import_module("client.segmentation.fuzzy_cmeans"), "MOST_VOXELS", truth.size // 3)
    assert dice(SEGMENTERS[name](volume) > 0, truth > 0) >= 0.96
