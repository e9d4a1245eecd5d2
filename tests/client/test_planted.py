"""Sixty and more identifiers planted in one inbox: none of them is found in anything that preparation writes or says."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import pytest
from pydicom.sequence import Sequence

from client.prepare import prepare_folder
from shared_models.experiment import Preparation
from tests.client.dicom_factory import SeriesPlan, chest, dataset, sequence_item

SECRETS = bytes(range(32)), bytes(range(1, 33))
PRIVATE = {"items.csv", "site.key"}
"""What says which item is which file, and the key: the declared exceptions; neither ever leaves the site."""

TEXTS = """
    OtherPatientNames OtherPatientIDs PatientBirthName PatientMotherBirthName PatientAddress PatientTelephoneNumbers PatientComments
    Occupation EthnicGroup CountryOfResidence RegionOfResidence PatientReligiousPreference MilitaryRank BranchOfService MedicalRecordLocator
    AdditionalPatientHistory ResponsiblePerson InstitutionName InstitutionAddress InstitutionalDepartmentName StationName
    PerformedStationName DeviceSerialNumber GantryID ReferringPhysicianName PhysiciansOfRecord PerformingPhysicianName
    NameOfPhysiciansReadingStudy OperatorsName RequestingPhysician RequestingService StudyDescription SeriesDescription ProtocolName
    ImageComments StudyID AccessionNumber AdmissionID IssuerOfPatientID CurrentPatientLocation VisitComments ContrastBolusAgent
    DerivationDescription PerformedProcedureStepDescription RequestedProcedureDescription ScheduledProcedureStepID ManufacturerModelName
    PositionReferenceIndicator SoftwareVersions
""".split()  # noqa: SIM905
UIDS = "StudyInstanceUID FrameOfReferenceUID IrradiationEventUID DeviceUID".split()  # noqa: SIM905
DATES = {"StudyDate": "20240531", "SeriesDate": "20240601", "AcquisitionDate": "20240602", "ContentDate": "20240603", "PatientBirthDate": "19501224"}
HU = chest(24, 48, step_mm=8, pixel_mm=6.5)


def planted(folder: Path, *, patient: str = "PLANT-0007", series: str = "1.2.99.4711") -> list[str]:
    """A series full of identifiers; return every one of them."""
    folder.mkdir(parents=True)
    words = {keyword: f"PLANT{number:03d}" for number, keyword in enumerate(TEXTS)}
    words["ManufacturerModelName"] = words["StationName"]  # kept attributes: gone only because they repeat an identifier
    words["PositionReferenceIndicator"] = words["SoftwareVersions"] = words["DeviceSerialNumber"]
    uids = {keyword: f"1.2.99.{number + 100}" for number, keyword in enumerate(UIDS)}
    plan = SeriesPlan(HU, step_mm=8, pixel_mm=(6.5, 6.5), patient=patient, name="Plantagenet^Eleanor", series=series, study=uids["StudyInstanceUID"])
    for k in range(len(HU)):
        ds = dataset(plan, k, k + 1)
        for keyword, value in (words | uids | DATES).items():
            setattr(ds, keyword, value)
        ds.BurnedInAnnotation = "NO"
        item = sequence_item(PatientName="Nestoria^Nellonore", ReferencedSOPInstanceUID="1.2.99.777", StudyDescription="PLANT-INNER")
        item.private_block(0x0011, "PLANTPRIVATE1", create=True).add_new(1, "LO", "PLANTPRIVATE2")
        ds.SourceImageSequence = Sequence([sequence_item(SourceImageSequence=Sequence([item]))])
        ds.RequestAttributesSequence = Sequence([sequence_item(RequestedProcedureDescription="PLANT-REQUEST")])
        ds.private_block(0x0029, "PLANTPRIVATE3", create=True).add_new(1, "UT", "PLANTPRIVATE4")
        ds.add_new(0x60004000, "LT", "PLANT-OVERLAY")
        ds.save_as(folder / f"Eleanor Plantagenet {k}", enforce_file_format=True)
    inner = ["Nestoria", "Nellonore", "1.2.99.777", "PLANT-INNER", "PLANT-REQUEST", "PLANT-OVERLAY", *(f"PLANTPRIVATE{n}" for n in range(1, 5))]
    names = ["Plantagenet", "Eleanor", patient, series, "101112", folder.name]
    return [*dict.fromkeys(words.values()), *uids.values(), *DATES.values(), *inner, *names]


def written(workspace: Path) -> dict[str, bytes]:
    """Everything in a workspace that may be seen: file names and contents, pictures decoded."""
    out = {}
    for path in workspace.rglob("*"):
        if path.is_file() and path.name not in PRIVATE:
            out[str(path.relative_to(workspace))] = path.read_bytes() + str(path.relative_to(workspace)).encode()
    for number, part in enumerate((workspace / "report.html").read_bytes().split(b"data:image/png;base64,")[1:]):
        out[f"picture {number}"] = base64.b64decode(part.split(b'"')[0])
    return out


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("planted") / "in"
    words = planted(folder / "Mrs Plantagenet born 1950")
    planted(folder / "second", patient="plant 0007 ", series="1.2.99.4712")
    # an unreadable one and one with burned-in names beside them: turned away without a word of what they hold
    (folder / "PLANT-BROKEN.dcm").write_bytes(bytes(128) + b"DICMPlantagenet")
    burned = dataset(SeriesPlan(HU, patient="PLANT-BURNED", series="1.2.99.9"), 0, 1)
    burned.BurnedInAnnotation = "YES"
    burned.save_as(folder / "PLANT-BURNED.dcm", enforce_file_format=True)
    return folder, [*words, "PLANT-BROKEN", "PLANT-BURNED", "plant 0007"]


def test_none_of_sixty_identifiers_is_found(
    inbox: tuple[Path, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, words = inbox
    assert len(words) == len(set(words)) >= 60
    with caplog.at_level(logging.DEBUG):
        report = prepare_folder(folder, tmp_path / "w", Preparation(), secret=SECRETS[0])
    assert {line["reason"] for line in report.quarantined} == {"UNREADABLE", "BURNED_IN"}
    assert len(report.accepted) == 1 and [line["reason"] for line in report.skipped] == ["DUPLICATE_SERIES"]  # two spellings: one patient
    seen = written(tmp_path / "w") | {"log": caplog.text.encode(), "screen": "".join(capfd.readouterr()).encode()}
    assert {"report.json", "report.html", "cohort.json", "picture 0"} <= set(seen)
    found = [(word, place) for word in words for place, content in seen.items() if word.lower().encode() in content.lower()]
    assert found == []
    assert b"PLANT" in (tmp_path / "w" / "items.csv").read_bytes()
    for name in ("items.csv", "report.html", "cohort.json"):
        assert (tmp_path / "w" / name).stat().st_mode & 0o077 == 0


def test_a_patient_is_one_inside_a_site_and_another_elsewhere(inbox: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, _ = inbox
    lines = []
    for number, secret in enumerate((SECRETS[0], SECRETS[0], SECRETS[1])):
        prepare_folder(folder, tmp_path / str(number), Preparation(), secret=secret)
        lines.append(json.loads((tmp_path / str(number) / "report.json").read_text())["accepted"][0])
    for name in ("item", "patient", "visit", "series"):
        assert lines[0][name] == lines[1][name] != lines[2][name]
