"""Who is who without saying so: one spelling per patient, and keyed pseudonyms that no one outside the site can turn back."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic

MIN_SECRET_BYTES = 16


def canonical_id(text: str) -> str:
    """Return the one spelling of a patient id: NFKC, case folded, letters and digits only, leading zeros of plain numbers dropped.

    Examples
    --------
    >>> canonical_id(" Lung_Dx-A0002 "), canonical_id("000123"), canonical_id("１２３"), canonical_id("A-007")
    ('lungdxa0002', '123', '123', 'a007')
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = "".join(c for c in folded if c.isalnum())
    return (kept.lstrip("0") or "0") if kept.isdecimal() else kept


@dataclass(frozen=True)
class Pseudonyms:
    """Keyed names for patients, visits, series and files: HMAC-SHA256 under the site's secret (RFC 2104), 64 bits of it in hexadecimal.

    The same input gives the same name inside a site for ever, and an unrelated one at any other site.

    Parameters
    ----------
    secret : bytes
        At least 16 bytes, never leaves the site.

    Raises
    ------
    BadInput
        The secret is too short.

    Examples
    --------
    >>> names = Pseudonyms(bytes(32))
    >>> names.patient("Lung_Dx-A0002") == names.patient("lung dx a0002")
    True
    >>> names.uid("1.2.3").startswith("2.25.")
    True
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_SECRET_BYTES:
            raise BadInput(f"the site secret must have at least {MIN_SECRET_BYTES} bytes", value=f"{len(self.secret)} bytes")

    def _digest(self, kind: str, *parts: str) -> bytes:
        # lengths before parts: ("ab", "c") and ("a", "bc") must not meet
        message = b"".join(len(p).to_bytes(4, "big") + p for p in (text.encode("utf-8", "surrogateescape") for text in (kind, *parts)))
        return hmac.new(self.secret, message, hashlib.sha256).digest()

    def patient(self, patient_id: str) -> str:
        """Return the pseudonym of a patient, the same for every spelling that `canonical_id` unites."""
        return self._digest("patient", canonical_id(patient_id))[:8].hex()

    def visit(self, patient_id: str, study_date: str, study_uid: str = "") -> str:
        """Return the pseudonym of a patient's visit: one calendar day, or one study where the date is missing."""
        return self._digest("visit", canonical_id(patient_id), study_date, "" if study_date else study_uid)[:8].hex()

    def series(self, series_uid: str, part: str = "") -> str:
        """Return the pseudonym of a series; `part` tells apart grids inside one Series Instance UID."""
        return self._digest("series", series_uid, part)[:8].hex()

    def item(self, *parts: str) -> str:
        """Return the pseudonym of a line of the report (a series or a file)."""
        return self._digest("item", *parts)[:8].hex()

    def uid(self, uid: str) -> str:
        """Return a replacement UID under 2.25 (PS3.5 annex B.2), the same for the same input."""
        return f"2.25.{int.from_bytes(self._digest('uid', uid)[:16], 'big')}"

    def days(self, patient_id: str, *, most: int = 3650) -> int:
        """Return by how many days this patient's dates are shifted back, 1 to `most`."""
        return 1 + int.from_bytes(self._digest("days", canonical_id(patient_id))[:8], "big") % most


def site_secret(workspace: Path) -> bytes:
    """Return the site's secret from ``site.key`` in `workspace`, made on first use with mode 0600.

    Raises
    ------
    BadInput
        Others than the owner may read the file.
    """
    path = Path(workspace) / "site.key"
    if not path.exists():
        write_atomic(path, (secrets.token_hex(32) + "\n").encode(), mode=0o600)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise BadInput("site.key must be readable by its owner alone", value=oct(path.stat().st_mode & 0o777), remedy="chmod 600 site.key")
    try:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (ValueError, UnicodeDecodeError):
        raise BadInput(
            "site.key must hold hexadecimal digits", remedy="restore it from its backup; a new one breaks the link to earlier runs"
        ) from None
