"""Decoders against the uncompressed slice, overlay bits, and each quality check on both sides of its limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from client.cases.volume import Volume
from client.dicom import tags
from client.dicom.acquisition import Acquisition
from client.dicom.header import Dismissed, SliceFile, read_header, read_headers
from client.dicom.limits import LIMITS
from client.dicom.motion import step_changes
from client.dicom.pixels import read_hu
from client.dicom.quality import CHECKS, MASK_CHECKS, Subject, check, noise_hu
from client.dicom.read import read_series
from client.dicom.scan import group, list_files
from shared_models.core.errors import BadStudy
from tests.client.dicom_factory import SeriesPlan, chest, dataset, write
from tests.client.real_data import needs_real_data, real

CHEST = chest(20, 64)


def hu_of(path: Path) -> np.ndarray:
    one = read_headers([str(path)])[0]
    assert isinstance(one, SliceFile)
    out = np.empty((one.rows, one.columns), np.float32)
    read_hu(one, out)
    return out


@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.5",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90",
    ],
)
def test_lossless_syntaxes_are_exact(tmp_path: Path, syntax: str) -> None:
    ds = dataset(SeriesPlan(CHEST), 10, 1)
    path = tmp_path / "one"
    if syntax.startswith(("1.2.840.10008.1.2.4", "1.2.840.10008.1.2.5")):
        ds.compress(syntax)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    np.testing.assert_array_equal(hu_of(path), CHEST[10])


def test_overlay_bits_above_the_stored_ones_are_cut(tmp_path: Path) -> None:
    ds = dataset(SeriesPlan(CHEST, intercept=-1024.0), 5, 1)
    ds.BitsStored, ds.HighBit = 12, 11
    raw = np.frombuffer(ds.PixelData, "<u2").copy()
    raw[::7] |= 0x8000
    ds.PixelData = raw.tobytes()
    ds.save_as(tmp_path / "one", enforce_file_format=True)
    np.testing.assert_array_equal(hu_of(tmp_path / "one"), CHEST[5])


def test_unknown_syntax_is_turned_away_by_name(tmp_path: Path) -> None:
    ds = dataset(SeriesPlan(CHEST), 0, 1)
    ds.save_as(tmp_path / "one", enforce_file_format=True)
    data = (tmp_path / "one").read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0", 1)
    (tmp_path / "one").write_bytes(data)
    found = read_headers([str(tmp_path / "one")])[0]
    assert isinstance(found, Dismissed) and found.reason == "TRANSFER_SYNTAX"


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path) -> None:
    import zlib

    ds = dataset(SeriesPlan(CHEST), 0, 1)
    ds.file_meta.TransferSyntaxUID = tags.DEFLATED
    ds.save_as(tmp_path / "one", enforce_file_format=True)
    data = (tmp_path / "one").read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    press = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join([press.compress(bytes(1 << 20)) for _ in range(tags.MAX_INFLATED_BYTES // (1 << 20) + 8)]) + press.flush()
    (tmp_path / "one").write_bytes(data[:start] + bomb)
    found = read_header(str(tmp_path / "one"))
    assert isinstance(found, Dismissed) and found.reason == "TOO_LARGE"


def test_links_are_not_followed(tmp_path: Path) -> None:
    paths = write(tmp_path / "a", SeriesPlan(CHEST))
    (tmp_path / "link").symlink_to(paths[0])
    found = read_header(str(tmp_path / "link"))
    assert isinstance(found, Dismissed) and found.reason == "LINK"


def test_every_reason_has_words() -> None:
    assert not set(tags.SKIPPED) & set(tags.QUARANTINED)
    assert all(meaning and remedy for meaning, remedy in (*tags.QUARANTINED.values(), *tags.SKIPPED.values()))


def subject(hu: np.ndarray, spacing: tuple[float, float, float] = (2.0, 5.0, 5.0), **acquisition: object) -> Subject:
    return Subject(Volume(hu.astype(np.float32), spacing), Acquisition(**acquisition))  # pyright: ignore[reportArgumentType]


def masked(mask: np.ndarray, step: float = 10.0) -> Subject:
    return Subject(Volume(np.zeros(mask.shape, np.float32), (step, step, step)), Acquisition(), mask.astype(np.uint8))


def lungs(low: int = 3, high: int = 17, left: int = 20) -> np.ndarray:
    mask = np.zeros((20, 30, 50), np.uint8)
    mask[low:high, 5:25, 2:20], mask[low:high, 5:25, 22 : 22 + left] = 1, 2
    return mask


FULL = chest(100, 64, step_mm=2.0)


@pytest.mark.parametrize(
    ("code", "bad", "good"),
    [
        ("NOT_HU", subject(FULL + 1024), subject(FULL)),
        ("THICK_SLICES", subject(FULL, (3.5, 5, 5)), subject(FULL, (3.0, 5, 5))),
        ("GAPPED", subject(FULL, (10, 5, 5), thickness_mm=1.0), subject(FULL, (2, 5, 5), thickness_mm=1.0)),
        ("SHORT_SERIES", subject(FULL[:60]), subject(FULL)),
        ("PADDED", subject(np.where(np.arange(64) < 45, -1024, FULL)), subject(FULL)),
        ("NOISY", subject(FULL + np.random.default_rng(0).normal(0, 90, FULL.shape)), subject(FULL)),
        ("SHARP_KERNEL", subject(FULL, kernel_class="sharp"), subject(FULL, kernel_class="soft")),
        ("FEW_SLICES", subject(FULL[:24]), subject(FULL[:25])),
        ("CONTRAST", subject(FULL, contrast=True), subject(FULL, contrast=False)),
        ("PRONE", subject(FULL, position="FFP"), subject(FULL, position="HFS")),
        ("MOTION", subject(np.concatenate([FULL[:50], np.roll(FULL[50:], 2, axis=1)])), subject(FULL)),
        ("TRUNCATED_VIEW", subject(FULL[:, :, 10:54]), subject(FULL)),
        ("LUNG_VOLUME", masked(lungs(), 2.0), masked(lungs(), 6.0)),
        ("CUT_OFF", masked(lungs(low=0), 6.0), masked(lungs(), 6.0)),
        ("ONE_SIDED", masked(lungs(left=1), 6.0), masked(lungs(), 6.0)),
    ],
)
def test_each_check_on_both_sides(code: str, bad: Subject, good: Subject) -> None:
    assert code in {f.code for f in check(bad)} and code not in {f.code for f in check(good)}
    assert code in CHECKS or code in MASK_CHECKS


def test_a_shift_too_small_to_stand_out_is_found_by_what_fits_better() -> None:
    soft = ndimage.gaussian_filter(FULL.astype(np.float32), (0, 1.5, 1.5)) + np.random.default_rng(0).normal(0, 60, FULL.shape)
    moved = np.concatenate([soft[:50], np.roll(soft[50:], 1, axis=2)])
    assert max(step_changes(subject(moved).volume).values()) < LIMITS["jump"].value
    (found,) = [finding for finding in check(subject(moved)) if finding.code == "MOTION"]
    assert "when moved by 5 mm" in found.text
    assert "MOTION" not in {finding.code for finding in check(subject(soft))}


@needs_real_data
@pytest.mark.parametrize("folder", [("cip_chest", "ct-64Dicom"), ("lung_pet_ct_dx",)])
def test_real_scans_are_still_until_they_are_moved_by_6_mm(folder: tuple[str, ...]) -> None:
    for one in group(read_headers(list_files(real(*folder))))[0]:
        volume = read_series(one).volume
        assert "MOTION" not in {finding.code for finding in check(Subject(volume, Acquisition()))}
        half, (_, y_mm, x_mm) = len(volume.hu) // 2, volume.spacing_mm
        for away in ((0, 6 / y_mm, 0), (0, 0, 6 / x_mm)):
            hu = np.concatenate([volume.hu[:half], ndimage.shift(volume.hu[half:], away, order=1, mode="nearest")])
            assert "MOTION" in {finding.code for finding in check(Subject(replace(volume, hu=hu), Acquisition()))}, away


def test_every_check_is_tested() -> None:
    tested = {mark.args[1][i][0] for mark in test_each_check_on_both_sides.pytestmark for i in range(len(mark.args[1]))}  # pyright: ignore[reportFunctionMemberAccess]
    assert tested == set(CHECKS) | set(MASK_CHECKS)


@pytest.mark.parametrize("sd", [10.0, 30.0, 60.0])
def test_noise_is_measured(sd: float) -> None:
    hu = np.full((12, 60, 60), 40.0) + np.random.default_rng(3).normal(0, sd, (12, 60, 60))
    assert noise_hu(Volume(hu.astype(np.float32), (1, 1, 1))) == pytest.approx(sd, rel=0.15)


@needs_real_data
def test_real_codecs() -> None:
    """One slice in 15 syntaxes (its header says DERIVED, which is let in here): lossless ones equal, retired ones refused by name."""
    import unittest.mock

    folder = real("cornerstone_ct_codecs")
    with unittest.mock.patch.dict(tags.IMAGE_TYPES_TURNED_AWAY, clear=True):
        found = {p.name: read_headers([str(p)])[0] for p in sorted(folder.glob("CTImage.dcm_*"))}
    assert len(found) >= 14
    images: dict[str, np.ndarray] = {}
    for name, one in found.items():
        syntax = name.split("_")[-1].removesuffix(".dcm")
        if isinstance(one, Dismissed):
            assert syntax.endswith((".53", ".55")) and one.reason == "RETIRED_SYNTAX", name
            continue
        out = np.empty((one.rows, one.columns), np.float32)
        if syntax.endswith(".51"):  # no permissive decoder for 12-bit JPEG Extended: named, not guessed
            with pytest.raises(BadStudy) as caught:
                read_hu(one, out)
            assert caught.value.reason == "UNDECODABLE"
            continue
        read_hu(one, out)
        images[syntax] = out
        assert one.lossy or tags.TRANSFER_SYNTAXES[syntax] != "lossy"
    truth = images["1.2.840.10008.1.2.1"]
    for syntax, image in images.items():
        if tags.TRANSFER_SYNTAXES[syntax] != "lossy":
            np.testing.assert_array_equal(image, truth, err_msg=syntax)
