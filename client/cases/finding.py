"""A finding: one thing about a series that its reader should know, in words that name nobody."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["info", "warning", "error"]
"""`info` is for the record, `warning` limits what the series is good for, `error` keeps the series out."""


@dataclass(frozen=True)
class Finding:
    """A named observation about a series; text and code carry no identifier, date or path.

    Examples
    --------
    >>> Finding("MISSING_SLICE", "warning", "1 of 64 slices was interpolated").as_dict()["code"]
    'MISSING_SLICE'
    """

    code: str
    severity: Severity
    text: str

    def as_dict(self) -> dict[str, str]:
        """Return the finding as plain JSON values."""
        return asdict(self)
