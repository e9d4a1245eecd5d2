"""Which findings a reader has reported of a visit: present, absent, or not known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from client.cases.cohort import Case, Visit


def reported(visits: Sequence[Visit], findings: Sequence[str]) -> np.ndarray:
    """Return 1, 0 or NaN (not known) of each finding of each visit, float32 (visits, findings).

    Examples
    --------
    >>> from pathlib import Path
    >>> visit = Visit("v", 0, "s", Path("x"), {}, {"finding_ggo": 1.0})
    >>> reported([visit], ["ggo", "honeycombing"]).tolist()
    [[1.0, nan]]
    """
    rows = [[visit.clinical.get(f"finding_{name}", math.nan) for name in findings] for visit in visits]
    return np.array(rows, np.float32).reshape(len(visits), len(findings))


def is_reported(case: Case, findings: Sequence[str]) -> bool:
    """Return whether any of the findings is known of the patient's first visit."""
    return bool(np.isfinite(reported(case.visits[:1], findings)).any())
