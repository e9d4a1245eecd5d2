"""What became of each series: a prepared study or a reason; and from all of them the report and the cohort."""

from __future__ import annotations

import csv
import datetime
import io
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.cases.clinical import ClinicalTable, with_numbers
from client.cases.cohort import Case, Cohort, Visit, number_out
from client.cases.follow_up import follow_up_of_cases
from client.cases.identity import Pseudonyms, canonical_id
from client.dicom import tags
from client.dicom.acquisition import Acquisition
from client.dicom.scan import Series
from client.dicom.slices import Dismissed
from shared_models.core.files import write_atomic

SUMMARY = ("whole_volume_l", "whole_mld_hu", "whole_haa_percent", "whole_laa950_percent")
"""Features that every line of the report shows, whatever the experiment asks for."""
SEEN = ("manufacturer", "kernel_class", "thickness_mm", "kvp", "position", "contrast")
"""What the report says of an acquisition: nothing of the patient."""


@dataclass(frozen=True)
class Study:
    """A series that was prepared: where it is cached, what was found, and the files that were left out of it.

    `content` is a digest of voxels and geometry, `picture` a small PNG in base64.
    """

    cached: str
    features: dict[str, float]
    summary: dict[str, float]
    findings: list[dict[str, str]]
    acquisition: Acquisition
    spacing_mm: tuple[float, float, float]
    slices: int
    left_out: tuple[Dismissed, ...] = ()
    content: str = ""
    picture: str = ""


@dataclass
class PrepareReport:
    """What became of every item; `as_dict` is ``report.json``."""

    accepted: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    quarantined: list[dict[str, str]] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    cohort: Cohort = field(default_factory=lambda: Cohort(()))
    pictures: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; every name in them is a keyed pseudonym."""
        return {"accepted": self.accepted, "skipped": self.skipped, "quarantined": self.quarantined, "outcomes": self.outcomes()} | self._told()

    def _told(self) -> dict[str, Any]:
        line = self.follow_up()
        return {} if line is None else {"follow_up": line}

    def follow_up(self) -> dict[str, Any] | None:
        """Return how long whom of the cohort was followed; None where no patient's time and event are known."""
        line = follow_up_of_cases(self.cohort.cases)
        return line.row() if line.known else None

    def outcomes(self) -> list[dict[str, Any]]:
        """Return one row for each outcome and reason: how many items and files, what it means and what to do about it."""
        rows = [{"outcome": "accepted", "reason": "", "items": len(self.accepted), "files": self.files.get("", 0), "meaning": "", "remedy": ""}]
        for outcome, lines, words in (("quarantined", self.quarantined, tags.QUARANTINED), ("skipped", self.skipped, tags.SKIPPED)):
            for reason, count in sorted(Counter(line["reason"] for line in lines).items()):
                meaning, remedy = words[reason]
                row = {"outcome": outcome, "reason": reason, "items": count, "files": self.files.get(reason, 0)}
                rows.append(row | {"meaning": meaning, "remedy": remedy})
        return rows


def lines_of(outcomes: Iterable[dict[str, Any]]) -> list[str]:
    """Return `PrepareReport.outcomes` as lines of text.

    Examples
    --------
    >>> lines_of(PrepareReport(skipped=[{"reason": "NOT_CT"}], files={"NOT_CT": 3}).outcomes())
    ['accepted         0 series       0 files', 'skipped          1 items        3 files  NOT_CT: not a CT image; none needed']
    """
    out = []
    for row in outcomes:
        what = "series" if row["outcome"] == "accepted" else "items "
        text = f"{row['outcome']:12s} {row['items']:5d} {what} {row['files']:7d} files"
        out.append(text + (f"  {row['reason']}: {row['meaning']}; {row['remedy']}" if row["reason"] else ""))
    return out


def study_of(cached: str, note: dict[str, Any], left_out: tuple[Dismissed, ...]) -> Study:
    """Return the study that a cached note describes."""

    def numbers(values: dict[str, Any]) -> dict[str, float]:
        return {name: math.nan if value is None else float(value) for name, value in values.items()}

    z, y, x = note["native_spacing_mm"]
    acquisition = Acquisition(**note["acquisition"])
    features, summary = numbers(note["features"]), numbers(note["summary"])
    return Study(
        cached, features, summary, note["findings"], acquisition, (z, y, x), note["native_slices"], left_out, note["content"], note["picture"]
    )


