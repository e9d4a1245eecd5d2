"""What became of each series: a prepared study or a reason; and from all of them the report and the cohort."""

from __future__ import annotations

import csv
import datetime
import io
import math
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.cases.clinical import ClinicalTable, with_numbers
from client.cases.cohort import Case, Cohort, Visit, number_out
from client.cases.identity import Pseudonyms
from client.dicom import tags
from client.dicom.acquisition import Acquisition
from client.dicom.header import Dismissed
from client.dicom.scan import Series
from shared_models.core.files import write_atomic

SUMMARY = ("whole_volume_l", "whole_mld_hu", "whole_haa_percent", "whole_laa950_percent")
"""Features that every line of the report shows, whatever the experiment asks for."""


@dataclass(frozen=True)
class Study:
    """A series that was prepared: where it is cached, what was found, and the files that were left out of it."""

    cached: str
    features: dict[str, float]
    summary: dict[str, float]
    findings: list[dict[str, str]]
    acquisition: Acquisition
    spacing_mm: tuple[float, float, float]
    slices: int
    left_out: tuple[Dismissed, ...] = ()


@dataclass
class PrepareReport:
    """What became of every item; `as_dict` is ``report.json``."""

    accepted: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    quarantined: list[dict[str, str]] = field(default_factory=list)
    cohort: Cohort = field(default_factory=lambda: Cohort(()))

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; every name in them is a keyed pseudonym."""
        return {"accepted": self.accepted, "skipped": self.skipped, "quarantined": self.quarantined}


def study_of(cached: str, note: dict[str, Any], left_out: tuple[Dismissed, ...]) -> Study:
    """Return the study that a cached note describes."""

    def numbers(values: dict[str, Any]) -> dict[str, float]:
        return {name: math.nan if value is None else float(value) for name, value in values.items()}

    z, y, x = note["native_spacing_mm"]
    acquisition = Acquisition(**note["acquisition"])
    return Study(
        cached, numbers(note["features"]), numbers(note["summary"]), note["findings"], acquisition, (z, y, x), note["native_slices"], left_out
    )


def build_cohort(studies: Iterable[tuple[Series, Study]], table: ClinicalTable, names: Pseudonyms) -> Cohort:
    """Put studies together by patient and visit; of several series of a visit the best one is taken (`preference`).

    The diagnosis comes from the clinical table and holds for the patient; measurements hold for their day. Age and sex come from the table
    or else from the header.
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
            found.append((_ordinal(series.slices[0].study_date), visit, series, study))
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
) -> tuple[PrepareReport, list[tuple[str, str]]]:
    """Return the report, its lines sorted by pseudonym, and the private list of (item, path)."""
    report, items = PrepareReport(), []
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
        report.accepted.append(line | {"findings": outcome.findings})
        turned_away += outcome.left_out
        gone = {path for left in outcome.left_out for path in left.paths}
        items += [(item, s.path) for s in one.slices if s.path not in gone]
    for left in turned_away:
        item = names.item("left", left.reason, os.path.relpath(left.paths[0], folder))
        items += [(item, path) for path in left.paths]
        if left.is_skipped:
            report.skipped.append({"item": item, "reason": left.reason})
        else:
            report.quarantined.append({"item": item, "reason": left.reason, "remedy": tags.QUARANTINED[left.reason][1]})
    for lines in (report.accepted, report.skipped, report.quarantined):
        lines.sort(key=lambda line: line["item"])
    return report, sorted(items)


def write_items(path: Path, items: list[tuple[str, str]]) -> None:
    """Write ``items.csv`` (0600): which item is which file. It never leaves the site."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("item", "path"))
    writer.writerows(items)
    write_atomic(path, text.getvalue().encode("utf-8", "surrogateescape"), mode=0o600, durable=False)


def _ordinal(date: str) -> int | None:
    try:
        return datetime.date(int(date[:4]), int(date[4:6]), int(date[6:8])).toordinal()
    except ValueError:
        return None
