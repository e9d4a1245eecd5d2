"""How a series was acquired: the few words and numbers of a cleaned header that preparation keeps."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from pydicom.dataset import Dataset

MANUFACTURERS = ("SIEMENS", "GE", "PHILIPS", "TOSHIBA", "CANON", "HITACHI", "NEUSOFT", "UNITED IMAGING")


@dataclass(frozen=True)
class Acquisition:
    """Maker, kernel and dose of a series. Free text of the header is mapped to fixed words, so that nothing else can slip through.

    `kernel_class` is ``soft``, ``sharp`` or ``unknown``; `position` such as ``HFS`` (head first, supine); `age_years` is capped at 90.
    """

    manufacturer: str = "unknown"
    kernel_class: str = "unknown"
    thickness_mm: float | None = None
    kvp: float | None = None
    position: str = ""
    contrast: bool = False
    age_years: float | None = None
    sex: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def describe_acquisition(header: Dataset) -> Acquisition:
    """Return what a de-identified header says about the acquisition; anything missing or odd is left at its default."""
    maker = _text(header, "Manufacturer")
    position, sex = _text(header, "PatientPosition"), _text(header, "PatientSex")
    return Acquisition(
        manufacturer=next((name.lower() for name in MANUFACTURERS if maker.startswith(name)), "unknown"),
        kernel_class=kernel_class(_text(header, "ConvolutionKernel")),
        thickness_mm=_number(header, "SliceThickness"),
        kvp=_number(header, "KVP"),
        position=position if re.fullmatch(r"[HF]F[SP]|[HF]FD[RL]", position) else "",
        contrast=bool(_text(header, "ContrastBolusAgent")),
        age_years=age_years(_text(header, "PatientAge")),
        sex=sex if sex in ("M", "F") else "",
    )


def kernel_class(kernel: str) -> str:
    """Tell soft from edge-enhancing kernels by the makers' names.

    Siemens B/I/Br/Bl/Qr/Bf numbers from 50 on are sharp; GE LUNG, BONE, EDGE and DETAIL; Philips C, D, E, L, YB, YC, YD; Canon/Toshiba FC30 to
    FC39 and FC50 to FC59 and above 80.

    Examples
    --------
    >>> [kernel_class(k) for k in ("B70f", "B40f", "LUNG", "STANDARD", "Br49d", "FC51", "")]
    ['sharp', 'soft', 'sharp', 'soft', 'soft', 'sharp', 'unknown']
    """
    name = kernel.strip().upper().split("\\")[0]
    if not name:
        return "unknown"
    if found := re.match(r"(?:B|I|BR|BL|BF|BV|QR|HR|HF|UB|U)(\d{2})", name):
        return "sharp" if int(found[1]) >= 50 else "soft"
    if found := re.match(r"FC(\d{2})", name):
        number = int(found[1])
        return "sharp" if 30 <= number < 40 or 50 <= number < 60 or number >= 80 else "soft"
    if any(word in name for word in ("LUNG", "BONE", "EDGE", "DETAIL", "SHARP")) or name in ("C", "D", "E", "L", "YB", "YC", "YD"):
        return "sharp"
    if any(word in name for word in ("STANDARD", "SOFT", "STND")) or name in ("A", "B", "YA"):
        return "soft"
    return "unknown"


def age_years(text: str) -> float | None:
    """Read a DICOM age string; over 89 becomes 90 (45 CFR 164.514(b)(2)(i)(C)).

    Examples
    --------
    >>> age_years("053Y"), age_years("018M"), age_years("095Y"), age_years("old")
    (53.0, 1.5, 90.0, None)
    """
    found = re.fullmatch(r"(\d{3})([DWMY])", text.strip().upper())
    if not found:
        return None
    years = int(found[1]) / {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[found[2]]
    return 90.0 if years > 89 else round(years, 2)


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    if value is None:
        return ""
    return str(value if isinstance(value, str) or not hasattr(value, "__iter__") else "\\".join(map(str, value))).strip().upper()


def _number(header: Dataset, keyword: str) -> float | None:
    try:
        value = float(header.get(keyword))  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None
