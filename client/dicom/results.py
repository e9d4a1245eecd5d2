"""What a prediction gives back to the PACS: a DICOM SEG of the lungs, one of the patterns, and an SR with their measurements, for research only.

SEG: Segmentation IOD, PS3.3 A.51, BINARY, on the slices of the series itself. SR: Comprehensive 3D SR, PS3.3 A.35.13, after TID 1500
"Measurement Report", PS3.16. Each is a new series of the same study, says which program made it from which release, is unverified, and changes
nothing that is there. Codes are of DICOM, SNOMED CT and UCUM where there is one; what a model calls a class has a code of ours, scheme 99FEDILD.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from client.cases.volume import Volume
from shared_models.bundle import NOTICE
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput
from shared_models.patterns import PATTERNS
from shared_models.taxonomy import PATTERNS as TITLES

if TYPE_CHECKING:
    from highdicom.seg import Segmentation
    from highdicom.sr import CodedConcept, Comprehensive3DSR
    from pydicom.dataset import Dataset

SCHEME = "99FEDILD"
MAKER, DEVICE = "FedILD", "FedILD predict"
SERIES_SEG, SERIES_SR, SERIES_PATTERNS = 9801, 9802, 9803
"""Series numbers far from those of a scanner."""

LUNG = ("39607008", "SCT", "Lung structure")
LUNGS = {"right lung": ("3341006", "SCT", "Right lung"), "left lung": ("44029006", "SCT", "Left lung")}
ORGAN, ABNORMAL = ("123037004", "SCT", "Anatomical Structure"), ("49755003", "SCT", "Morphologically Altered Structure")
FINDINGS = {
    "ggo": ("112120", "DCM", "Ground glass opacity"),
    "reticulation": ("112113", "DCM", "Reticular pattern"),
    "honeycombing": ("112106", "DCM", "Honeycomb pattern"),
    "micronodules": ("112122", "DCM", "Micronodule"),
    "emphysema": ("87433001", "SCT", "Pulmonary emphysema"),
    "consolidation": ("95436008", "SCT", "Lung consolidation"),
}
"""Patterns that DICOM (PS3.16, CID 6102 "Chest Finding or Feature" and what it includes) or SNOMED CT has a code for; others take one of ours."""


NO_STEP = 1e-6
"""Voxels over a whole slice: what a rounded direction cosine leaves, and no step."""

MAY_BE_EMPTY = (
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
)
"""Type 2 of the modules that are copied from the images: an archive may have left them out altogether."""


@dataclass(frozen=True)
class Measured:
    """A number for the report: what it is, its value, and its unit in UCUM (``%``, ``mL``, ``L``, ``[hnsf'U]``, ``1``)."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class Maker:
    """Which release made this: its name, its digest, the version of the program."""

    model: str
    digest: str
    version: str


def on_slices(labels: Mask, grid: Volume, images: Sequence[Dataset]) -> Mask:
    """Return a label map on the slices of a series, shape (n, rows, columns): the nearest voxel of the prepared grid, 0 outside it.

    Parameters
    ----------
    labels : ndarray of uint8, shape (z, y, x)
        On the grid of `grid`.
    grid : Volume
        Origin, spacing and direction of the prepared image.
    images : sequence of Dataset
        CT images, in any order; it is kept.
    """
    direction = np.eye(3)[::-1] if grid.direction is None else np.asarray(grid.direction, float)
    to_grid = np.linalg.inv((direction * np.asarray(grid.spacing_mm)[:, None]).T)
    shape = (int(images[0].Rows), int(images[0].Columns))
    found = np.zeros((len(images), *shape), np.uint8)
    for number, image in enumerate(images):
        row, column = (np.asarray(image.ImageOrientationPatient[part : part + 3], float) for part in (0, 3))
        step_down, step_right = (float(value) for value in image.PixelSpacing)
        # One slice is an affine plane: a base point and two steps, all in voxels of the grid.
        base = to_grid @ (np.asarray(image.ImagePositionPatient, float) - np.asarray(grid.origin_mm, float))
        steps = to_grid @ (column * step_down), to_grid @ (row * step_right)
        index = _by_axis(base, steps, shape) if _along_axes(steps, shape) else _by_voxel(base, steps, shape)
        inside = [(part >= 0) & (part < size) for part, size in zip(index, labels.shape, strict=True)]
        nearest = labels[tuple(np.clip(part, 0, size - 1) for part, size in zip(index, labels.shape, strict=True))]
        found[number] = np.where(inside[0] & inside[1] & inside[2], nearest, 0)
    return found


Steps = tuple[np.ndarray, np.ndarray]
"""One row down and one column to the right, in voxels of a grid."""


def _along_axes(steps: Steps, shape: tuple[int, int]) -> bool:
    """Say whether each axis of the grid changes along rows or along columns, not along both: then an index is found by axis, not by voxel."""
    down, right = (np.abs(step) * size > NO_STEP for step, size in zip(steps, shape, strict=True))
    return not (down & right).any()


def _by_axis(base: np.ndarray, steps: Steps, shape: tuple[int, int]) -> list[np.ndarray]:
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    down, right = (np.where(np.abs(step) * size > NO_STEP, step, 0.0) for step, size in zip(steps, shape, strict=True))
    return [np.rint(b + (d * rows if d else r * columns)).astype(np.intp) for b, d, r in zip(base, down, right, strict=True)]


def _by_voxel(base: np.ndarray, steps: Steps, shape: tuple[int, int]) -> list[np.ndarray]:
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return [np.rint(b + d * rows + r * columns).astype(np.intp) for b, d, r in zip(base, *steps, strict=True)]


def read_images(paths: Sequence[Path]) -> list[Dataset]:
    """Read the CT images of a series that results are made for, without their pixels: results take over what is said of an image.

    Raises
    ------
    BadInput
        Images of another kind: results of multi-frame series are not written.
    """
    from pydicom import dcmread
    from pydicom.uid import CTImageStorage

    images: list[Dataset] = [dcmread(path, stop_before_pixels=True) for path in paths]
    if any(image.SOPClassUID != CTImageStorage for image in images):
        raise BadInput("DICOM results are written for series of single CT images", remedy="the JSON and the page of the prediction are there")
    for image in images:
        _complete(image)  # they were read for the results alone: none of them need be copied for it later
    return images


def _complete(image: Dataset) -> None:
    for keyword in MAY_BE_EMPTY:
        if keyword not in image:
            setattr(image, keyword, None)


def source_images(images: Sequence[Dataset]) -> list[Dataset]:
    """Return the images with everything that a result takes over from them: where the archive has left it out, a copy in which it is empty.

    Raises
    ------
    BadInput
        Images without a frame of reference: nothing can say where a segment lies.
    """
    import copy

    found = []
    for image in images:
        if not image.get("FrameOfReferenceUID"):
            raise BadInput("results need images with a frame of reference", remedy="the JSON and the page of the prediction need none")
        whole = image if all(keyword in image for keyword in MAY_BE_EMPTY) else copy.deepcopy(image)
        _complete(whole)
        found.append(whole)
    return found


def segmentation(
    images: Sequence[Dataset],
    labels: Mask,
    names: Mapping[int, str],
    maker: Maker,
    *,
    series_number: int = SERIES_SEG,
    colours: Mapping[str, tuple[int, int, int]] | None = None,
) -> Segmentation:
    """Return a SEG with one segment for each label that is there.

    Parameters
    ----------
    images : sequence of Dataset
        CT images of one series.
    labels : ndarray of uint8, shape (n, rows, columns)
        0 elsewhere; in the order of `images`.
    names : mapping of int to str
        ``right lung``, ``left lung`` or the name of a pattern, for each label.
    maker : Maker
        Whose work it is.
    series_number : int
        Of the new series.
    colours : mapping of str to (int, int, int), optional
        Red, green and blue in which viewers are asked to show a segment, by the name of the label.

    Raises
    ------
    BadInput
        No label is there, or the shapes differ.
    """
    from highdicom import UID, AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    if labels.shape != (len(images), int(images[0].Rows), int(images[0].Columns)):
        raise BadInput("labels lie on the slices of the series", value=labels.shape)
    present = [number for number in sorted(names) if (labels == number).any()]
    if not present:
        raise BadInput("a segmentation needs a label", value=0)
    family = codes.DCM.ArtificialIntelligence
    who = AlgorithmIdentificationSequence(name=maker.model, family=family, version=maker.version, parameters={"release": maker.digest})
    segments = []
    for place, number in enumerate(present, 1):
        category, kind = _property_of(names[number])
        segments.append(
            SegmentDescription(
                segment_number=place,
                segment_label=title_of(names[number]),
                segmented_property_category=category,
                segmented_property_type=kind,
                algorithm_type="AUTOMATIC",
                algorithm_identification=who,
                tracking_uid=UID(),
                tracking_id=f"{title_of(names[number])}, {maker.digest[:16]}",
                display_color=None if colours is None or names[number] not in colours else CIELabColor.from_rgb(*colours[names[number]]),
            )
        )
    renumbered = np.zeros(256, np.uint8)
    renumbered[present] = np.arange(1, len(present) + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is not quite after the standard in a hospital's images is not ours to mend
        return Segmentation(
            source_images=source_images(images),
            pixel_array=renumbered[labels],
            segmentation_type="BINARY",
            segment_descriptions=segments,
            series_instance_uid=UID(),
            series_number=series_number,
            sop_instance_uid=UID(),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=DEVICE,
            software_versions=maker.version,
            device_serial_number=maker.digest[:16],
            series_description="FedILD segmentation, research use only",
            content_label="FEDILD",
            content_description="Research use only",
        )


def report(
    images: Sequence[Dataset],
    found: Segmentation | None,
    probabilities: Mapping[str, float],
    measured: Mapping[str, Sequence[Measured]],
    maker: Maker,
    *,
    patterns: Segmentation | None = None,
    said: Sequence[tuple[str, str]] = (),
) -> Comprehensive3DSR:
    """Return an SR: the probability of each class, and measurements of each segment or of the lungs as a whole.

    Parameters
    ----------
    images : sequence of Dataset
        CT images that it is about.
    found : Segmentation, optional
        The lungs. Measurements of what is no segment stand for both lungs.
    probabilities : mapping of str to float
        Of the model's classes.
    measured : mapping of str to sequence of Measured
        Name of a label, or ``lungs``, to its numbers.
    maker : Maker
        Whose work it is.
    patterns : Segmentation, optional
        The pattern map.
    said : sequence of (str, str)
        What is told in words beside the probabilities: question and answer.
    """
    from highdicom import UID
    from highdicom import sr as hd
    from pydicom.sr.codedict import codes

    device = hd.DeviceObserverIdentifyingAttributes(
        uid=UID(), manufacturer_name=MAKER, model_name=f"{maker.model} {maker.digest[:16]}", name=DEVICE, serial_number=maker.digest[:16]
    )
    context = hd.ObservationContext(observer_device_context=hd.ObserverContext(codes.DCM.Device, device))
    lung = _code(LUNG)
    groups: list[Any] = []
    told = [_measurement(_ours(f"Model output for {name}, research use only"), value, "1") for name, value in probabilities.items()]
    words = [hd.QualitativeEvaluation(name=_ours(question), value=_ours(answer)) for question, answer in said]
    if told or words:
        groups.append(
            hd.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=hd.TrackingIdentifier(UID(), "class probabilities"),
                finding_type=_ours("Pattern of interstitial lung disease"),
                finding_sites=[hd.FindingSite(lung)],
                measurements=told or None,
                qualitative_evaluations=words or None,
            )
        )
    made = [one for one in (found, patterns) if one is not None]
    segments = {str(item.SegmentLabel): (one, int(item.SegmentNumber)) for one in made for item in one.SegmentSequence}
    for name, values in measured.items():
        items = [_measurement(_ours(one.name), one.value, one.unit) for one in values if np.isfinite(one.value)]
        if not items:
            continue
        tracking = hd.TrackingIdentifier(UID(), name)
        if title_of(name) in segments:
            _, kind = _property_of(name)
            segment, number = segments[title_of(name)]
            groups.append(
                hd.VolumetricROIMeasurementsAndQualitativeEvaluations(
                    tracking_identifier=tracking,
                    referenced_segment=hd.ReferencedSegment(
                        sop_class_uid=segment.SOPClassUID,
                        sop_instance_uid=segment.SOPInstanceUID,
                        segment_number=number,
                        source_series=hd.SourceSeriesForSegmentation(images[0].SeriesInstanceUID),
                    ),
                    finding_type=kind,
                    finding_sites=[hd.FindingSite(lung)],
                    measurements=items,
                )
            )
        else:
            groups.append(
                hd.MeasurementsAndQualitativeEvaluations(
                    tracking_identifier=tracking, finding_type=lung, finding_sites=[hd.FindingSite(lung)], measurements=items
                )
            )
    content = hd.MeasurementReport(
        observation_context=context,
        procedure_reported=hd.CodedConcept("24627-2", "LN", "CT Chest"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.Comprehensive3DSR(
            evidence=[*source_images(images), *made],
            content=content,
            series_instance_uid=UID(),
            series_number=SERIES_SR,
            sop_instance_uid=UID(),
            instance_number=1,
            manufacturer=MAKER,
            is_complete=True,
            is_verified=False,
            series_description=f"FedILD report. {NOTICE.split('.')[0]}",
        )


def title_of(name: str) -> str:
    """Return how a segment is called for readers: the lung's name, or the title of a pattern.

    Examples
    --------
    >>> [title_of(name) for name in ("left lung", "ggo_reticulation")]
    ['left lung', 'ground glass with reticulation']
    """
    return TITLES[name].title if name in TITLES else name.replace("_", " ")


def _property_of(name: str) -> tuple[CodedConcept, CodedConcept]:
    if name in LUNGS:
        return _code(ORGAN), _code(LUNGS[name])
    return _code(ABNORMAL), _code(FINDINGS[name]) if name in FINDINGS else _ours(title_of(name))


def _measurement(name: CodedConcept, value: float, unit: str) -> Any:
    from highdicom import sr as hd

    words = {"%": "percent", "1": "no units", "[hnsf'U]": "Hounsfield unit"}
    return hd.Measurement(name=name, value=float(f"{value:.6g}"), unit=hd.CodedConcept(unit, "UCUM", words.get(unit, unit)))


def _code(words: tuple[str, str, str]) -> CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(*words)


def _ours(meaning: str) -> CodedConcept:
    """Return a code of our own scheme: its value is short (VR SH, 16 characters) and stays the same for the same words."""
    import hashlib

    from highdicom.sr import CodedConcept

    return CodedConcept("F" + hashlib.sha256(meaning.encode()).hexdigest()[:15].upper(), SCHEME, meaning[:64])


def segment_names(patterns: bool = False) -> dict[int, str]:
    """Return the names of the labels of a lung mask, or of a pattern map.

    Examples
    --------
    >>> segment_names()
    {1: 'right lung', 2: 'left lung'}
    """
    return {code: name for name, code in PATTERNS.items() if code} if patterns else dict(enumerate(LUNGS, 1))
