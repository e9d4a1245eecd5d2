"""The limits of the quality checks: value, unit, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Limit:
    """A number that a check compares with, its unit and its source."""

    value: float
    unit: str
    source: str


LIMITS: Final[dict[str, Limit]] = {
    "slice_step_3d": Limit(3.0, "mm", "thin-section CT is <= 1.5 mm (Raghu et al., ATS/ERS/JRS/ALAT 2022); twice that still samples a lobule"),
    "gap_factor": Limit(2.0, "thicknesses", "at two thicknesses half of the lung is unseen; legacy HRCT is 1 mm every 10 mm (Ash 2017)"),
    "few_slices": Limit(25, "slices", "a lung of 250 mm at the 10 mm interval of sequential HRCT"),
    "length": Limit(150.0, "mm", "shorter than any adult lung from apex to base (phantom and CT atlases: 180 to 300 mm)"),
    "lung_low": Limit(1.0, "L", "full inspiration is 4.5 +- 1.3 L (methods 2.4); below 1 L a mask has lost something"),
    "lung_high": Limit(9.0, "L", "full inspiration is 4.5 +- 1.3 L (methods 2.4); above 9 L a mask has gained something"),
    "noise": Limit(60.0, "HU", "sharp kernels of routine scans give about 60 HU in homogeneous tissue (methods 5.5, site B)"),
    "padding": Limit(0.6, "share", "a circle inside a square leaves 21 % outside; three times that is no chest that fills its field of view"),
    "air": Limit(0.01, "share", "a chest holds lung or air below -700 HU"),
    "tissue": Limit(0.05, "share", "a chest holds soft tissue between -200 and 300 HU"),
    "brightest": Limit(2000.0, "HU", "the 99th percentile of a chest is bone (300 to 1900 HU), even with metal"),
    "cut_area": Limit(0.1, "share", "apex and base taper: an end slice with a tenth of the largest lung area lies inside the lung"),
    "small_lung": Limit(0.1, "share", "the left lung holds 45 to 47 % of both; a tenth of the other is a collapsed, removed or missed one"),
    "jump": Limit(
        2.3, "ratio", "measured: still <= 1.4 (real scans), <= 2.1 (phantoms); real ones with a step of 6 mm 2.1 to 2.9, of 12 mm 3.1 to 6.3"
    ),
    "jump_asked": Limit(1.4, "ratio", "measured: still <= 1.4 (real scans); from here on a step is looked at for a shift"),
    "shift": Limit(1.3, "ratio", "measured: still <= 1.02 (real scans and phantoms); with a step of 6 mm 1.2 to 2.3 (real), 1.5 to 3.5 (phantoms)"),
    "truncated": Limit(0.1, "share of slices", "the chest wall lies between lung and rim in every slice; a tenth leaves room for arms and tables"),
}
"""Name to limit; `client.dicom.quality` compares with these and with nothing else."""
