"""De-identification: everything planted is gone, what the pipeline needs is kept, sequences included."""

from __future__ import annotations

import re

import pytest
from pydicom.datadict import keyword_dict
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from client.cases.identity import Pseudonyms
from client.dicom import profile
from client.dicom.acquisition import describe_acquisition
from client.dicom.confidentiality import TABLE_E1_1
from client.dicom.deidentify import deidentify
from tests.client.dicom_factory import SeriesPlan, chest, dataset, sequence_item

NAMES = Pseudonyms(bytes(range(32)))
PLAN = SeriesPlan(chest(20, 16))


def planted() -> tuple[Dataset, list[str]]:
    ds = dataset(PLAN, 0, 1)
    words = {
        "OtherPatientIDs": "PLANT01",
        "PatientAddress": "PLANT02 Street",
        "PatientTelephoneNumbers": "PLANT03",
        "PatientComments": "PLANT04",
        "InstitutionAddress": "PLANT05",
        "StationName": "PLANT06",
        "OperatorsName": "PLANT07",
        "PerformingPhysicianName": "PLANT08",
        "DeviceSerialNumber": "PLANT09",
        "StudyDescription": "PLANT10",
        "SeriesDescription": "PLANT11",
        "ProtocolName": "PLANT12",
        "ImageComments": "PLANT13",
        "RequestingPhysician": "PLANT14",
        "AdmissionID": "PLANT15",
        "StudyID": "PLANT16",
        "ContrastBolusAgent": "PLANT17",
        "MilitaryRank": "PLANT18",
        "PatientBirthName": "PLANT19",
        "DerivationDescription": "PLANT20",
        "DeviceUID": "1.9.21",
        "FrameOfReferenceUID": "1.9.22",
        "AcquisitionDateTime": "20240531235959",
        "DateOfLastCalibration": "20240530",
    }
    for keyword, word in words.items():
        setattr(ds, keyword, word)
    inner = sequence_item(PatientName="PLANT23", ReferencedSOPInstanceUID="1.9.24", ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    inner.private_block(0x0009, "PLANT25", create=True).add_new(1, "LO", "PLANT26")
    deep = sequence_item(SourceImageSequence=Sequence([inner]), SeriesDescription="PLANT27")
    ds.SourceImageSequence = Sequence([deep])
    ds.RequestAttributesSequence = Sequence([sequence_item(RequestedProcedureDescription="PLANT28")])
    ds.private_block(0x0029, "PLANT29", create=True).add_new(1, "PN", "PLANT30")
    ds.add_new(0x00189999, "LO", "PLANT31")  # not in the dictionary: nobody has looked at it
    identifiers = [*(f"PLANT{n:02d}" for n in range(1, 32)), "Doe", "Jane", "0007", "House", "General Hospital", "ACC4711", "19501224"]
    return ds, [*identifiers, "20240531", "20240530", "101112", "235959", "1.2.3.1", "1.9.2"]


@pytest.mark.parametrize("shift", [True, False])
def test_every_planted_identifier_is_gone(shift: bool) -> None:
    ds, identifiers = planted()
    before = str(ds)
    clean = deidentify(ds, NAMES, shift_dates=shift)
    del clean.PixelData
    text = str(clean)
    assert [word for word in identifiers if word in text] == []
    assert str(ds) == before  # the input is untouched
    assert clean.PatientIdentityRemoved == "YES"
    codes = [item.CodeValue for item in clean.DeidentificationMethodCodeSequence]
    assert codes == (["113100", "113107", "113108"] if shift else ["113100", "113108"])


def test_what_is_needed_is_kept_and_uids_stay_linked() -> None:
    ds, _ = planted()
    clean = deidentify(ds, NAMES)
    assert clean.PatientID == clean.PatientName == NAMES.patient(PLAN.patient)
    for keyword in ("PixelSpacing", "ImagePositionPatient", "RescaleSlope", "ConvolutionKernel", "Rows", "PixelData", "SOPClassUID"):
        assert clean[keyword].value == ds[keyword].value
    again = deidentify(dataset(PLAN, 1, 2), NAMES)
    assert clean.SeriesInstanceUID == again.SeriesInstanceUID != deidentify(ds, Pseudonyms(bytes(32))).SeriesInstanceUID
    item = clean.SourceImageSequence[0].SourceImageSequence[0]
    assert item.ReferencedSOPInstanceUID == NAMES.uid("1.9.24") and item.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    found = describe_acquisition(clean)
    assert (found.manufacturer, found.kernel_class, found.contrast, found.age_years, found.sex) == ("siemens", "soft", True, 73.0, "F")


def test_intervals_stay_and_ages_are_capped() -> None:
    first, second = dataset(PLAN, 0, 1), dataset(PLAN, 0, 1)
    second.StudyDate, second.PatientAge, second.PatientID = "20240630", "094Y", "DOE 0007"
    a, b = deidentify(first, NAMES), deidentify(second, NAMES)
    from datetime import date

    days = [date.fromisoformat(ds.StudyDate) for ds in (a, b)]
    assert (days[1] - days[0]).days == 30 and days[0] < date(2024, 5, 31)
    assert b.PatientAge == "090Y"
    assert "PatientAge" not in deidentify(second, NAMES, retain_characteristics=False)


def test_the_table_is_about_real_attributes() -> None:
    named = {word for word in profile.ACTIONS if not re.fullmatch(r"[0-9A-F]{8}", word)}
    assert (named | profile.KEPT) - set(keyword_dict) == set()
    assert not set(profile.ACTIONS) & profile.KEPT
    assert set(TABLE_E1_1.values()) == set(profile.FIRST_CHOICE) and len(TABLE_E1_1) == 652


def test_bottomless_sequences_end() -> None:
    ds = dataset(PLAN, 0, 1)
    item = sequence_item(PatientName="PLANT01")
    for _ in range(60):
        item = sequence_item(SourceImageSequence=Sequence([item]))
    ds.SourceImageSequence = Sequence([item])
    text = str(deidentify(ds, NAMES).SourceImageSequence)
    assert "PLANT01" not in text and text.count("Source Image Sequence") < 20
