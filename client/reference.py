"""What healthy lungs measure, for the few features for which a source says so; everything else has no reference and gets none."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Reference:
    """A range of a feature; `low`, `middle`, `high` in the feature's own unit, `of` says whose. A `rough` one is good for the eye, not for a mark."""

    low: float
    high: float
    middle: float
    of: str
    rough: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def place(self, value: float) -> str:
        """Say where `value` lies: ``below``, ``within``, ``above``, or ``unknown`` against a rough range or without a value.

        Examples
        --------
        >>> [REFERENCE["whole_haa_percent"].place(v) for v in (1.0, 2.7, 30.0, math.nan)]
        ['below', 'within', 'above', 'unknown']
        """
        if self.rough or math.isnan(value):
            return "unknown"
        return "below" if value < self.low else "above" if value > self.high else "within"


REFERENCE: dict[str, Reference] = {
    "whole_volume_l": Reference(1.93, 7.01, 4.47, "adults at full inspiration, mean ± 2 SD"),
    "whole_mld_hu": Reference(-850, -830, -840, "healthy lungs at full inspiration, a rule of thumb", rough=True),
    "whole_haa_percent": Reference(2.7, 17.8, 4.3, "healthy never-smokers, full-lung CT of MESA, median and published interval"),
    "whole_laa950_percent": Reference(
        0.03, 0.43, 0.19, "healthy lungs, median and published interval; a sharper kernel raised 5.4 to 15.3 on the same scans"
    ),
}
"""Feature to reference. High attenuation: Lederer et al. (MESA); the kernel's effect on low attenuation is larger than most disease."""
