"""DICOM series made on the spot: a small chest with two lungs, a windpipe and a spine, and every way of spoiling it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"


def chest(slices: int = 40, size: int = 64, *, step_mm: float = 5.0, pixel_mm: float = 5.0, seed: int = 0) -> np.ndarray:
    """A chest in HU, shape (z, y, x), slice 0 at the feet; x grows to the patient's left. The right lung is the larger one."""
    z, y, x = np.meshgrid(
        (np.arange(slices) - (slices - 1) / 2) * step_mm,
        (np.arange(size) - (size - 1) / 2) * pixel_mm,
        (np.arange(size) - (size - 1) / 2) * pixel_mm,
        indexing="ij",
    )
    hu = np.full(z.shape, -1000.0)
    hu[(x / 145) ** 2 + (y / 105) ** 2 < 1] = 40
    for centre, width in ((-65, 52), (65, 44)):
        hu[((x - centre) / width) ** 2 + (y / 75) ** 2 + (z / 85) ** 2 < 1] = -850
    hu[(x / 9) ** 2 + ((y + 20) / 9) ** 2 < 1] = np.where(z[(x / 9) ** 2 + ((y + 20) / 9) ** 2 < 1] > 10, -1000, 40)
    hu[(x / 15) ** 2 + ((y - 75) / 15) ** 2 < 1] = 400
    return np.maximum(np.rint(hu + np.random.default_rng(seed).normal(0, 12, hu.shape)), -1024).astype(np.int16)


@dataclass
class SeriesPlan:
    """How a series is written; every field may be spoilt."""

    hu: np.ndarray
    step_mm: float = 5.0
    pixel_mm: tuple[float, float] = (5.0, 5.0)
    patient: str = "Doe-0007"
    name: str = "Doe^Jane"
    date: str = "20240531"
    study: str = "1.2.3.1"
    series: str = "1.2.3.1.1"
    slope: float = 1.0
    intercept: float = -1024.0
    signed: bool = False
    padding: int | None = None
    kernel: str = "B40f"
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    heights_mm: list[float] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    prefix: str = "IM"

    def position(self, k: int) -> list[float]:
        height = self.heights_mm[k] if self.heights_mm else k * self.step_mm
        return [-150.0, -150.0, -100.0 + height]


def dataset(plan: SeriesPlan, k: int, number: int) -> FileDataset:
    """One slice as a pydicom dataset."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT
    meta.MediaStorageSOPInstanceUID = f"{plan.series}.{k + 1}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = plan.study, plan.series
    ds.Modality, ds.ImageType = "CT", list(plan.image_type)
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = plan.patient, plan.name, "19501224", "F", "073Y"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = plan.date, "101112", "ACC4711"
    ds.Manufacturer, ds.ConvolutionKernel, ds.SliceThickness, ds.KVP = "SIEMENS", plan.kernel, str(plan.step_mm), "120"
    ds.PatientPosition, ds.InstitutionName, ds.ReferringPhysicianName = "HFS", "General Hospital", "House^Gregory"
    ds.InstanceNumber = str(number)
    ds.ImagePositionPatient = [f"{v:.4f}" for v in plan.position(k)]
    ds.ImageOrientationPatient = [f"{v:.6f}" for v in plan.orientation]
    ds.PixelSpacing = [str(v) for v in plan.pixel_mm]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, int(plan.signed)
    ds.Rows, ds.Columns = plan.hu.shape[1:]
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = str(plan.slope), str(plan.intercept), "HU"
    raw = np.rint((plan.hu[k].astype(np.float64) - plan.intercept) / plan.slope)
    if plan.padding is not None:
        ds.add_new(0x00280120, "SS" if plan.signed else "US", plan.padding)
        y, x = np.ogrid[: plan.hu.shape[1], : plan.hu.shape[2]]
        centre = (plan.hu.shape[1] - 1) / 2
        raw[(y - centre) ** 2 + (x - centre) ** 2 > (centre + 1) ** 2] = plan.padding
    ds.PixelData = raw.astype("<i2" if plan.signed else "<u2").tobytes()
    for keyword, value in plan.extra.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def write(folder: Path, plan: SeriesPlan, *, shuffle: bool = False, skip: tuple[int, ...] = ()) -> list[Path]:
    """Write the series and return the path of each slice, from feet to head; `shuffle` mixes instance numbers and file names."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(plan.hu)
    numbers = np.random.default_rng(5).permutation(count) if shuffle else np.arange(count)
    paths = []
    for k in range(count):
        path = folder / f"{plan.prefix}{numbers[k]:04d}"
        paths.append(path)
        if k not in skip:
            dataset(plan, k, int(numbers[k]) + 1).save_as(path, enforce_file_format=True)
    return paths


def sequence_item(**values: Any) -> Dataset:
    """A dataset for a sequence."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
