"""Odd, malformed and hostile input, one named kind a line, with what must become of it.

Each maker writes into its own folder. ``python -m tests.client.corpus FOLDER`` writes them all.
"""

from __future__ import annotations

import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from client.dicom import tags
from tests.client.dicom_factory import SeriesPlan, chest, dataset, sequence_item, write
from tests.client.enhanced_factory import enhanced

SLICES, SIZE, STEP_MM, PIXEL_MM = 24, 48, 8.0, 6.5
WATER = np.where(np.arange(SIZE) < 24, -1000, 0).astype(np.int16) + np.zeros((SLICES, SIZE, 1), np.int16)


@dataclass(frozen=True)
class Kind:
    """A kind of input: who writes it, the reasons that its files end with (``accepted`` is one), and a finding it must have."""

    write: Callable[[Path, int], None]
    outcomes: frozenset[str]
    finding: str = ""


def plan_of(seed: int, **changes: Any) -> SeriesPlan:
    """A chest of its own: no two kinds share an image, a patient or a UID."""
    hu = changes.pop("hu", None)
    if hu is None:
        hu = chest(changes.pop("slices", SLICES), SIZE, step_mm=STEP_MM, pixel_mm=PIXEL_MM, seed=seed)
    own = {"patient": f"P{seed}", "name": f"Name{seed}^Odd", "study": f"1.7.{seed}", "series": f"1.7.{seed}.1"}
    return SeriesPlan(hu, **{"step_mm": STEP_MM, "pixel_mm": (PIXEL_MM, PIXEL_MM), **own, **changes})


def series(**changes: Any) -> Callable[[Path, int], None]:
    return lambda folder, seed: void(write(folder, plan_of(seed, **changes), shuffle=True))


def missing(*skip: int, **changes: Any) -> Callable[[Path, int], None]:
    return lambda folder, seed: void(write(folder, plan_of(seed, **changes), skip=skip))


def void(*_: Any) -> None:
    return None


def syntax(uid: str) -> Callable[[Path, int], None]:
    def make(folder: Path, seed: int) -> None:
        folder.mkdir()
        plan = plan_of(seed)
        for k in range(SLICES):
            ds = dataset(plan, k, k + 1)
            if UID(uid).is_encapsulated:
                ds.compress(uid)
            ds.file_meta.TransferSyntaxUID = uid
            if uid == "1.2.840.10008.1.2.2":
                big = Dataset(ds)
                big.file_meta, big.preamble = ds.file_meta, ds.preamble
                big.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
                dcmwrite(folder / f"{k}", big, enforce_file_format=True, little_endian=False, implicit_vr=False)
            else:
                ds.save_as(folder / f"{k}", enforce_file_format=True)

    return make


def renamed_syntax(uid: str) -> Callable[[Path, int], None]:
    """Sound files whose meta header names another syntax."""

    def make(folder: Path, seed: int) -> None:
        for path in write(folder, plan_of(seed)):
            named = uid.encode().ljust(20, b"\0") if len(uid) <= 20 else uid.encode()
            data = path.read_bytes()
            at = data.index(b"1.2.840.10008.1.2.1\0")
            grown = data[: at - 2] + struct.pack("<H", len(named)) + named + data[at + 20 :]
            length = struct.unpack("<I", grown[140:144])[0] + len(named) - 20
            path.write_bytes(grown[:140] + struct.pack("<I", length) + grown[144:])

    return make


def changed(change: Callable[[bytes], bytes], **extra: Any) -> Callable[[Path, int], None]:
    """Every slice with its bytes changed."""

    def make(folder: Path, seed: int) -> None:
        for path in write(folder, plan_of(seed, extra=extra)):
            path.write_bytes(change(path.read_bytes()))

    return make


def one_file(name: str, data: bytes) -> Callable[[Path, int], None]:
    def make(folder: Path, _: int) -> None:
        folder.mkdir()
        (folder / name).write_bytes(data)

    return make


def one_dataset(change: Callable[[Any], None]) -> Callable[[Path, int], None]:
    def make(folder: Path, seed: int) -> None:
        folder.mkdir()
        ds = dataset(plan_of(seed), 0, 1)
        change(ds)
        ds.save_as(folder / "one", enforce_file_format=True)

    return make


def frames(change: Callable[[Any], None] = void, **options: Any) -> Callable[[Path, int], None]:
    def make(folder: Path, seed: int) -> None:
        folder.mkdir()
        ds = enhanced(plan_of(seed), **options)
        change(ds)
        ds.save_as(folder / "all.dcm", enforce_file_format=True)

    return make


