"""What evaluation asks of each patient beside the label: sex, age, and how the first scan was taken. Stays at the site."""

from __future__ import annotations

from pathlib import Path

from client.acquisition_profile import first_scans
from client.cases.cohort import Cohort
from shared_models.judging.subgroups import age_group

FACTS = ("sex", "age", "maker", "kernel", "thickness")
ACQUISITION = ("maker", "kernel", "thickness")
"""Facts of the scan: what `acquisition_baseline` may know."""


def patient_facts(workspace: Path) -> dict[str, dict[str, str]]:
    """Return by pseudonym each of `FACTS` as a word; ``unknown`` where nobody said.

    Raises
    ------
    BadInput
        Nothing was prepared yet.
    """
    scans = first_scans(workspace)
    found = {}
    for case, scan in zip(Cohort.load(workspace / "cohort.json").cases, scans, strict=True):
        clinical = case.visits[0].clinical
        age = clinical.get("age")
        found[case.pseudonym] = {
            "sex": str(clinical.get("sex") or "unknown"),
            "age": age_group(float(age) if isinstance(age, int | float) else None),
            "maker": scan["manufacturer"] or "unknown",
            "kernel": scan["kernel"],
            "thickness": scan["thickness_mm"],
        }
    return found
