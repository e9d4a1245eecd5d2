"""PS3.15 table E.1-1, row by row: every required action is done, at the top and inside sequences, whatever the options."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from client.cases.identity import Pseudonyms
from client.dicom import profile
from client.dicom.confidentiality import TABLE_E1_1
from client.dicom.deidentify import deidentify
from client.dicom.residue import residue
from tests.client.dicom_factory import SeriesPlan, chest, dataset, sequence_item

NAMES = Pseudonyms(bytes(range(32)))
PLAN = SeriesPlan(chest(20, 16))
WORD = "PLANTED"
VALUES: dict[str, Any] = {
    "AE": WORD, "AS": "051Y", "AT": 0x00100010, "CS": WORD, "DA": "19601224", "DS": "47.11", "DT": "19601224101112", "FD": 47.11, "FL": 47.11,
    "IS": "4711", "LO": WORD, "LT": WORD, "OB": b"PLANTED!", "OW": b"PLANTED!", "PN": "Planted^Name", "SH": WORD, "SL": 4711, "SS": 4711, "ST": WORD,
    "TM": "101112", "UC": WORD, "UI": "1.9.4711", "UL": 4711, "UN": b"PLANTED!", "UR": "https://planted", "US": 4711, "UT": WORD,
}  # fmt: skip


def element_of(word: str) -> DataElement:
    """An element of a row, with a planted value."""
    tag = int(word, 16) if re.fullmatch(r"[0-9A-F]{8}", word) else tag_for_keyword(word)
    assert tag is not None
    try:
        vr = dictionary_VR(tag).split(" or ")[-1]
        dictionary_VM(tag)
    except KeyError:
        vr = "LO"
    if vr == "SQ":
        return DataElement(tag, "SQ", Sequence([sequence_item(PatientName="Planted^Name", CodeMeaning="PLANTED")]))
    return DataElement(tag, vr, VALUES[vr])


def rows() -> list[str]:
    return [word for word in TABLE_E1_1 if not word.startswith(("0000", "0002")) and word not in GROUPS_0_AND_2]


GROUPS_0_AND_2 = {"AffectedSOPInstanceUID", "RequestedSOPInstanceUID", "MediaStorageSOPInstanceUID"}
"""Of commands and of file meta headers: a data set holds neither."""


def is_done(code: str, before: DataElement, after: DataElement | None) -> bool:
    """Whether what is left of an element is what its action code asks for."""
    if after is None or (after.VR == "SQ" and not len(after.value)):
        return after is None or code != "D" or not len(before.value)
    if "PLANTED" in str(after).upper() or (after.VR != "SQ" and after.value == before.value):
        return False
    if code == "U":
        return str(after.value).startswith("2.25.")
    if code == "X":
        return False
    return code != "D" or after.VR == "SQ" or after.value not in ("", None, b"")


@pytest.mark.parametrize("nested", [False, True])
def test_every_row_of_the_table_is_done(nested: bool) -> None:
    ds = dataset(PLAN, 0, 1)
    planted = {word: element_of(word) for word in rows()}
    holder = Dataset() if nested else ds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for element in planted.values():
            holder.add(element)
        if nested:
            ds.SourceImageSequence = Sequence([holder])
        clean = deidentify(ds, NAMES, retain_characteristics=False, shift_dates=False)
        inside = clean.SourceImageSequence[0] if nested else clean
        added = {"PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"}
        left = {word: inside.get(element.tag) for word, element in planted.items() if word not in added}
        undone = [word for word, found in left.items() if not is_done(TABLE_E1_1[word], planted[word], found)]
    assert len(left) >= 645
    assert undone == []


@pytest.mark.parametrize("characteristics", [True, False])
@pytest.mark.parametrize("dates", [True, False])
def test_options_say_what_is_kept(characteristics: bool, dates: bool) -> None:
    ds = dataset(PLAN, 0, 1)
    ds.PatientSize, ds.PatientWeight = "1.71", "63"
    clean = deidentify(ds, NAMES, retain_characteristics=characteristics, shift_dates=dates)
    assert bool(clean.get("PatientAge")) is characteristics and ("PatientWeight" in clean) is characteristics
    assert bool(clean.get("PatientSex")) is characteristics
    assert bool(clean.get("StudyDate")) is dates and clean.get("StudyDate") != ds.StudyDate
    assert clean.get("StudyTime", "") == ""
    codes = {item.CodeValue for item in clean.DeidentificationMethodCodeSequence}
    assert codes == {"113100"} | ({"113107"} if dates else set()) | ({"113108"} if characteristics else set())
    assert codes <= set(profile.METHODS)


def test_curves_overlays_and_private_attributes_go() -> None:
    ds = dataset(PLAN, 0, 1)
    for tag, vr in ((0x50000010, "US"), (0x60003000, "OW"), (0x60004000, "LT"), (0x60020022, "LO")):
        ds.add_new(tag, vr, VALUES[vr])
    ds.private_block(0x0029, "PLANTED", create=True).add_new(1, "LO", "PLANTED")
    clean = deidentify(ds, NAMES)
    assert not [tag for tag in clean.keys() if tag.is_private or tag.group >> 8 in (0x50, 0x60)]  # noqa: SIM118


def test_kept_words_that_name_somebody_go_and_the_scan_would_tell() -> None:
    ds = dataset(PLAN, 0, 1)
    ds.ManufacturerModelName, ds.PositionReferenceIndicator, ds.SoftwareVersions = "scanner of Dr House", "DOE", ["1.0", "Doe-0007"]
    clean = deidentify(ds, NAMES)
    assert not {"ManufacturerModelName", "PositionReferenceIndicator", "SoftwareVersions"} & {e.keyword for e in clean}
    assert clean.Manufacturer == ds.Manufacturer and clean.ConvolutionKernel == ds.ConvolutionKernel
    assert residue(ds, clean) == []
    clean.ManufacturerModelName = "scanner of Dr House"
    clean.SourceImageSequence = Sequence([sequence_item(ReferencedSOPInstanceUID=ds.SOPInstanceUID)])
    assert set(residue(ds, clean)) == {"ManufacturerModelName", "ReferencedSOPInstanceUID"}