def per_slice(change: Callable[[Any, int], None], **options: Any) -> Callable[[Path, int], None]:
    """Every slice's dataset changed; `change` gets the slice's number."""

    def make(folder: Path, seed: int) -> None:
        folder.mkdir()
        plan = plan_of(seed, **options)
        for k in range(len(plan.hu)):
            ds = dataset(plan, k, k + 1)
            change(ds, k)
            ds.save_as(folder / f"{k:03d}", enforce_file_format=True)

    return make


def _position(place: Callable[[int], list[float]]) -> Callable[[Any, int], None]:
    def change(ds: Any, k: int) -> None:
        ds.ImagePositionPatient = [f"{v:.3f}" for v in place(k)]

    return change


def _slope(ds: Any, k: int) -> None:
    slope = 1.0 + (k % 2)
    raw = np.frombuffer(ds.PixelData, "<u2").astype(float) - 1024
    ds.RescaleSlope, ds.RescaleIntercept = str(slope), "-2048"
    ds.PixelData = np.rint((raw + 2048) / slope).astype("<u2").tobytes()


def _overlay_bits(ds: Any, _: int) -> None:
    raw = np.frombuffer(ds.PixelData, "<u2").copy()
    raw[::7] |= 0x8000
    ds.BitsStored, ds.HighBit, ds.PixelData = 12, 11, raw.tobytes()


def _nested(depth: int) -> Callable[[Any], None]:
    def change(ds: Any) -> None:
        item = sequence_item(PatientName="Deep^Down")
        for _ in range(depth):
            item = sequence_item(SourceImageSequence=Sequence([item]))
        ds.SourceImageSequence = Sequence([item])

    return change


def _bottomless(data: bytes) -> bytes:
    # 20,000 sequences of undefined length, each opened inside the one before and none closed
    opened = b"\x08\x00\x12\x21SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    at = data.index(b"\x10\x00\x10\x00PN")
    return data[:at] + opened * 20_000 + data[at:]


def _wide(data: bytes) -> bytes:
    item = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    at = data.index(b"\x10\x00\x10\x00PN")
    return data[:at] + b"\x08\x00\x12\x21SQ\0\0" + struct.pack("<I", len(item) * 100_000) + item * 100_000 + data[at:]


def _length(length: int) -> Callable[[bytes], bytes]:
    """The patient's name with a length that lies."""

    def change(data: bytes) -> bytes:
        at = data.index(b"\x10\x00\x10\x00PN")
        return data[: at + 6] + struct.pack("<H", length) + data[at + 8 :]

    return change


def _pixel_length(data: bytes) -> bytes:
    at = data.rindex(b"\xe0\x7f\x10\x00OW")
    return data[: at + 8] + struct.pack("<I", 0xFFFFFFFE) + data[at + 12 :]


