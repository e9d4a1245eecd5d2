"""Enhanced CT made on the spot: all slices of a plan in one file, geometry and rescale in functional groups."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence

from tests.client.dicom_factory import SeriesPlan, dataset, sequence_item

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def enhanced(plan: SeriesPlan, *, order: list[int] | None = None, slopes: list[float] | None = None) -> FileDataset:
    """One multi-frame dataset; `order` says which slice (from the feet) each frame holds, `slopes` its rescale slope."""
    order = list(range(len(plan.hu))) if order is None else order
    ds = dataset(plan, 0, 1)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED_CT
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{plan.series}.9"
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "RescaleType"):
        delattr(ds, keyword)
    kernel, thickness = ds.ConvolutionKernel, ds.SliceThickness
    del ds.ConvolutionKernel, ds.SliceThickness, ds.KVP
    ds.NumberOfFrames = len(order)
    raw, frames = [], []
    for number, k in enumerate(order):
        slope = slopes[number] if slopes else plan.slope
        raw.append(np.rint((plan.hu[k].astype(np.float64) - plan.intercept) / slope).astype("<i2" if plan.signed else "<u2"))
        frames.append(
            sequence_item(
                PlanePositionSequence=Sequence([sequence_item(ImagePositionPatient=[f"{v:.4f}" for v in plan.position(k)])]),
                PixelValueTransformationSequence=Sequence(
                    [sequence_item(RescaleSlope=str(slope), RescaleIntercept=str(plan.intercept), RescaleType="HU")]
                ),
                FrameContentSequence=Sequence([sequence_item(StackID="1", FrameAcquisitionDateTime="20240531101112")]),
            )
        )
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    ds.SharedFunctionalGroupsSequence = Sequence(
        [
            sequence_item(
                PlaneOrientationSequence=Sequence([sequence_item(ImageOrientationPatient=[f"{v:.6f}" for v in plan.orientation])]),
                PixelMeasuresSequence=Sequence([sequence_item(PixelSpacing=[str(v) for v in plan.pixel_mm], SliceThickness=thickness)]),
                CTReconstructionSequence=Sequence([sequence_item(ConvolutionKernel=kernel)]),
                CTXRayDetailsSequence=Sequence([sequence_item(KVP="120")]),
                CTImageFrameTypeSequence=Sequence([sequence_item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])]),
            )
        ]
    )
    ds.PixelData = np.stack(raw).tobytes()
    return ds
