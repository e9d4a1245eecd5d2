"""De-identification by PS3.15 annex E, in memory, before anything of a header is kept.

Three defences: the standard's table, applied inside sequences as well (`profile`); rules by value representation for whatever passed it (no names,
no dates, no foreign UIDs); and kept words that hold an identifier of this very header go too (`residue`). Private attributes never pass.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from client.cases.identity import Pseudonyms
from client.dicom import profile
from client.dicom.acquisition import age_years
from client.dicom.residue import identifiers, names_someone

MAX_DEPTH = 16
"""Sequences nested deeper than this are removed."""

WORD = "REMOVED"
DUMMIES: dict[str, Any] = {
    "AE": WORD, "AS": "000D", "AT": 0, "CS": WORD, "DA": "19000101", "DS": "0", "DT": "19000101", "FD": 0.0, "FL": 0.0, "IS": "0", "LO": WORD,
    "LT": WORD, "OB": b"\0\0", "OW": b"\0\0", "PN": WORD, "SH": WORD, "SL": 0, "SS": 0, "ST": WORD, "TM": "000000", "UC": WORD, "UL": 0,
    "UN": b"\0\0", "UR": "removed", "US": 0, "UT": WORD,
}  # fmt: skip
"""Value representation to the dummy of action D: not empty, and valid."""


def deidentify(header: Dataset, pseudonyms: Pseudonyms, *, retain_characteristics: bool = True, shift_dates: bool = True) -> Dataset:
    """Return a cleaned copy of `header`; the input is not changed.

    UIDs become keyed ones under 2.25, stable inside a site. Dates move back by a number of days that is fixed per patient (so that intervals
    stay), or go; times of day go; ages over 89 become 90.

    Parameters
    ----------
    header : Dataset
        A CT header, with or without pixels.
    pseudonyms : Pseudonyms
        The site's keyed names.
    retain_characteristics : bool
        Keep age, sex, size and weight (E.3.9).
    shift_dates : bool
        Shift dates (E.3.6, modified dates) instead of removing them.
    """
    patient_id = str(header.get("PatientID", "") or "")
    actions = profile.actions(retain_characteristics=retain_characteristics, shift_dates=shift_dates)
    cleaner = _Cleaner(pseudonyms, patient_id, actions, shift_dates, identifiers(header))
    out = cleaner.clean(header, 0)
    out.PatientIdentityRemoved = "YES"
    used = ["113100", *(["113107"] if shift_dates else []), *(["113108"] if retain_characteristics else [])]
    out.DeidentificationMethod = "PS3.15 Annex E"
    out.DeidentificationMethodCodeSequence = Sequence([_code(code) for code in used])
    return out


def shifted_date(text: str, days: int) -> str:
    """Return a DICOM date or date-time moved back by `days`, its time of day dropped; empty for anything that is no date.

    Examples
    --------
    >>> shifted_date("20070425", 30), shifted_date("20070425173333.4", 1), shifted_date("unknown", 3)
    ('20070326', '20070424', '')
    """
    found = re.match(r"(\d{4})\.?(\d{2})\.?(\d{2})", text.strip())
    if not found:
        return ""
    try:
        day = datetime.date(int(found[1]), int(found[2]), int(found[3])) - datetime.timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return day.strftime("%Y%m%d")


class _Cleaner:
    def __init__(
        self, pseudonyms: Pseudonyms, patient_id: str, actions: dict[str, profile.Action], shift_dates: bool, forbidden: frozenset[str]
    ) -> None:
        self.names, self.patient_id, self.actions, self.shift_dates = pseudonyms, patient_id, actions, shift_dates
        self.days = pseudonyms.days(patient_id)
        self.forbidden = forbidden

    def clean(self, dataset: Dataset, depth: int) -> Dataset:
        out = Dataset()
        for tag in dataset.keys():  # noqa: SIM118  (iterating a Dataset converts every element; keys do not)
            if tag.is_private or _is_curve_or_overlay(tag):
                continue
            keyword = keyword_for_tag(tag) or f"{tag:08X}"
            action = self.actions.get(keyword, "X")
            if action == "X":
                continue
            try:
                element = self.act(action, keyword, dataset[tag], depth)
            except Exception:  # noqa: S112  (a value that cannot even be read is not kept)
                continue
            if element is not None:
                out.add(element)
        return out

    def act(self, action: str, keyword: str, element: DataElement, depth: int) -> DataElement | None:
        tag, vr, value = element.tag, element.VR, element.value
        if vr == "SQ":
            if depth >= MAX_DEPTH:
                return None
            return DataElement(tag, "SQ", Sequence([] if action == "Z" else [self.clean(item, depth + 1) for item in value]))
        if action == "Z":
            return DataElement(tag, vr, "" if vr not in ("OB", "OW", "UN") else b"")
        if action == "D":
            return DataElement(tag, vr, self.dummy(keyword, vr))
        if action == "U" or (vr == "UI" and keyword not in ("SOPClassUID", "ReferencedSOPClassUID")):
            return DataElement(tag, vr, self.uids(value))
        if action == "DATE" or vr in ("DA", "DT"):
            return DataElement(tag, vr, shifted_date(str(value or ""), self.days) if self.shift_dates else "")
        if vr in ("PN", "TM"):
            return DataElement(tag, vr, "")
        if keyword == "PatientAge":
            years = age_years(str(value or ""))
            return None if years is None else DataElement(tag, vr, "090Y" if years >= 90 else str(value))
        if names_someone(vr, value, self.forbidden):
            return None
        return DataElement(tag, vr, value)

    def dummy(self, keyword: str, vr: str) -> Any:
        if keyword in ("PatientID", "PatientName"):
            return self.names.patient(self.patient_id)
        return self.names.uid(keyword) if vr == "UI" else DUMMIES[vr]

    def uids(self, value: Any) -> Any:
        if value is None or value == "":
            return ""
        many = [value] if isinstance(value, str) else list(value)
        new = [uid if str(uid).startswith("1.2.840.10008.") else self.names.uid(str(uid)) for uid in many]
        return new[0] if len(new) == 1 else new


def _is_curve_or_overlay(tag: BaseTag) -> bool:
    # repeating groups of the table: curves 50xx, overlay data and comments 60xx; nothing of an overlay is of use without its data
    return tag.group >> 8 in (0x50, 0x60)


def _code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", profile.METHODS[value]
    return item
