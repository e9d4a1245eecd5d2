"""What a file turns into: CT slices with what is needed to place and decode each, or a reason to turn the file away."""

from __future__ import annotations

from dataclasses import dataclass

from client.dicom import tags


@dataclass(frozen=True, slots=True)
class SliceFile:
    """What is kept of one CT slice's header; identifiers stay in memory and never reach cache or report.

    `position_mm` is the centre of the first pixel and `orientation` the row and column direction, in LPS millimetres; `spacing_mm` is (y, x).
    `pixel_offset` is -1 where the pixels need a decoder. `padding` is the closed range of raw values outside the field of view. `frame` is the
    slice's number (from 0) in a file that holds several, else -1.
    """

    path: str
    patient_id: str
    study_uid: str
    series_uid: str
    image_uid: str
    study_date: str
    acquisition: str
    position_mm: tuple[float, float, float]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]
    rows: int
    columns: int
    slope: float
    intercept: float
    rescale_given: bool
    padding: tuple[int, int] | None
    bits: tuple[int, int, int]
    signed: bool
    lossy: bool
    pixel_offset: int
    frame: int = -1


@dataclass(frozen=True, slots=True)
class Dismissed:
    """Files that go no further: a reason from `tags.SKIPPED` or `tags.QUARANTINED`, and where they lie."""

    reason: str
    paths: tuple[str, ...]
    series_uid: str = ""

    @property
    def is_skipped(self) -> bool:
        """Whether nothing is wrong with the files; they are only not for us."""
        return self.reason in tags.SKIPPED
