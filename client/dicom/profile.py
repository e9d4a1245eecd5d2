"""What happens to each attribute of a CT header: the standard's table (`confidentiality`), with the choices that it leaves, taken.

Action codes (PS3.15 E.3): X remove, Z replace by a zero-length value, D replace by a dummy, K keep (sequences are cleaned inside), U replace
the UID, C clean; DATE is the cleaning of the Retain Longitudinal Temporal Information With Modified Dates Option. Attributes that stand neither
in the standard's table nor among `KEPT` are removed: what nobody has looked at does not pass.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, cast

from client.dicom.confidentiality import TABLE_E1_1

Action: TypeAlias = Literal["X", "Z", "D", "K", "U", "C", "DATE"]

FIRST_CHOICE: Final[dict[str, Action]] = {
    "X": "X", "Z": "Z", "D": "D", "U": "U", "X/Z": "X", "X/D": "X", "X/Z/D": "X", "Z/D": "Z", "X/Z/U*": "X",
}  # fmt: skip
"""The code taken where the standard leaves a choice and a CT object does not need the attribute: the one that leaves least."""

TAKEN: Final[dict[str, Action]] = {
    "PatientName": "D", "PatientID": "D",  # a dummy that is the pseudonym: type 2 of the patient module, and what keeps a patient one patient
    "ContrastBolusAgent": "D",  # type 2 of the contrast module: that there was one is kept, its name is not
    "ReferencedImageSequence": "K", "SourceImageSequence": "K",  # U*: cleaned inside, their UIDs replaced
    "SOPInstanceUIDOfConcatenationSource": "U", "CreatorVersionUID": "U",  # UIDs that are no longer, or not yet, in the table
}  # fmt: skip
"""Where a CT object needs the attribute, or more is known than the table says."""

DATES: Final[dict[str, Action]] = {
    "StudyDate": "DATE", "SeriesDate": "DATE", "AcquisitionDate": "DATE", "ContentDate": "DATE", "InstanceCreationDate": "DATE",
    "AcquisitionDateTime": "DATE",
}  # fmt: skip
"""Overrides under the Retain Longitudinal Temporal Information With Modified Dates Option (E.3.6): days move, times of day go."""

RETAINED: Final[dict[str, Action]] = {"PatientAge": "C", "PatientSex": "K", "PatientSize": "K", "PatientWeight": "K"}
"""Overrides under the Retain Patient Characteristics Option (E.3.9); C caps the age at 90."""

KEPT: Final[frozenset[str]] = frozenset(
    """
    SpecificCharacterSet ImageType SOPClassUID Modality Manufacturer ManufacturerModelName LossyImageCompression LossyImageCompressionRatio
    LossyImageCompressionMethod ReferencedSOPClassUID BodyPartExamined ScanOptions SliceThickness KVP SpacingBetweenSlices DataCollectionDiameter
    ReconstructionDiameter DistanceSourceToDetector DistanceSourceToPatient GantryDetectorTilt TableHeight RotationDirection ExposureTime
    XRayTubeCurrent Exposure ExposureInmAs FilterType GeneratorPower FocalSpots ConvolutionKernel PatientPosition RevolutionTime
    SingleCollimationWidth TotalCollimationWidth TableSpeed TableFeedPerRotation SpiralPitchFactor CTDIvol EstimatedDoseSaving
    ExposureModulationType ContrastBolusRoute SoftwareVersions SeriesNumber AcquisitionNumber InstanceNumber ImagePositionPatient
    ImageOrientationPatient Laterality ImagesInAcquisition PositionReferenceIndicator SliceLocation PatientOrientation TemporalPositionIdentifier
    NumberOfTemporalPositions SamplesPerPixel PhotometricInterpretation NumberOfFrames PlanarConfiguration Rows Columns PixelSpacing
    PixelAspectRatio BitsAllocated BitsStored HighBit PixelRepresentation SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue
    PixelPaddingRangeLimit RescaleIntercept RescaleSlope RescaleType WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction
    BurnedInAnnotation QualityControlImage PixelData PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence
    PresentationLUTShape RecognizableVisualFeatures
    """.split()  # noqa: SIM905
)
"""Attributes of the CT image modules (PS3.3 A.3.3) that describe pixels, geometry and acquisition, and name nobody."""

METHODS: Final[dict[str, str]] = {
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}
"""Codes of CID 7050 that the engine declares."""


ACTIONS: Final[dict[str, Action]] = {word: FIRST_CHOICE[code] for word, code in TABLE_E1_1.items()} | TAKEN  # pyright: ignore[reportAssignmentType]
"""Keyword (or eight hexadecimal digits) to action, without options."""


def actions(*, retain_characteristics: bool, shift_dates: bool) -> dict[str, Action]:
    """Return keyword to action under the options that were chosen.

    Examples
    --------
    >>> chosen = actions(retain_characteristics=False, shift_dates=True)
    >>> chosen["PatientAge"], chosen["StudyDate"], chosen["PatientName"], chosen["Rows"]
    ('X', 'DATE', 'D', 'K')
    """
    kept = cast(dict[str, Action], dict.fromkeys(KEPT, "K"))
    return kept | ACTIONS | (RETAINED if retain_characteristics else {}) | (DATES if shift_dates else {})
