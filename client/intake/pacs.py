"""What is asked of a PACS, whichever language it speaks: which studies there are, and the CT images of one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from client.intake.landing import Landing
from shared_models.core.errors import BadInput, FedILDError

What = Literal["patient", "study", "accession"]
KEYWORDS: dict[What, str] = {"patient": "PatientID", "study": "StudyInstanceUID", "accession": "AccessionNumber"}
"""By what a study is asked for, and the attribute that is matched (PS3.4 table C.6-1)."""

REASONS: dict[str, tuple[str, str]] = {
    "NOT_FOUND": ("the PACS knows no such study", "check the number; `fedild site queue --format json` and wanted.csv say which it was"),
    "NO_CT": ("the study holds no CT series", "none needed"),
    "UNREACHABLE": ("the PACS did not answer", "check [pacs] and the network, then `fedild site queue retry`"),
    "REFUSED": ("the PACS said no", "let its administrator allow our title, or the user of password_file"),
    "INCOMPLETE": ("not every image of the study came", "`fedild site queue retry`; what came is kept"),
    "NO_ROOM": ("the disk has no room", "make room, then `fedild site queue retry`"),
    "FAILED": ("it failed again and again", "see the site's own log"),
}
"""Why something could not be fetched: (meaning, remedy)."""


class PacsFailed(FedILDError):
    """The PACS did not give what was asked for. `reason` is a key of `REASONS`."""

    code = "E_PACS"

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        meaning, remedy = REASONS[reason]
        super().__init__(meaning, value=detail or None, remedy=remedy)


class Archive(Protocol):
    """An open connection to a PACS."""

    def find(self, what: What, value: str) -> list[str]:
        """Return the Study Instance UIDs that match exactly."""
        ...

    def images(self, study: str) -> dict[str, list[str]]:
        """Return the SOP Instance UIDs of each CT series of a study."""
        ...

    def fetch(self, study: str, wanted: dict[str, list[str]], landing: Landing, progress: Callable[[], None]) -> None:
        """Bring images (by series) to their landing; `progress` is called after each."""
        ...


def exact(value: str) -> str:
    """Return a value to be matched, checked to match nothing but itself (PS3.4 section C.2.2.2.4: ``*`` and ``?`` match anything).

    Raises
    ------
    BadInput
        It is empty, too long, or holds a wildcard, a backslash or a control character.

    Examples
    --------
    >>> exact(" 4711 ")
    '4711'
    """
    value = value.strip()
    if not value or len(value) > 64 or any(c in '*?\\"' or not c.isprintable() for c in value):
        raise BadInput("a number to ask for must have 1 to 64 characters and no wildcard", remedy="give one number; a list goes into a CSV")
    return value
