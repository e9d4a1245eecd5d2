"""De-identification by PS3.15 annex E, in memory, before anything of a header is kept.

Two defences: the literal table of `profile`, applied inside sequences as well, and then rules by value representation for whatever passed it
(no names, no dates, no foreign UIDs). Private attributes never pass.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from client.cases.identity import Pseudonyms
from client.dicom import profile
from client.dicom.acquisition import age_years

MAX_DEPTH = 16
"""Sequences nested deeper than this are removed."""


def deidentify(header: Dataset, pseudonyms: Pseudonyms, *, retain_characteristics: bool = True, shift_dates: bool = True) -> Dataset:
    """Return a cleaned copy of `header`; the input is not changed.

    UIDs become keyed ones under 2.25, stable inside a site. Dates move back by a number of days that is fixed per patient (so that intervals
    stay), or are emptied; times are emptied; ages over 89 become 90.

    Parameters
    ----------
    header : Dataset
        A CT header, with or without pixels.
    pseudonyms : Pseudonyms
        The site's keyed names.
    retain_characteristics : bool
        Keep age, sex, size and weight (E.3.9).
    shift_dates : bool
        Shift dates (E.3.6, modified dates) instead of emptying them.
    """
    patient_id = str(header.get("PatientID", "") or "")
    actions = profile.ACTIONS | (profile.RETAINED if retain_characteristics else {})
    cleaner = _Cleaner(pseudonyms, patient_id, actions, shift_dates)
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
    def __init__(self, pseudonyms: Pseudonyms, patient_id: str, actions: dict[str, profile.Action], shift_dates: bool) -> None:
        self.names, self.patient_id, self.actions, self.shift_dates = pseudonyms, patient_id, actions, shift_dates
        self.days = pseudonyms.days(patient_id)

    def clean(self, dataset: Dataset, depth: int) -> Dataset:
        out = Dataset()
        for tag in dataset.keys():  # noqa: SIM118  (iterating a Dataset converts every element; keys do not)
            if tag.is_private:
                continue
            keyword = keyword_for_tag(tag)
            action = self.actions.get(keyword) or ("K" if keyword in profile.KEPT else "X")
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
            if action not in ("K", "C") or depth >= MAX_DEPTH:
                return None
            return DataElement(tag, "SQ", Sequence([self.clean(item, depth + 1) for item in value]))
        if action == "Z":
            return DataElement(tag, vr, "")
        if action == "D":
            return DataElement(tag, vr, self.dummy(keyword, value))
        if action == "U" or (vr == "UI" and keyword not in ("SOPClassUID", "ReferencedSOPClassUID")):
            return DataElement(tag, vr, self.uids(value))
        if action == "DATE" or vr in ("DA", "DT"):
            return DataElement(tag, vr, shifted_date(str(value or ""), self.days) if self.shift_dates else "")
        if action == "TIME" or vr == "TM":
            return DataElement(tag, vr, "")
        if vr == "PN":
            return DataElement(tag, vr, "")
        if keyword == "PatientAge":
            years = age_years(str(value or ""))
            return None if years is None else DataElement(tag, vr, "090Y" if years >= 90 else str(value))
        return DataElement(tag, vr, value)

    def dummy(self, keyword: str, value: Any) -> str:
        if keyword in ("PatientID", "PatientName", "PersonName"):
            return self.names.patient(self.patient_id) if keyword != "PersonName" else "REMOVED"
        return "REMOVED" if str(value or "").strip() else ""

    def uids(self, value: Any) -> Any:
        if value is None or value == "":
            return ""
        many = [value] if isinstance(value, str) else list(value)
        new = [uid if str(uid).startswith("1.2.840.10008.") else self.names.uid(str(uid)) for uid in many]
        return new[0] if len(new) == 1 else new


def _code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", profile.METHODS[value]
    return item
