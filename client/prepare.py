"""From a folder of DICOM to a prepared cohort: the whole way of a CT, one series at a time, in as many processes as asked for.

The workspace gets ``report.json`` and ``report.html`` (keyed pseudonyms only), ``items.csv`` (which pseudonym is which file; private, never
leaves), ``cache/``, ``cohort.json`` and, on first use, ``site.key``. Nothing identifying is in names, cache or report.
"""

from __future__ import annotations

import base64
import logging
import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from client.cases import cache
from client.cases.annotation import annotation_path, try_annotation
from client.cases.clinical import ClinicalTable, read_clinical
from client.cases.cohort import number_out
from client.cases.identity import Pseudonyms, site_secret
from client.cases.prepared import Prepared
from client.cluster import workers
from client.dicom import tags
from client.dicom.acquisition import Acquisition, describe_acquisition
from client.dicom.deidentify import deidentify
from client.dicom.header import read_full_header, read_headers
from client.dicom.quality import Subject, check
from client.dicom.read import Reading, read_series
from client.dicom.residue import residue
from client.dicom.scan import Series, group, list_files
from client.dicom.slices import Dismissed, SliceFile
from client.features import FEATURES, READY, doubled
from client.features.densitometry import densitometry
from client.intake.batch import stamp_of, take_in, worked_off
from client.intake.queue import Queue
from client.outcome import SUMMARY, PrepareReport, Study, build_cohort, collect, study_of, without_copies, write_items
from client.prepare_page import render
from client.preprocessing import STEPS
from client.preprocessing.resample import resample
from client.processes import NO_LIMITS, Limits, Lost, Processes
from client.segmentation import SEGMENTERS
from client.thumbnail import thumbnail
from shared_models.core.choices import pick
from shared_models.core.errors import BadChoice, BadInput, BadStudy
from shared_models.core.files import canonical_json, sha256, write_atomic, write_json
from shared_models.experiment import Preparation

LOGGER = logging.getLogger(__name__)
CHUNK = 64
"""Headers read in one go by one process."""


def prepare_study(
    series: Series,
    preparation: Preparation,
    *,
    names: Pseudonyms,
    workspace: Path,
    retain_characteristics: bool = True,
    shift_dates: bool = True,
    annotations: Path | None = None,
) -> Study:
    """Take one series the whole way: read, de-identify, check, segment, preprocess, describe, cache.

    The lung is segmented, and described, on the scanner's own grid; only then the image goes to the model's grid, so that interpolation
    never reaches a density feature.

    Raises
    ------
    BadStudy
        With the reason why the series cannot be used.
    """
    reading = read_series(series)
    acquisition = _clean_words(reading, names, retain_characteristics=retain_characteristics, shift_dates=shift_dates)
    drawn, odd = try_annotation(_annotation_of(series, annotations), reading.volume)
    found = [*reading.findings, *check(Subject(reading.volume, acquisition)), *odd]
    for finding in found:
        if finding.severity == "error":
            raise BadStudy(finding.code, finding.text)
    voxels = cache.volume_digest(reading.volume)
    content = canonical_json([voxels, acquisition.as_dict(), [f.as_dict() for f in found], *([] if drawn is None else [sha256(drawn.tobytes())])])
    path = workspace / "cache" / f"{cache.cache_key(sha256(content.encode()), preparation.digest)}.safetensors"
    try:
        note = cache.load(path).note
    except cache.DamagedCache:
        mask = pick(SEGMENTERS, preparation.segmenter, kind="segmenter")(reading.volume)
        native = Prepared(reading.volume, mask, annotation=drawn)
        found += check(Subject(reading.volume, acquisition, mask))
        prepared, described = preprocess(native, preparation, gapped=any(finding.code == "GAPPED" for finding in found))
        features = describe(described, preparation)
        summary = {name: features.get(name, math.nan) for name in SUMMARY} if SUMMARY[0] in features else describe_summary(described)
        note = {
            "features": {name: number_out(value) for name, value in features.items()},
            "summary": {name: number_out(value) for name, value in summary.items()},
            "findings": [f.as_dict() for f in found],
            "acquisition": acquisition.as_dict(),
            "native_spacing_mm": reading.volume.spacing_mm,
            "native_slices": len(reading.volume.hu),
            "content": voxels,
            "picture": base64.b64encode(thumbnail(native)).decode(),
        }
        cache.store(path, prepared, note)
    return study_of(path.name, note, reading.left_out)


def _annotation_of(series: Series, annotations: Path | None) -> Path | None:
    return annotation_path(annotations, series.series_uid, series.slices[0].study_uid)


