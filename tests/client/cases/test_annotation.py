"""Label maps that readers have drawn: read, turned onto the grid of their series, or refused under the rule that they break."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from client.cases.annotation import annotation_path, read_annotation, try_annotation
from client.cases.cache import DamagedCache, is_annotated, load, store
from client.cases.nifti import onto, read_label_map, write_label_map
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.preprocessing.crop_lung import crop_lung
from client.preprocessing.resample import resample
from shared_models.core.errors import BadInput

SPACING = (2.0, 0.8, 0.7)
ORIGIN = np.array([-12.5, 30.0, -400.0])
AXES = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
LABELS = np.random.default_rng(0).integers(0, 8, (5, 6, 7)).astype(np.uint8)
LABELS[2] = 255
SHORT = gzip.compress(b"short", mtime=0)


def volume(shape: tuple[int, ...] = LABELS.shape, spacing: tuple[float, float, float] = SPACING) -> Volume:
    return Volume(np.zeros(shape, np.float32), spacing, (float(ORIGIN[0]), float(ORIGIN[1]), float(ORIGIN[2])), AXES)


def drawn(folder: Path, labels: np.ndarray = LABELS, origin: np.ndarray = ORIGIN, name: str = "1.2.3.nii.gz") -> Path:
    write_label_map(folder / name, labels, SPACING, origin, AXES)
    return folder / name


def changed(path: Path, at: int, form: str, *values: float) -> Path:
    """The file with other values in its header."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(form, data, at, *values)
    path.write_bytes(gzip.compress(bytes(data)))
    return path


def test_what_was_drawn_comes_back(tmp_path: Path) -> None:
    path = drawn(tmp_path)
    assert path.read_bytes() == drawn(tmp_path, name="again.nii.gz").read_bytes()
    np.testing.assert_array_equal(read_annotation(path, volume()), LABELS)
    plain = tmp_path / "1.2.4.nii"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    np.testing.assert_array_equal(read_annotation(plain, volume()), LABELS)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, -1)])
def test_axes_may_run_the_other_way(flips: tuple[int, ...], tmp_path: Path) -> None:
    turn = np.array(flips)
    far = (np.array(LABELS.shape) - 1) * np.array(SPACING)
    origin = ORIGIN + (np.where(turn < 0, far, 0.0)[:, None] * AXES).sum(0)
    write_label_map(tmp_path / "a.nii.gz", LABELS[:: flips[0], :: flips[1], :: flips[2]], SPACING, origin, AXES * turn[:, None])
    np.testing.assert_array_equal(read_annotation(tmp_path / "a.nii.gz", volume()), LABELS)


def test_a_qform_says_the_same_place(tmp_path: Path) -> None:
    path = changed(drawn(tmp_path), 252, "<2h", 1, 0)
    changed(path, 256, "<6f", 0.0, 0.0, 1.0, -ORIGIN[0], -ORIGIN[1], ORIGIN[2])  # half a turn about z: LPS is RAS turned so
    np.testing.assert_array_equal(read_annotation(path, volume()), LABELS)


def test_axes_may_be_stored_in_another_order(tmp_path: Path) -> None:
    found = read_label_map(drawn(tmp_path))
    order = [2, 0, 1]
    turned = type(found)(found.labels.transpose(order), found.steps_mm[order], found.origin_mm)
    np.testing.assert_array_equal(onto(turned, volume()), LABELS)