def _bomb(data: bytes) -> bytes:
    """A deflated body of a hundred kilobytes that becomes more than the limit."""
    start = 144 + int.from_bytes(data[140:144], "little")
    named = data[:start].replace(b"1.2.840.10008.1.2.1\0", tags.DEFLATED.encode())
    named = named[:140] + struct.pack("<I", len(named) - 144) + named[144:]
    at = named.index(tags.DEFLATED.encode())
    named = named[: at - 2] + struct.pack("<H", len(tags.DEFLATED)) + named[at:]
    press = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return named + b"".join([press.compress(bytes(1 << 20)) for _ in range(tags.MAX_INFLATED_BYTES // (1 << 20) + 8)]) + press.flush()


def _bombed(folder: Path, seed: int) -> None:
    path = write(folder, plan_of(seed), skip=tuple(range(1, SLICES)))[0]
    path.write_bytes(_bomb(path.read_bytes()))


def _lying_stream(folder: Path, seed: int) -> None:
    """JPEG 2000 slices whose stream announces 60,000 x 60,000 pixels."""
    syntax("1.2.840.10008.1.2.4.90")(folder, seed)
    for path in folder.iterdir():
        data = path.read_bytes()
        at = data.index(b"\xff\x4f\xff\x51") + 8
        path.write_bytes(data[:at] + struct.pack(">II", 60_000, 60_000) + data[at + 8 :])


def _sparse(folder: Path, seed: int) -> None:
    path = write(folder, plan_of(seed), skip=tuple(range(1, SLICES)))[0]
    os.truncate(path, tags.MAX_FILE_BYTES + 4096)


def _strange_names(folder: Path, seed: int) -> None:
    for number, path in enumerate(write(folder, plan_of(seed))):
        path.rename(folder / (f"スライス {number} " + "x" * 150 + ".IMA;1\n"))


def _links(folder: Path, _: int) -> None:
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere").symlink_to(folder / "gone")
    (folder / "device").symlink_to("/dev/zero")


def _pipe(folder: Path, _: int) -> None:
    folder.mkdir()
    os.mkfifo(folder / "pipe")


def _copied(patient: str = "") -> Callable[[Path, int], None]:
    """The same images a second time under other UIDs (and under another patient)."""

    def make(folder: Path, seed: int) -> None:
        write(folder / "1", plan_of(seed))
        other = {"patient": f"{patient}{seed}"} if patient else {}
        write(folder / "2", plan_of(seed, series=f"1.7.{seed}.2", study=f"1.7.{seed}.9", **other))

    return make


def _file_twice(folder: Path, seed: int) -> None:
    (folder / "copy").write_bytes(write(folder, plan_of(seed))[3].read_bytes())


def _two_acquisitions(folder: Path, seed: int) -> None:
    write(folder, plan_of(seed, extra={"AcquisitionNumber": "1"}))
    hu = np.flip(chest(SLICES, SIZE, step_mm=STEP_MM, pixel_mm=PIXEL_MM, seed=seed), axis=1).copy()
    write(folder, plan_of(seed, hu=hu, prefix="B", extra={"AcquisitionNumber": "2", "SOPInstanceUID": None}), skip=(0, 1))


def _no_preamble(data: bytes) -> bytes:
    return data[132:]


def _zip(folder: Path, seed: int) -> None:
    folder.mkdir()
    with zipfile.ZipFile(folder / "study.zip", "w") as archive:
        archive.writestr("../outside", b"x")


def _image(*words: str) -> dict[str, Any]:
    return {"image_type": words}


def _accept(make: Callable[[Path, int], None], finding: str = "") -> Kind:
    return Kind(make, frozenset({"accepted"}), finding)


def _end(make: Callable[[Path, int], None], *reasons: str) -> Kind:
    return Kind(make, frozenset(reasons))


CORPUS: dict[str, Kind] = {
    # odd, and good
    "plain": _accept(series()),
    "implicit little endian": _accept(syntax("1.2.840.10008.1.2")),
    "big endian": _accept(syntax("1.2.840.10008.1.2.2")),
    "deflated": _accept(syntax(tags.DEFLATED)),
    "RLE": _accept(syntax("1.2.840.10008.1.2.5")),
    "JPEG-LS": _accept(syntax("1.2.840.10008.1.2.4.80")),
    "JPEG 2000": _accept(syntax("1.2.840.10008.1.2.4.90")),
    "signed pixels": _accept(series(signed=True, intercept=0.0)),
    "intercept -8192": _accept(series(intercept=-8192.0)),
    "slope per slice": _accept(per_slice(_slope)),
    "padding -2000": _accept(series(signed=True, intercept=0.0, padding=-2000)),
    "overlay in high bits": _accept(per_slice(_overlay_bits)),
    "rows toward the front": _accept(series(orientation=(1, 0, 0, 0, -1, 0))),
    "gantry tilt": _accept(series(orientation=(1, 0, 0, 0, 0.985, 0.1736)), "GANTRY_TILT"),
    "uneven steps": _accept(series(heights_mm=list(np.cumsum(np.tile([7.0, 8.0, 8.0, 9.0], 6)))), "UNEVEN_STEPS"),
    "one slice missing": _accept(missing(11, step_mm=5.0), "MISSING_SLICE"),
    "HRCT with gaps": _accept(series(extra={"SliceThickness": "1"}), "GAPPED"),
    "declared lossy": _accept(series(extra={"LossyImageCompression": "01"}), "LOSSY"),
    "no rescale": _accept(series(signed=True, intercept=0.0, extra={"RescaleSlope": None, "RescaleIntercept": None}), "RESCALE_MISSING"),
    "prone": _accept(series(extra={"PatientPosition": "HFP"}), "PRONE"),
    "contrast": _accept(series(extra={"ContrastBolusAgent": "Iomeprol"}), "CONTRAST"),
    "sharp kernel": _accept(series(kernel="B70f"), "SHARP_KERNEL"),
    "few slices": _accept(series(slices=21), "FEW_SLICES"),
    "no dates": _accept(series(extra={"StudyDate": "", "StudyTime": ""})),
    "date that is none": _accept(changed(lambda data: data.replace(b"20240531", b"00000000"))),
    "no series UID": _accept(series(extra={"SeriesInstanceUID": None})),
    "unknown character set": _accept(changed(lambda data: data.replace(b"ISO_IR 100", b"ISO_IR 999"), SpecificCharacterSet="ISO_IR 100")),
    "strange file names": _accept(_strange_names),
    "enhanced CT": _accept(frames()),
    "enhanced CT, frames shuffled": _accept(frames(order=[int(k) for k in np.random.default_rng(1).permutation(SLICES)])),
    "enhanced CT, slope per frame": _accept(frames(slopes=[1.0 + k % 2 for k in range(SLICES)])),
    "enhanced CT, RLE": _accept(frames(lambda ds: ds.compress("1.2.840.10008.1.2.5"))),
    "a file twice": _end(_file_twice, "accepted", "DUPLICATE_FILE"),
    "two acquisitions": _end(_two_acquisitions, "accepted", "OTHER_ACQUISITION"),
    "series twice": _end(_copied(), "accepted", "DUPLICATE_SERIES"),
    # not for us
    "localizer": _end(series(**_image("ORIGINAL", "PRIMARY", "LOCALIZER")), "LOCALIZER"),
    "derived": _end(series(**_image("DERIVED", "SECONDARY", "MPR")), "DERIVED"),
    "screen shot": _end(series(**_image("ORIGINAL", "SECONDARY", "SCREEN SAVE")), "SECONDARY"),
    "dose page": _end(series(**_image("ORIGINAL", "PRIMARY", "DOSE_INFO")), "SECONDARY"),
    "dose report": _end(series(extra={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67", "Modality": "SR"}), "NOT_CT"),
    "secondary capture": _end(series(extra={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}), "NOT_CT"),
    "PET": _end(series(extra={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "Modality": "PT"}), "NOT_CT"),
    "MR": _end(series(extra={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR"}), "NOT_CT"),
    "encapsulated PDF": _end(one_dataset(lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.104.1")), "NOT_CT"),
    "DICOMDIR": _end(one_dataset(lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.1.3.10")), "DICOMDIR"),
    "text": _end(one_file("notes.txt", b"Jane Doe, born 24.12.1950"), "NOT_DICOM"),
    "PDF": _end(one_file("letter.dcm", b"%PDF-1.7\n" + bytes(2000)), "NOT_DICOM"),
    "zip with a way out": _end(_zip, "ARCHIVE_UNSAFE"),
    "empty file": _end(one_file("empty.dcm", b""), "EMPTY_FILE"),
    "no preamble": _end(changed(_no_preamble), "NOT_DICOM"),
    "links": _end(_links, "LINK"),
    "pipe": _end(_pipe, "LINK"),
    "coronal": _end(series(orientation=(1, 0, 0, 0, 0, -1)), "NOT_AXIAL"),
    "too few slices": _end(series(slices=12), "TOO_FEW_SLICES"),
    "no pixels": _end(series(extra={"PixelData": None}), "NO_PIXELS"),
    "no rows": _end(series(extra={"Rows": 0}), "NO_PIXELS"),
    "many frames in a class for one": _end(one_dataset(lambda ds: setattr(ds, "NumberOfFrames", 7)), "MULTI_FRAME"),
    # malformed
    "cut in the header": _end(changed(lambda data: data[:500]), "NO_PIXELS"),
    "cut in the pixels": _end(changed(lambda data: data[:-900]), "TRUNCATED"),
    "preamble and noise": _end(one_file("noise", bytes(128) + b"DICM" + np.random.default_rng(7).bytes(5000)), "UNREADABLE"),
    "preamble alone": _end(one_file("alone", bytes(128) + b"DICM"), "UNREADABLE"),
    "retired JPEG process": _end(renamed_syntax("1.2.840.10008.1.2.4.53"), "RETIRED_SYNTAX"),
    "unknown syntax": _end(renamed_syntax("1.2.3.4.5.6.7.8.9.10"), "TRANSFER_SYNTAX"),
    "MPEG": _end(renamed_syntax("1.2.840.10008.1.2.4.102"), "TRANSFER_SYNTAX"),
    "colour": _end(series(extra={"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}), "PIXEL_FORMAT"),
    "inverted grey": _end(series(extra={"PhotometricInterpretation": "MONOCHROME1"}), "PIXEL_FORMAT"),
    "24 bits": _end(series(extra={"BitsAllocated": 24}), "PIXEL_FORMAT"),
    "more bits stored than there are": _end(series(extra={"BitsStored": 40}), "PIXEL_FORMAT"),
    "no position": _end(series(extra={"ImagePositionPatient": None}), "NO_GEOMETRY"),
    "no spacing": _end(series(extra={"PixelSpacing": None}), "NO_GEOMETRY"),
    "spacing of zero": _end(series(extra={"PixelSpacing": ["0", "0"]}), "NO_GEOMETRY"),
    "orientation of zero": _end(series(orientation=(0, 0, 0, 0, 0, 0)), "NO_GEOMETRY"),
    "no patient id": _end(series(extra={"PatientID": ""}), "NO_PATIENT_ID"),
    "burned-in annotation": _end(series(extra={"BurnedInAnnotation": "YES"}), "BURNED_IN"),
    "two patients in one series": _end(per_slice(lambda ds, k: setattr(ds, "PatientID", "A1" if k % 2 else "B2")), "TWO_PATIENTS"),
    "same images, two patients": _end(_copied("Q"), "SAME_IMAGES_TWO_PATIENTS"),
    "gap": _end(missing(10, 11, 12), "GAP"),
    "all in one place": _end(per_slice(_position(lambda k: [-150, -150, 0])), "DUPLICATE_POSITIONS"),
    "slices that lean": _end(per_slice(_position(lambda k: [-150, -150 + 12 * k, 8 * k])), "UNEVEN_GEOMETRY"),
    "positions at random": _end(per_slice(_position(lambda k: [-150, -150, float(np.random.default_rng(k).uniform(0, 4000))])), "GAP"),
    "not HU": _end(series(extra={"RescaleSlope": "1", "RescaleIntercept": "0"}), "NOT_HU"),
    "slope of zero": _end(series(extra={"RescaleSlope": "0"}), "NOT_HU"),
    "slope beyond float": _end(series(extra={"RescaleSlope": "1e38"}), "NOT_HU"),
    "water phantom": _end(series(hu=WATER), "NO_LUNG"),
    "enhanced CT without positions": _end(frames(lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence")), "NO_GEOMETRY"),
    "enhanced CT, fewer frames than told": _end(frames(lambda ds: setattr(ds, "PixelData", ds.PixelData[:9000])), "TRUNCATED"),
    # hostile
    "a billion frames": _end(frames(lambda ds: setattr(ds, "NumberOfFrames", 10**9)), "TRUNCATED"),
    "frames below zero": _end(frames(lambda ds: setattr(ds, "NumberOfFrames", -5)), "MULTI_FRAME"),
    "60,000 rows": _end(series(extra={"Rows": 60_000, "Columns": 60_000}), "TOO_LARGE"),
    "more rows than bytes": _end(series(extra={"Rows": 4_000}), "TRUNCATED"),
    "half a gigabyte of nothing": _end(_sparse, "TOO_LARGE"),
    "deflate bomb": _end(_bombed, "TOO_LARGE"),
    "JPEG 2000 that announces gigabytes": _end(_lying_stream, "CORRUPT_SLICES"),
    "bottomless sequences": _end(changed(_bottomless), "UNREADABLE"),
    "60 nested sequences": _accept(per_slice(lambda ds, k: _nested(60)(ds) if k == SLICES // 2 else None)),
    "100,000 sequence items": _accept(changed(_wide)),
    "name longer than the file": _end(changed(_length(0xFFFF)), "NO_PIXELS"),
    "pixel data of four gigabytes": _accept(changed(_pixel_length)),
    "noise for pixels": _end(per_slice(lambda ds, k: setattr(ds, "PixelData", np.random.default_rng(k).bytes(len(ds.PixelData)))), "NOT_HU"),
}
"""Name of the kind to maker and outcome."""


def folder_of(name: str) -> str:
    """A kind's folder: its name in letters and digits."""
    return "".join(c if c.isalnum() else "-" for c in name)


def write_corpus(folder: Path) -> None:
    """Write every kind into a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, kind) in enumerate(CORPUS.items()):
        kind.write(folder / folder_of(name), 100 + number)


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
