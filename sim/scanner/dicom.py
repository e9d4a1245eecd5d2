"""A scan as DICOM files: CT Image Storage with every required attribute, written fast, and the disorder that real archives hold.

Nothing here is a person: names and numbers say PHANTOM. They fill the attributes that hold identity in a real file (PS3.15 table E.1-1), so that
de-identification has something to remove.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from sim.scanner.scanner import Scan, Scanner


@dataclass(frozen=True)
class Identity:
    """Who is scanned and when: all of it invented.

    Parameters
    ----------
    patient_id : str
        Number of the patient at this hospital.
    name : str
        Name as DICOM writes it, ``Family^Given``.
    birth_date : date
        Day of birth.
    sex : str
        M or F.
    study_date : date
        Day of the scan.
    hospital : str
        Name of the hospital.
    """

    patient_id: str
    name: str
    birth_date: date
    sex: str
    study_date: date
    hospital: str

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID: the same patient and day give the same study."""
        return _uid(self, "study")

    def series_uid(self, number: int = 1) -> str:
        """SeriesInstanceUID of the series with that number."""
        return _uid(self, number)


def write_series(
    folder: Path,
    scanned: Scan,
    scanner: Scanner,
    who: Identity,
    *,
    number: int = 1,
    description: str = "CHEST HRCT",
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL"),
    prone: bool = False,
    shuffled: bool = False,
    corrupt: bool = False,
) -> None:
    """Write one CT series, a file per slice.

    Parameters
    ----------
    folder : Path
        Where the files go; made when missing.
    scanned : Scan
        Voxels and geometry.
    scanner : Scanner
        Names, kernel, rescale and padding of the files.
    who : Identity
        Patient, day and hospital.
    number : int
        SeriesNumber; part of the series' UID.
    description : str
        SeriesDescription.
    image_type : tuple of str
        ImageType; anything but ORIGINAL PRIMARY AXIAL is no study to read.
    prone : bool
        Write the patient lying on the front: rows and columns turned by half a turn, with the orientation that says so.
    shuffled : bool
        InstanceNumber and file names in an order that is not the order in space.
    corrupt : bool
        Cut the file of the middle slice short.
    """
    folder.mkdir(parents=True, exist_ok=True)
    turn = -1 if prone else 1
    pixels = (scanned.hu[:, ::turn, ::turn].astype(np.int32) - scanner.intercept).astype("<i2")
    count, rows, columns = pixels.shape
    series = _series(scanned, scanner, who, number, description, image_type, prone, rows, columns)
    # attributes are stored by tag: what all slices share is encoded once, around the few that each has of its own
    head, tail = _preamble() + _encoded(series, below=0x0020_0013), _encoded(series, above=0x0020_1041)
    z_mm, y_mm, x_mm = scanned.axes_mm()
    first_y_mm, first_x_mm = (y_mm[-1], x_mm[-1]) if prone else (y_mm[0], x_mm[0])
    order = np.random.default_rng(list(scanned.hu.shape)).permutation(count) if shuffled else np.arange(count)
    for index in range(count):
        instance, z = int(order[index]) + 1, -z_mm[index]
        own = (
            _text(0x0020, 0x0013, "IS", str(instance))
            + _text(0x0020, 0x0032, "DS", f"{first_x_mm:.4f}\\{first_y_mm:.4f}\\{z:.4f}")
            + _text(0x0020, 0x0037, "DS", f"{turn}\\0\\0\\0\\{turn}\\0")
            + _text(0x0020, 0x0052, "UI", _uid(who, "frame"))
            + _text(0x0020, 0x1040, "LO", "")
            + _text(0x0020, 0x1041, "DS", f"{z:.4f}")
        )
        data = pixels[index].tobytes()
        file = head.replace(_PLACE_OF_UID, _uid(who, number, index).encode()) + own + tail
        file += b"\xe0\x7f\x10\x00OW\0\0" + len(data).to_bytes(4, "little") + data
        if corrupt and index == count // 2:
            file = file[: len(file) - len(data) // 2]
        (folder / f"IM{instance:04d}.dcm").write_bytes(file)


_PLACE_OF_UID = b"1." + b"2" * 62
"""Stands for the SOPInstanceUID while the shared attributes are encoded; the UIDs of `_uid` are always 64 characters long."""


def _series(
    scanned: Scan,
    scanner: Scanner,
    who: Identity,
    number: int,
    description: str,
    image_type: tuple[str, ...],
    prone: bool,
    rows: int,
    columns: int,
) -> Dataset:
    """Attributes that all slices share. Modules: PS3.3 A.3 (CT Image IOD); clause of each below."""
    day = f"{who.study_date:%Y%m%d}"
    ds = Dataset()
    # C.12.1 SOP Common, C.7.6.1 General Image
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = list(image_type)
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = _PLACE_OF_UID.decode()
    # C.7.1.1 Patient, C.7.2.1 General Study, C.7.2.2 Patient Study
    ds.PatientName, ds.PatientID = who.name, who.patient_id
    ds.PatientBirthDate, ds.PatientSex = f"{who.birth_date:%Y%m%d}", who.sex
    ds.PatientAge = f"{(who.study_date - who.birth_date).days // 365:03d}Y"
    ds.PatientAddress, ds.PatientComments = "1 Phantom Street", "synthetic phantom, not a person"
    ds.StudyInstanceUID, ds.StudyID, ds.AccessionNumber = who.study_uid, day[2:], f"PH{day}"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "090000"
    ds.StudyDescription, ds.ReferringPhysicianName = "CHEST CT", "Phantom^Physician"
    # C.7.3.1 General Series, C.7.5.1 General Equipment
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "CT", who.series_uid(number), number
    ds.SeriesDescription, ds.BodyPartExamined, ds.PatientPosition = description, "CHEST", "HFP" if prone else "HFS"
    ds.Manufacturer, ds.ManufacturerModelName = scanner.manufacturer, scanner.model
    ds.InstitutionName, ds.StationName, ds.DeviceSerialNumber = f"Phantom Hospital {who.hospital}", "PHANTOM-CT", "000000"
    # C.7.6.2 Image Plane, C.7.6.3 Image Pixel, C.8.2.1 CT Image
    ds.SliceThickness, ds.SpacingBetweenSlices = f"{scanner.thickness_mm:.4f}", f"{scanned.spacing_mm[0]:.4f}"
    ds.PixelSpacing = [f"{mm:.5f}" for mm in scanned.spacing_mm[1:]]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    if scanner.padding is not None:
        ds.add_new(0x0028_0120, "SS", scanner.padding - scanner.intercept)
    ds.WindowCenter, ds.WindowWidth = -600, 1500
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = scanner.intercept, 1, "HU"
    ds.KVP, ds.ConvolutionKernel, ds.AcquisitionNumber = scanner.kvp, scanner.kernel_name, 1
    return ds


def _uid(who: Identity, *parts: object) -> UID:
    """A UID that depends on its parts alone."""
    return generate_uid(entropy_srcs=[who.hospital, who.patient_id, f"{who.study_date}", *map(str, parts)])


def _encoded(dataset: Dataset, *, above: int = 0, below: int = 0xFFFF_FFFF) -> bytes:
    """Explicit VR little endian bytes of the attributes with ``above < tag < below``."""
    part = Dataset({tag: element for tag, element in dataset.items() if above < tag < below})
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, part)
    return buffer.getvalue()


def _text(group: int, element: int, vr: str, value: str) -> bytes:
    """Explicit VR little endian bytes of one attribute of text, padded to an even length (PS3.5 section 7.1.2)."""
    data = value.encode("ascii")
    data += (b"\0" if vr == "UI" else b" ") * (len(data) % 2)
    return struct.pack("<HH2sH", group, element, vr.encode(), len(data)) + data


def _preamble() -> bytes:
    """What a file begins with: preamble, DICM and file meta information (PS3.10 section 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = UID(_PLACE_OF_UID.decode())
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return b"\0" * 128 + b"DICM" + buffer.getvalue()