def _clean_words(reading: Reading, names: Pseudonyms, *, retain_characteristics: bool, shift_dates: bool) -> Acquisition:
    header = read_full_header(reading.slices[len(reading.slices) // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a header does against the standard is no news here, and a warning would print its values
        clean = deidentify(header, names, retain_characteristics=retain_characteristics, shift_dates=shift_dates)
        if left := residue(header, clean):
            raise BadStudy("RESIDUE", "no identifier may be left after de-identification", value=left)
        return describe_acquisition(clean)


def preprocess(native: Prepared, preparation: Preparation, *, gapped: bool = False) -> tuple[Prepared, Prepared]:
    """Run the steps in order, then go to the target grid; return the result and what density features may be taken from.

    A series with gaps (thin slices, unseen lung between them) keeps its own slices: what lies between would be invented. Density features come
    from the last image that still is HU on the scanner's grid: after denoising or harmonising, before clipping or resampling.
    """
    prepared = described = native
    for choice in preparation.steps:
        prepared = pick(STEPS, choice, kind="step")(prepared)
        if prepared.is_hu and prepared.volume.hu.shape == native.volume.hu.shape and prepared.volume.spacing_mm == native.volume.spacing_mm:
            described = prepared
    if preparation.grid_mm is not None:
        z, y, x = preparation.grid_mm
        prepared = resample(prepared, z_mm=prepared.volume.spacing_mm[0] if gapped else z, y_mm=y, x_mm=x)
    return prepared, described


def describe(prepared: Prepared, preparation: Preparation) -> dict[str, float]:
    """Return the features of all families that the experiment asks for."""
    out: dict[str, float] = {}
    for choice in preparation.features:
        out |= pick(FEATURES, choice, kind="feature family")(prepared)
    return out


def describe_summary(prepared: Prepared) -> dict[str, float]:
    """Return the four features of `SUMMARY`."""
    features = densitometry(prepared)
    return {name: features[name] for name in SUMMARY}


def prepare_folder(
    folder: Path,
    workspace: Path,
    preparation: Preparation,
    *,
    secret: bytes | None = None,
    clinical: Path | None = None,
    processes: int = 1,
    retain_characteristics: bool = True,
    shift_dates: bool = True,
    limits: Limits = NO_LIMITS,
    backend: str = "pool",
    ray_address: str | None = None,
    only: Callable[[str], bool] | None = None,
    annotations: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Prepare everything under `folder` and write report, cache and cohort into `workspace`.

    One damaged file never stops the others: each item ends accepted, skipped or quarantined with a reason. Archives are unpacked into the
    workspace. The result does not depend on the number of processes, nor on the backend; the queue of the workspace (`client.intake.queue`)
    is told of each series.

    Parameters
    ----------
    folder : Path
        DICOM at any depth under any names, among anything else; it is only read.
    workspace : Path
        Private folder of the site; made when missing. It may lie inside `folder`.
    preparation : Preparation
        Grid, steps, segmenter, features.
    secret : bytes, optional
        Key of the pseudonyms; by default ``site.key`` of the workspace, made on first use.
    clinical : Path, optional
        ``clinical.csv``; see `client.cases.clinical`.
    processes : int
        Worker processes; 1 works in this one, unless there are limits.
    limits : Limits, optional
        Memory and time of one series; what passes them is quarantined as ``TOO_LARGE`` or ``TOO_SLOW``.
    backend : str
        ``pool``, or ``ray`` for a Ray cluster, whose machines see `folder` and `workspace` under the same paths.
    ray_address : str, optional
        Of a running cluster; by default one is started here with `processes` processors.
    retain_characteristics : bool
        Keep age and sex of the header (PS3.15 E.3.9); without, they come from the clinical table or not at all.
    shift_dates : bool
        Keep the days between visits (E.3.6); without, no interval is kept.
    only : callable, optional
        Asked for each path; files that it says no to are not looked at (they are still being copied, say).
    annotations : Path, optional
        Folder of label maps; see `client.cases.annotation`.
    progress : callable, optional
        Called with (series done, series in all).

    Raises
    ------
    BadInput
        A folder does not exist, the experiment names an unknown step, segmenter or feature, or another preparation writes there.
    BadCohort
        The clinical table contradicts itself.
    """
    folder, workspace = Path(folder), Path(workspace)
    if not folder.is_dir():
        raise BadInput("the folder to prepare must exist", value=str(folder), remedy="check the path")
    if annotations is not None and not annotations.is_dir():
        raise BadInput("the folder of annotations must exist", value=str(annotations), remedy="check `annotations` in the site TOML")
    check_preparation(preparation)
    table = read_clinical(clinical) if clinical else ClinicalTable()
    workspace.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = Pseudonyms(secret if secret is not None else site_secret(workspace))
    queue = Queue(workspace)
    with queue.work("prepare"), workers(backend, processes, limits=limits, address=ray_address) as crew:
        paths = [path for path in list_files(folder, leave_out=workspace) if only is None or only(path)]
        paths, archives = take_in(folder, paths, workspace, names, queue, crew)
        chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
        headers = crew.map(read_headers, chunks, lost=partial(_unreadable, limits=limits))
        series, dismissed = group(header for chunk in headers for header in chunk)
        dismissed += archives
        options: dict[str, Any] = {"retain_characteristics": retain_characteristics, "shift_dates": shift_dates}
        settings = [preparation.digest, options, cache.code_version(), limits.memory_mb, limits.seconds]
        results = worked_off(
            queue,
            "prepare",
            crew,
            partial(_attempt, preparation=preparation, names=names, workspace=workspace, options={**options, "annotations": annotations}),
            series,
            names=[names.item("series", one.series_uid, one.part) for one in series],
            stamps=[stamp_of(settings, [*(s.path for s in one.slices), *_drawn_for(one, annotations)]) for one in series],
            lost=_lost,
            reason_of=lambda outcome: outcome.reason if isinstance(outcome, Dismissed) else "",
        )
        outcomes: list[Study | Dismissed] = []
        for done, outcome in enumerate(results, start=1):
            outcomes.append(outcome)
            if progress:
                progress(done, len(series))
    outcomes = without_copies(series, outcomes)
    report, items = collect(folder, series, outcomes, dismissed, names)
    pairs = [(one, outcome) for one, outcome in zip(series, outcomes, strict=True) if isinstance(outcome, Study)]
    report.cohort = build_cohort(pairs, table, names, keep_days=shift_dates)
    write_items(workspace / "items.csv", items)
    write_json(workspace / "report.json", report.as_dict())
    write_atomic(workspace / "report.html", render(report).encode(), mode=0o600, durable=False)
    report.cohort.save(workspace / "cohort.json")
    return report


def _drawn_for(series: Series, annotations: Path | None) -> list[str]:
    path = _annotation_of(series, annotations)
    return [] if path is None else [str(path)]


def check_preparation(preparation: Preparation) -> None:
    """Check that every step, segmenter and feature family exists, takes its knobs and has the files it names, before any study is read.

    Raises
    ------
    BadChoice
        Naming the entry and what was probably meant; or two families that give the same columns.
    BadInput, BadState
        E_WEIGHTS: the weights of a feature family are not there, are others, or do not fit.
    """
    pick(SEGMENTERS, preparation.segmenter, kind="segmenter")
    for choice in preparation.steps:
        pick(STEPS, choice, kind="step")
    for choice in preparation.features:
        pick(FEATURES, choice, kind="feature family")
        if choice.name in READY:
            pick(READY, choice, kind="feature family")()
    if twice := doubled(preparation.features):
        raise BadChoice("every feature must have a column of its own", value=twice[:3], remedy="list a feature family once")


def _attempt(series: Series, *, preparation: Preparation, names: Pseudonyms, workspace: Path, options: dict[str, Any]) -> Study | Dismissed:
    paths = tuple(dict.fromkeys(s.path for s in series.slices))
    try:
        return prepare_study(series, preparation, names=names, workspace=workspace, **options)
    except BadStudy as error:
        reason = error.reason if error.reason in tags.SKIPPED or error.reason in tags.QUARANTINED else "FAILED"
    except Exception as error:  # one series never stops the others; the text stays on this machine
        LOGGER.warning("item %s: %s", names.item("series", series.series_uid, series.part), type(error).__name__)
        LOGGER.debug("trace", exc_info=True)
        reason = "FAILED"
    return Dismissed(reason, paths, series.series_uid)


def _unreadable(paths: list[str], reason: Lost, *, limits: Limits) -> list[SliceFile | Dismissed]:
    # one of these files takes a process down: each gets its own chance, so that only that one is lost
    del reason
    found: list[SliceFile | Dismissed] = []

    def lone(path: list[str], reason: Lost) -> list[SliceFile | Dismissed]:
        return [Dismissed("UNREADABLE" if reason == "FAILED" else reason, (path[0],))]

    with Processes(2, limits=limits) as crew:
        for one in crew.map(read_headers, [[path] for path in paths], lost=lone):
            found += one
    return found


def _lost(series: Series, reason: Lost) -> Dismissed:
    return Dismissed(reason, tuple(dict.fromkeys(s.path for s in series.slices)), series.series_uid)