def without_copies(series: list[Series], outcomes: list[Study | Dismissed]) -> list[Study | Dismissed]:
    """Turn away series whose images are already there under another id.

    Of one patient, the first by id stays (`DUPLICATE_SERIES`). Under two patient ids none does (`SAME_IMAGES_TWO_PATIENTS`): one person would
    count twice in a privacy ledger and could stand on both sides of a split.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, Study):
            alike[outcome.content].append(number)
    left = list(outcomes)
    for numbers in alike.values():
        patients = {canonical_id(series[n].slices[0].patient_id) for n in numbers}
        reason = "DUPLICATE_SERIES" if len(patients) == 1 else "SAME_IMAGES_TWO_PATIENTS"
        first = sorted(numbers, key=lambda n: (series[n].series_uid, series[n].part))[0]
        for number in numbers:
            if number != first or len(patients) > 1:
                one = series[number]
                left[number] = Dismissed(reason, tuple(dict.fromkeys(s.path for s in one.slices)), one.series_uid)
    return left


def build_cohort(studies: Iterable[tuple[Series, Study]], table: ClinicalTable, names: Pseudonyms, *, keep_days: bool = True) -> Cohort:
    """Put studies together by patient and visit; of several series of a visit the best one is taken (`preference`).

    The diagnosis comes from the clinical table and holds for the patient; measurements hold for their day. Age and sex come from the table
    or else from the header. Without `keep_days` no interval between visits is kept, and their order is that of their pseudonyms.
    """
    visits: dict[str, dict[str, list[tuple[Series, Study]]]] = defaultdict(lambda: defaultdict(list))
    for series, study in studies:
        first = series.slices[0]
        visits[names.patient(first.patient_id)][names.visit(first.patient_id, first.study_date, first.study_uid)].append((series, study))
    cases = []
    for patient, by_visit in visits.items():
        found = []
        for visit, candidates in by_visit.items():
            series, study = min(candidates, key=lambda c: (*preference(c[1]), names.series(c[0].series_uid, c[0].part)))
            found.append((_ordinal(series.slices[0].study_date) if keep_days else None, visit, series, study))
        start = min((day for day, *_ in found if day is not None), default=0)
        made = []
        for day, visit, series, study in sorted(found, key=lambda f: (f[0] if f[0] is not None else start, f[1])):
            one = series.slices[0]
            known: dict[str, float | str] = {"age": study.acquisition.age_years} if study.acquisition.age_years is not None else {}
            known |= {"sex": study.acquisition.sex} if study.acquisition.sex else {}
            values = with_numbers(known | table.values(one.patient_id, one.study_date))
            name = names.series(series.series_uid, series.part)
            made.append(Visit(visit, 0 if day is None else day - start, name, Path("cache") / study.cached, study.features, values))
        cases.append(Case(patient, tuple(made), table.diagnosis(found[0][2].slices[0].patient_id)))
    return Cohort(tuple(cases), tuple(sorted({case.label for case in cases if case.label is not None})))


def preference(study: Study) -> tuple[Any, ...]:
    """Return the sort key of a series among those of one visit: fewest warnings that forbid volumes, thinnest, not sharp, most slices."""
    codes = {finding["code"] for finding in study.findings}
    kernel = {"soft": 0, "unknown": 1, "sharp": 2}[study.acquisition.kernel_class]
    return ("GAPPED" in codes, round(study.spacing_mm[0], 1), kernel, -study.slices)


def collect(
    folder: Path, series: list[Series], outcomes: list[Study | Dismissed], dismissed: list[Dismissed], names: Pseudonyms
) -> tuple[PrepareReport, list[tuple[str, str, str]]]:
    """Return the report, its lines sorted by pseudonym, and the private list of (item, path, year)."""
    report, items, paths_of = PrepareReport(), set(), defaultdict(set)
    turned_away = list(dismissed)
    for one, outcome in zip(series, outcomes, strict=True):
        if isinstance(outcome, Dismissed):
            turned_away.append(outcome)
            continue
        first, item = one.slices[0], names.item("series", one.series_uid, one.part)
        line: dict[str, Any] = {
            "item": item,
            "patient": names.patient(first.patient_id),
            "visit": names.visit(first.patient_id, first.study_date, first.study_uid),
            "series": names.series(one.series_uid, one.part),
        }
        values = [number_out(round(outcome.summary[name], 4)) for name in SUMMARY]
        line |= dict(zip(("lung_volume_l", "mean_lung_hu", "haa_percent", "laa950_percent"), values, strict=True))
        seen = {name: getattr(outcome.acquisition, name) for name in SEEN}
        scan = seen | {"spacing_mm": [round(step, 3) for step in outcome.spacing_mm], "slices": outcome.slices}
        report.accepted.append(line | {"acquisition": scan, "findings": outcome.findings})
        report.pictures[item] = outcome.picture
        turned_away += outcome.left_out
        gone = {path for left in outcome.left_out for path in left.paths}
        kept = {s.path for s in one.slices} - gone
        paths_of[""] |= kept
        items |= {(item, path, first.study_date[:4]) for path in kept}
    for left in turned_away:
        item = names.item("left", left.reason, os.path.relpath(left.paths[0], folder))
        items |= {(item, path, "") for path in left.paths}
        paths_of[left.reason] |= set(left.paths)
        words = tags.SKIPPED if left.is_skipped else tags.QUARANTINED
        lines = report.skipped if left.is_skipped else report.quarantined
        lines.append({"item": item, "reason": left.reason, "remedy": words[left.reason][1]})
    for lines in (report.accepted, report.skipped, report.quarantined):
        lines.sort(key=lambda line: line["item"])
    report.files = {reason: len(paths) for reason, paths in paths_of.items()}
    return report, sorted(items)


def write_items(path: Path, items: list[tuple[str, str, str]]) -> None:
    """Write ``items.csv`` (0600): which item is which file, and the year of its scan. It never leaves the site."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("item", "path", "year"))
    writer.writerows(items)
    write_atomic(path, text.getvalue().encode("utf-8", "surrogateescape"), mode=0o600, durable=False)


def _ordinal(date: str) -> int | None:
    try:
        return datetime.date(int(date[:4]), int(date[4:6]), int(date[6:8])).toordinal()
    except ValueError:
        return None