class TestRefused:
    def test_other_voxels(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="must have the voxels of its series"):
            read_annotation(drawn(tmp_path), volume((5, 6, 8)))

    def test_another_voxel_size(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="voxel size and directions"):
            read_annotation(drawn(tmp_path), volume(spacing=(2.0, 0.8, 0.9)))

    def test_another_place(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="must lie where its series lies"):
            read_annotation(drawn(tmp_path, origin=ORIGIN + [0, 0, 2.0]), volume())
        read_annotation(drawn(tmp_path, origin=ORIGIN + [0, 0, 0.5]), volume())  # a quarter of a step is rounding

    def test_a_number_that_is_no_pattern(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"codes of patterns \(0 to 7\) and 255"):
            read_annotation(drawn(tmp_path, labels=np.where(LABELS == 3, 9, LABELS).astype(np.uint8)), volume())

    @pytest.mark.parametrize(
        ("at", "form", "values", "words"),
        [
            (344, "<4s", (b"nope",), "NIfTI-1"),
            (70, "<h", (16,), "whole numbers"),
            (40, "<8h", (4, 7, 6, 5, 3, 1, 1, 1), "one volume"),
            (40, "<8h", (3, 7, 6, 500, 1, 1, 1, 1), "every voxel of its header"),
            (40, "<8h", (3, 7, 6, -5, 1, 1, 1, 1), "one volume"),
            (112, "<2f", (2.0, 0.0), "stand for themselves"),
            (252, "<2h", (0, 0), "where it lies"),
            (280, "<f", (float("nan"),), "finite"),
            (280, "<12f", (0.0,) * 12, "axes of a label map"),
        ],
    )
    def test_a_header_that_is_no_label_map(self, at: int, form: str, values: tuple[float, ...], words: str, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=words):
            read_annotation(changed(drawn(tmp_path), at, form, *values), volume())

    @pytest.mark.parametrize("data", [b"", b"no gzip", SHORT[:-6], SHORT], ids=["empty", "no gzip", "cut off", "too short"])
    def test_a_damaged_file(self, data: bytes, tmp_path: Path) -> None:
        (tmp_path / "1.nii.gz").write_bytes(data)
        found, findings = try_annotation(tmp_path / "1.nii.gz", volume())
        assert found is None
        assert [one.code for one in findings] == ["ANNOTATION"]
        assert findings[0].text.startswith("the annotation is left out: a label map must be")


def test_a_map_is_found_under_its_series_then_its_study(tmp_path: Path) -> None:
    assert annotation_path(None, "1.2", "1.9") is None
    assert annotation_path(tmp_path, "1.2", "1.9") is None
    study = drawn(tmp_path, name="1.9.nii.gz")
    assert annotation_path(tmp_path, "1.2", "1.9") == study
    series = drawn(tmp_path, name="1.2.nii")
    assert annotation_path(tmp_path, "1.2", "1.9") == series
    (tmp_path / "in").mkdir()
    assert annotation_path(tmp_path / "in", "../1.2", "../1.9") is None


def test_steps_that_change_the_grid_take_the_annotation_along() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 8, (6, 12, 12)).astype(np.uint8)
    mask = np.zeros(labels.shape, np.uint8)
    mask[1:5, 2:9, 3:10] = 1
    study = Prepared(Volume(labels.astype(np.float32), (2.0, 1.0, 1.0)), mask, annotation=labels)
    cut = crop_lung(study, margin_mm=1.0)
    assert cut.annotation is not None
    np.testing.assert_array_equal(cut.annotation, cut.volume.hu.astype(np.uint8))  # the image is the annotation: they stay each other's
    coarse = resample(study, z_mm=4.0, y_mm=2.0, x_mm=2.0)
    assert coarse.annotation is not None
    assert coarse.annotation.shape == coarse.volume.hu.shape == (3, 6, 6)
    assert set(np.unique(coarse.annotation)) <= set(np.unique(labels))
    with pytest.raises(BadInput, match="annotation and image"):
        Prepared(study.volume, mask, annotation=labels[1:])


def test_the_cache_keeps_it_under_its_checksum(tmp_path: Path) -> None:
    bare, path = tmp_path / "bare.safetensors", tmp_path / "study.safetensors"
    study = Prepared(volume(), np.ones(LABELS.shape, np.uint8), annotation=LABELS)
    store(path, study, {})
    store(bare, Prepared(volume(), np.ones(LABELS.shape, np.uint8)), {})
    assert is_annotated(path)
    assert not is_annotated(bare)
    assert not is_annotated(tmp_path / "none")
    found = load(path).prepared.annotation
    assert found is not None
    np.testing.assert_array_equal(found, LABELS)
    assert load(bare).prepared.annotation is None
    data = path.read_bytes()
    place = data.index(LABELS.tobytes())
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(DamagedCache):
        load(path)
