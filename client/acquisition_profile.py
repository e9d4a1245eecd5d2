"""How a site scans, in counts that may be shared: maker, kernel, thickness, tube voltage and year, with no cell of few patients.

Each patient counts once, with the series of the first visit that the cohort took. Values with too few patients are put together as ``other``,
and where that is still too few the smallest value that would be shown joins it: no count can be found by subtraction.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from client.cases.cohort import Cohort
from client.site import Site
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import read_json

THICKNESS_MM = (1.5, 3.0, 5.0)
"""Upper ends of the classes of slice thickness: thin-section (<= 1.5 mm), as reformatted (<= 3 mm), routine (<= 5 mm), thicker."""
OTHER = "other"


def acquisition_profile(folder: Path) -> dict[str, Any]:
    """Return the profile of a site folder: ``patients``, ``least`` (patients behind each count), and one table of counts for each of five facts.

    Raises
    ------
    BadInput
        Nothing was prepared yet.
    Refused
        E_FEW_CASES: fewer patients than the site's policy lets stand behind a number.
    """
    site = Site.load(Path(folder) / "site.toml")
    least = max(site.policy.min_per_class, 1)
    scans = first_scans(site.workspace)
    if len(scans) < site.policy.min_cases:
        raise Refused("a profile needs enough patients behind it", remedy="share it when more were prepared", code="E_FEW_CASES")
    tables = {fact: pooled(Counter(scan[fact] for scan in scans), least) for fact in ("manufacturer", "kernel", "thickness_mm", "kvp", "year")}
    return {"site": site.site.name, "patients": len(scans), "least": least, **tables}


def first_scans(workspace: Path) -> list[dict[str, str]]:
    """Return what is known of the first scan of each patient: manufacturer, kernel, thickness_mm, kvp, year, each as a word."""
    try:
        lines = {line["series"]: line for line in read_json(workspace / "report.json")["accepted"]}
        with open(workspace / "items.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
            years = {row["item"]: row["year"] for row in csv.DictReader(file) if row["year"]}
    except (OSError, KeyError, TypeError, ValueError):
        raise BadInput("the workspace must hold a preparation's report", remedy="run `fedild site prepare` first") from None
    scans = []
    for case in Cohort.load(workspace / "cohort.json").cases:
        line = lines.get(case.visits[0].series)
        if line is None:
            raise BadInput("report and cohort must be of one preparation", remedy="run `fedild site prepare` again")
        seen = line["acquisition"]
        scans.append(
            {
                "manufacturer": str(seen["manufacturer"]),
                "kernel": str(seen["kernel_class"]),
                "thickness_mm": thickness_class(seen["thickness_mm"]),
                "kvp": "unknown" if seen["kvp"] is None else str(10 * round(seen["kvp"] / 10)),
                "year": years.get(line["item"], "unknown"),
            }
        )
    return scans


def years_of_first_scans(workspace: Path) -> dict[str, int]:
    """Return by pseudonym the calendar year of a patient's first scan; who has no known year is left out. Stays at the site.

    Raises
    ------
    BadInput
        Nothing was prepared yet.
    """
    cases = Cohort.load(workspace / "cohort.json").cases
    return {case.pseudonym: int(scan["year"]) for case, scan in zip(cases, first_scans(workspace), strict=True) if scan["year"].isdigit()}


def thickness_class(thickness_mm: float | None) -> str:
    """Return the class of a slice thickness.

    Examples
    --------
    >>> thickness_class(1.0), thickness_class(8.0), thickness_class(None)
    ('<= 1.5', '> 5', 'unknown')
    """
    if thickness_mm is None:
        return "unknown"
    return next((f"<= {end:g}" for end in THICKNESS_MM if thickness_mm <= end), f"> {THICKNESS_MM[-1]:g}")


def pooled(counts: Counter[str], least: int) -> dict[str, int]:
    """Return counts of which none is below `least`, with the same total.

    Examples
    --------
    >>> pooled(Counter(siemens=20, ge=7, canon=2), 5)
    {'siemens': 20, 'other': 9}
    >>> pooled(Counter(soft=3), 5)
    {}
    """
    shown = {value: count for value, count in counts.items() if count >= least}
    rest = sum(counts.values()) - sum(shown.values())
    while 0 < rest < least and shown:
        smallest = min(shown, key=lambda value: (shown[value], value))
        rest += shown.pop(smallest)
    out = dict(sorted(shown.items(), key=lambda pair: (-pair[1], pair[0])))
    return out | ({OTHER: rest} if rest >= least else {})


def lines_of(profile: dict[str, Any]) -> list[str]:
    """Return a profile as lines of text."""
    facts = [(name, table) for name, table in profile.items() if isinstance(table, dict)]
    head = f"{profile['site']}: {profile['patients']} patients; no count stands for fewer than {profile['least']}"
    return [head, *(f"{name:13s} " + ", ".join(f"{value} {count}" for value, count in table.items()) for name, table in facts)]
