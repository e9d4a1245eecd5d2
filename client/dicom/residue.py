"""The independent scan: which identifying values a header holds, and whether any of them is still there after cleaning.

It knows nothing of the de-identification table. What identifies is told by value representation (names, UIDs, dates) and by a short list of
words in an attribute's own keyword.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

MIN_LENGTH = 3
"""Shorter words are everywhere: an id of one or two characters is not looked for in other words."""
MAX_ELEMENTS = 20_000
"""Elements looked at: no CT header has more."""
MAX_DEPTH = 32
TEXT = frozenset(("AE", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UR", "UT"))
"""Value representations that can name somebody."""
IDENTIFYING = re.compile(
    r"Patient(ID|Address|Telephone|BirthName|MotherBirthName|InsurancePlan)|OtherPatient|AccessionNumber|AdmissionID|EpisodeID|StudyID|OrderNumber"
    r"|ProcedureID|StepID|Physician|Operator|Institution|StationName|SerialNumber|MedicalRecord|ResponsiblePerson|Telephone|Address"
)
"""Keywords whose words identify. Free descriptions (CHEST ROUTINE) are removed as well but are no words to look for."""
PUBLIC = frozenset(
    "removed anonymous unknown none siemens philips toshiba canon hitachi lung chest bone standard soft sharp detail edge hospital general".split()  # noqa: SIM905
)
"""Words that stand in such places and name nobody: makers, kernels, and what many hospitals are called."""


def identifiers(dataset: Dataset) -> frozenset[str]:
    """Return the words of a header by which somebody could be found: parts of names, ids, UIDs, days; folded, at least three characters long.

    Examples
    --------
    >>> ds = Dataset()
    >>> ds.PatientName, ds.PatientID, ds.StudyDate, ds.StudyDescription = "Doe^Jane", "A-0007", "20240531", "CHEST"
    >>> sorted(identifiers(ds))
    ['0007', '20240531', 'a-0007', 'doe', 'doe^jane', 'jane']
    """
    found: set[str] = set()
    for element in _elements(dataset):
        whole = _values(element)
        if element.VR == "UI":
            found |= {value for value in whole if not value.startswith("1.2.840.10008.")}
        elif element.VR in ("DA", "DT"):
            found |= {value[:8] for value in whole if len(value) >= 8}
        elif element.VR == "PN" or (element.VR in TEXT and IDENTIFYING.search(element.keyword)):
            found |= set(whole) | {word for value in whole for word in _words(value)}
    return frozenset(word for word in found if len(word) >= MIN_LENGTH and word not in PUBLIC)


def names_someone(vr: str, value: Any, forbidden: frozenset[str]) -> bool:
    """Return whether a value holds a forbidden word, as a whole or as one of its words.

    Examples
    --------
    >>> names_someone("LO", "scanner of Doe", frozenset({"doe"})), names_someone("LO", "doeskin", frozenset({"doe"}))
    (True, False)
    """
    if vr not in TEXT:
        return False
    values = _split(value)
    return any(value in forbidden or not forbidden.isdisjoint(_words(value)) for value in values)


def residue(before: Dataset, after: Dataset) -> list[str]:
    """Return the keywords of the elements of `after`, sequences included, that still hold an identifier of `before`.

    Examples
    --------
    >>> before, after = Dataset(), Dataset()
    >>> before.PatientName, after.Manufacturer = "Doe^Jane", "Jane's"
    >>> residue(before, after)
    ['Manufacturer']
    """
    forbidden = identifiers(before)
    return [element.keyword or str(element.tag) for element in _elements(after) if names_someone(element.VR, element.value, forbidden)]


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    seen, waiting = 0, [(dataset, 0)]
    while waiting:
        current, depth = waiting.pop()
        for tag in current.keys():  # noqa: SIM118
            seen += 1
            if seen > MAX_ELEMENTS:
                return
            try:
                element = current[tag]
                if element.VR == "SQ":
                    waiting += [(item, depth + 1) for item in element.value] if depth < MAX_DEPTH else []
                    continue
            except Exception:  # noqa: S112  (what cannot be read is not kept by the cleaner either)
                continue
            yield element


def _values(element: DataElement) -> list[str]:
    return _split(element.value)


def _split(value: Any) -> list[str]:
    if value is None or isinstance(value, bytes):
        return []
    many = [value] if isinstance(value, str | PersonName) or not hasattr(value, "__iter__") else value
    return [text for one in many if (text := str(one).strip(" \0").casefold())]


def _words(value: str) -> set[str]:
    return {*re.split(r"[\s^=,;/\\()'\"]+", value), *re.split(r"[^\w]+", value)}
