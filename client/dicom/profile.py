"""What happens to each attribute of a CT header: PS3.15 table E.1-1, Basic Application Level Confidentiality Profile, as a literal table.

Action codes (PS3.15 E.3): X remove, Z replace by a zero-length value, D replace by a dummy, K keep (sequences are cleaned inside), U replace
the UID, C clean. Where the standard leaves a choice by the attribute's type (X/Z, X/D, Z/D, X/Z/U*), the code here is the one taken, which keeps a
CT object valid. Attributes that stand in neither table below are removed: what nobody has looked at does not pass.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Action: TypeAlias = Literal["X", "Z", "D", "K", "U", "C", "DATE", "TIME"]

ACTIONS: Final[dict[str, Action]] = {
    # the patient
    "PatientName": "D", "PatientID": "D", "IssuerOfPatientID": "X", "OtherPatientIDs": "X", "OtherPatientNames": "X",
    "OtherPatientIDsSequence": "X", "PatientBirthDate": "Z", "PatientBirthTime": "X", "PatientBirthName": "X",
    "PatientMotherBirthName": "X", "PatientAddress": "X", "PatientTelephoneNumbers": "X", "PatientTelecomInformation": "X",
    "PatientReligiousPreference": "X", "PatientComments": "X", "PatientState": "X", "PatientInsurancePlanCodeSequence": "X",
    "PatientPrimaryLanguageCodeSequence": "X", "PatientTransportArrangements": "X", "PatientInstitutionResidence": "X",
    "CountryOfResidence": "X", "RegionOfResidence": "X", "EthnicGroup": "X", "EthnicGroupCodeSequence": "X",
    "Occupation": "X", "AdditionalPatientHistory": "X", "MedicalRecordLocator": "X", "MedicalAlerts": "X", "Allergies": "X",
    "MilitaryRank": "X", "BranchOfService": "X", "ReferencedPatientSequence": "X", "ReferencedPatientPhotoSequence": "X",
    "ResponsiblePerson": "X", "ResponsibleOrganization": "X", "SpecialNeeds": "X", "LastMenstrualDate": "X", "PregnancyStatus": "X",
    "SmokingStatus": "X", "PatientSexNeutered": "X", "ConfidentialityConstraintOnPatientDataDescription": "X", "CurrentPatientLocation": "X",
    "PatientSetupPhotoDescription": "X", "PersonAddress": "X", "PersonTelephoneNumbers": "X", "PersonTelecomInformation": "X", "PersonName": "D",
    "PersonIdentificationCodeSequence": "X", "PatientSpeciesDescription": "X",
    # the patient's characteristics: kept under the Retain Patient Characteristics Option (E.3.9), see RETAINED
    "PatientAge": "X", "PatientSex": "Z", "PatientSize": "X", "PatientWeight": "X",
    # people at the hospital
    "ReferringPhysicianName": "Z", "ReferringPhysicianAddress": "X", "ReferringPhysicianTelephoneNumbers": "X",
    "ReferringPhysicianIdentificationSequence": "X", "ConsultingPhysicianName": "X", "ConsultingPhysicianIdentificationSequence": "X",
    "PhysiciansOfRecord": "X", "PhysiciansOfRecordIdentificationSequence": "X", "PerformingPhysicianName": "X",
    "PerformingPhysicianIdentificationSequence": "X", "NameOfPhysiciansReadingStudy": "X", "PhysiciansReadingStudyIdentificationSequence": "X",
    "OperatorsName": "X", "OperatorIdentificationSequence": "X", "RequestingPhysician": "X", "RequestingService": "X",
    "ScheduledPerformingPhysicianName": "X", "NamesOfIntendedRecipientsOfResults": "X",
    "OrderEnteredBy": "X", "OrderEntererLocation": "X", "OrderCallbackPhoneNumber": "X", "OrderCallbackTelecomInformation": "X",
    "DistributionName": "X", "DistributionAddress": "X", "InterpretationAuthor": "X", "InterpretationRecorder": "X",
    "InterpretationTranscriber": "X", "InterpretationApproverSequence": "X", "InterpretationText": "X", "ReviewerName": "X",
    "VerifyingObserverName": "D", "VerifyingObserverSequence": "D", "VerifyingOrganization": "X", "AuthorObserverSequence": "X",
    "ParticipantSequence": "X", "ContentCreatorName": "Z", "ContentCreatorIdentificationCodeSequence": "X",
    # the hospital, its machines and rooms
    "InstitutionName": "X", "InstitutionAddress": "X", "InstitutionCodeSequence": "X", "InstitutionalDepartmentName": "X",
    "InstitutionalDepartmentTypeCodeSequence": "X", "StationName": "X", "StationAETitle": "X", "DeviceSerialNumber": "X", "DeviceUID": "U",
    "DeviceDescription": "X", "DeviceLabel": "X", "GantryID": "X", "GeneratorID": "X", "DetectorID": "X", "PlateID": "X", "CassetteID": "X",
    "XRaySourceID": "X", "SourceManufacturer": "X", "SourceSerialNumber": "X", "PerformedStationName": "X", "PerformedStationAETitle": "X",
    "PerformedStationNameCodeSequence": "X", "PerformedLocation": "X", "ScheduledStationName": "X", "ScheduledStationAETitle": "X",
    "ScheduledStudyLocation": "X", "ScheduledStudyLocationAETitle": "X", "RetrieveAETitle": "X", "ApprovalStatusDateTime": "X",
    "DateOfLastCalibration": "X", "TimeOfLastCalibration": "X", "DateTimeOfLastCalibration": "X", "DateOfSecondaryCapture": "X",
    "TimeOfSecondaryCapture": "X", "ManufacturerDeviceClassUID": "X", "UniqueDeviceIdentifier": "X", "UDISequence": "X",
    "ScheduledStudyStartDate": "X", "ScheduledStudyStartTime": "X", "DateOfInstallation": "X", "DateOfManufacture": "X",
    # numbers of the order and the visit
    "AccessionNumber": "Z", "StudyID": "Z", "AdmissionID": "X", "AdmittingDate": "X", "AdmittingTime": "X", "AdmittingDiagnosesDescription": "X",
    "AdmittingDiagnosesCodeSequence": "X", "IssuerOfAdmissionID": "X", "IssuerOfAdmissionIDSequence": "X", "ServiceEpisodeID": "X",
    "ServiceEpisodeDescription": "X", "IssuerOfServiceEpisodeID": "X", "IssuerOfAccessionNumberSequence": "X", "VisitComments": "X",
    "FillerOrderNumberImagingServiceRequest": "Z", "PlacerOrderNumberImagingServiceRequest": "Z", "RequestAttributesSequence": "X",
    "RequestedProcedureID": "X", "RequestedProcedureDescription": "X", "RequestedProcedureComments": "X", "RequestedProcedureLocation": "X",
    "RequestedProcedureCodeSequence": "X", "ReasonForTheRequestedProcedure": "X", "ReasonForRequestedProcedureCodeSequence": "X",
    "ReasonForStudy": "X", "ReasonForTheImagingServiceRequest": "X", "ImagingServiceRequestComments": "X",
    "ScheduledProcedureStepID": "X", "ScheduledProcedureStepDescription": "X", "ScheduledProcedureStepLocation": "X",
    "ScheduledProcedureStepStartDate": "X", "ScheduledProcedureStepStartTime": "X", "ScheduledProcedureStepEndDate": "X",
    "ScheduledProcedureStepEndTime": "X", "PerformedProcedureStepID": "X", "PerformedProcedureStepDescription": "X",
    "PerformedProcedureStepStartDate": "X", "PerformedProcedureStepStartTime": "X", "PerformedProcedureStepEndDate": "X",
    "PerformedProcedureStepEndTime": "X", "PerformedProcedureStepStartDateTime": "X", "PerformedProcedureStepEndDateTime": "X",
    "CommentsOnThePerformedProcedureStep": "X", "PerformedProtocolCodeSequence": "X", "PerformedProcedureTypeDescription": "X",
    "IssueDateOfImagingServiceRequest": "X", "IssueTimeOfImagingServiceRequest": "X", "ReferencedRequestSequence": "X",
    "ProcedureCodeSequence": "X", "DischargeDiagnosisDescription": "X", "StudyStatusID": "X", "StudyPriorityID": "X",
    # free text
    "StudyDescription": "X", "SeriesDescription": "X", "SeriesDescriptionCodeSequence": "X", "ProtocolName": "X", "ImageComments": "X",
    "StudyComments": "X", "FrameComments": "X", "AcquisitionComments": "X", "AcquisitionProtocolDescription": "X", "DerivationDescription": "X",
    "ContributionDescription": "X", "ContributingEquipmentSequence": "X", "TextComments": "X", "TextString": "X",
    "ContentLabel": "X", "ContentDescription": "X", "ResultsComments": "X", "Impressions": "X", "Arbitrary": "X", "ContrastBolusAgent": "D",
    "ContrastBolusAgentSequence": "X", "ContrastBolusStartTime": "X", "ContrastBolusStopTime": "X", "GraphicAnnotationSequence": "X",
 "ModifiedAttributesSequence": "X", "OriginalAttributesSequence": "X", "ContentSequence": "X",
    "IconImageSequence": "X", "DigitalSignaturesSequence": "X", "EncryptedAttributesSequence": "X", "MACParametersSequence": "X",
    "DataSetTrailingPadding": "X", "AcquisitionContextSequence": "X", "ReferencedStudySequence": "X",
    "ReferencedPerformedProcedureStepSequence": "X", "ReferencedVisitSequence": "X", "PrivateDataElement": "X", "InterpretationID": "X",
    "ResultsID": "X", "ReferencedInterpretationSequence": "X", "ReferencedResultsSequence": "X", "LongitudinalTemporalInformationModified": "X",
    # days and times: shifted as one, or emptied
    "StudyDate": "DATE", "SeriesDate": "DATE", "AcquisitionDate": "DATE", "ContentDate": "DATE", "InstanceCreationDate": "DATE",
    "AcquisitionDateTime": "DATE", "InstanceCoercionDateTime": "X", "StudyTime": "TIME", "SeriesTime": "TIME", "AcquisitionTime": "TIME",
    "ContentTime": "TIME", "InstanceCreationTime": "TIME", "TimezoneOffsetFromUTC": "X", "StudyArrivalDate": "X", "StudyArrivalTime": "X",
    "StudyCompletionDate": "X", "StudyCompletionTime": "X", "StudyReadDate": "X", "StudyReadTime": "X", "StudyVerifiedDate": "X",
    "StudyVerifiedTime": "X", "CurveDate": "X", "CurveTime": "X", "OverlayDate": "X", "OverlayTime": "X",
    # identifiers of objects
    "SOPInstanceUID": "U", "StudyInstanceUID": "U", "SeriesInstanceUID": "U", "FrameOfReferenceUID": "U", "SynchronizationFrameOfReferenceUID": "U",
    "ReferencedSOPInstanceUID": "U", "ReferencedFrameOfReferenceUID": "U", "InstanceCreatorUID": "U", "ConcatenationUID": "U",
    "SOPInstanceUIDOfConcatenationSource": "U", "IrradiationEventUID": "U", "TransactionUID": "U", "StorageMediaFileSetUID": "U",
    "FailedSOPInstanceUIDList": "U", "DimensionOrganizationUID": "U", "FiducialUID": "U", "CreatorVersionUID": "U",
    "PaletteColorLookupTableUID": "U", "RelatedFrameOfReferenceUID": "U", "RequestedSOPInstanceUID": "U", "TargetUID": "U", "UID": "U",
    "MediaStorageSOPInstanceUID": "U",
    "ReferencedImageSequence": "K", "SourceImageSequence": "K",
}  # fmt: skip
"""Keyword to action."""

RETAINED: Final[dict[str, Action]] = {"PatientAge": "C", "PatientSex": "K", "PatientSize": "K", "PatientWeight": "K"}
"""Overrides under the Retain Patient Characteristics Option; C caps the age at 90."""

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
