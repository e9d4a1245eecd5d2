"""Phantom hospitals on disk, patients in parallel.

    <folder>/dicom/<PatientID>/<study>/<series>/*.dcm      what a hospital has
    <folder>/clinical.csv                                  a row per visit; written last: where it is, the hospital is whole
    <truth>/<name>/<PatientID>-<date>.npz, truth.json      what only the simulation knows; no client opens it

A patient depends on the seed, the hospital's name and its own number alone, so any number of processes writes the same bytes.
"""

from __future__ import annotations

import csv
import io
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic, write_json
from sim.hospital.archive import PatientRecord, make_patient
from sim.hospital.plan import PatientPlan, plan_hospital
from sim.hospital.preset import HospitalPreset
from sim.hospital.reported import COLUMNS as REPORTED_COLUMNS
from sim.phantom.outcomes import LAWS, planted_coefficients

CLINICAL_COLUMNS = ("patient_id", "study_date", "diagnosis", "age", "sex", "smoking", "fvc_percent", "dlco_percent", "time_years", "event")
"""Header of clinical.csv. Dates are YYYYMMDD and equal StudyDate; an empty cell is a missing value."""

OnPatient = Callable[[str, int, int], None]
"""Called after each patient with the hospital's name, patients done and patients in all."""

_BATCH = 6


def make_hospital(preset: HospitalPreset, folder: Path, truth: Path, *, seed: int, progress: OnPatient | None = None) -> None:
    """Make one hospital in this process.

    Parameters
    ----------
    preset : HospitalPreset
        What to make.
    folder : Path
        The hospital's folder; new or empty.
    truth : Path
        Root of the truth; a folder named after the hospital is made in it.
    seed : int
        Seed of the whole simulation.
    progress : callable, optional
        Called after each patient with the hospital's name, patients done and patients in all.

    Raises
    ------
    BadInput
        The folder already holds a hospital.
    """
    _make([(preset, Path(folder), Path(truth) / preset.name)], seed=seed, processes=1, on_patient=progress)


def make_hospitals(
    presets: Sequence[HospitalPreset], root: Path, truth: Path, *, seed: int, processes: int = 2, on_patient: OnPatient | None = None
) -> dict[str, Path]:
    """Make several hospitals, patients in parallel; the files do not depend on the number of processes.

    Parameters
    ----------
    presets : sequence of HospitalPreset
        What to make; names differ.
    root : Path
        Each hospital gets ``root/<name>``.
    truth : Path
        Root of the truth, apart from `root`.
    seed : int
        Seed of the whole simulation.
    processes : int
        Worker processes; 1 works in this one.
    on_patient : callable, optional
        Called in this process after each patient.

    Returns
    -------
    dict of name to Path
        Folder of each hospital.

    Raises
    ------
    BadInput
        Two hospitals of one name, a folder that already holds a hospital, or a truth folder inside a hospital's.
    """
    names = [preset.name for preset in presets]
    if len(set(names)) != len(names):
        raise BadInput("hospitals must have different names", value=sorted(names))
    if processes < 1:
        raise BadInput("at least one process is needed", value=processes)
    folders = {name: Path(root) / name for name in names}
    _make([(preset, folders[preset.name], Path(truth) / preset.name) for preset in presets], seed=seed, processes=processes, on_patient=on_patient)
    return folders


def _make(jobs: list[tuple[HospitalPreset, Path, Path]], *, seed: int, processes: int, on_patient: OnPatient | None) -> None:
    for _, folder, truth in jobs:
        if any(path.exists() and any(path.iterdir()) for path in (folder, truth)):
            raise BadInput(
                "a hospital is made in a new folder", value=folder.name, remedy="remove the old hospital and its truth, or choose another folder"
            )
        if truth.resolve().is_relative_to(folder.resolve()):
            raise BadInput("the truth must lie outside the hospital's folder", value=truth.name, remedy="choose a truth folder beside the hospitals")
        folder.mkdir(parents=True, exist_ok=True)
        truth.mkdir(parents=True, exist_ok=True)
    records: dict[str, list[PatientRecord]] = {preset.name: [] for preset, _, _ in jobs}
    for name, record in _records(_batches(jobs, seed), processes):
        done = records[name]
        done.append(record)
        preset, folder, truth = next(job for job in jobs if job[0].name == name)
        if len(done) == preset.patients:
            _write_tables(preset, folder, truth, done)
        if on_patient:
            on_patient(name, len(done), preset.patients)


@dataclass(frozen=True)
class _Batch:
    """Patients of one hospital who share a body, so that a process builds its template once."""

    preset: HospitalPreset
    folder: Path
    truth: Path
    plans: tuple[PatientPlan, ...]


def _batches(jobs: list[tuple[HospitalPreset, Path, Path]], seed: int) -> list[_Batch]:
    plans = [(preset, folder, truth, plan) for preset, folder, truth in jobs for plan in plan_hospital(preset, seed=seed)]
    batches: list[_Batch] = []
    for preset, folder, truth, plan in sorted(plans, key=lambda item: (item[0].grid_mm, item[3].body, item[0].name, item[3].number)):
        last = batches[-1] if batches else None
        if last and last.preset is preset and last.plans[0].body == plan.body and len(last.plans) < _BATCH:
            batches[-1] = replace(last, plans=(*last.plans, plan))
        else:
            batches.append(_Batch(preset, folder, truth, (plan,)))
    return batches


def _make_batch(batch: _Batch) -> list[PatientRecord]:
    with threadpool_limits(1):  # one core a process, and sums in an order that does not depend on the machine's load
        return [make_patient(batch.preset, plan, batch.folder, batch.truth) for plan in batch.plans]


def _records(batches: list[_Batch], processes: int) -> Iterator[tuple[str, PatientRecord]]:
    """Yield the patients as they are done."""
    if processes == 1:
        for batch in batches:
            for plan in batch.plans:
                yield batch.preset.name, _make_batch(replace(batch, plans=(plan,)))[0]
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(_make_batch, batch): batch.preset.name for batch in batches}
        try:
            for future in as_completed(waiting):
                for record in future.result():
                    yield waiting[future], record
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write_tables(preset: HospitalPreset, folder: Path, truth: Path, records: list[PatientRecord]) -> None:
    """Write truth.json, then clinical.csv, patients in order."""
    records = sorted(records, key=lambda record: record.number)
    survival = asdict(LAWS[preset.survival]) | {"log_hazard": planted_coefficients(LAWS[preset.survival])}
    visits = [entry for record in records for entry in record.truth]
    write_json(truth / "truth.json", {"hospital": asdict(preset), "survival": survival, "visits": visits}, durable=False)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*CLINICAL_COLUMNS, *REPORTED_COLUMNS) if preset.findings else CLINICAL_COLUMNS)
    writer.writerows(row for record in records for row in record.rows)
    write_atomic(folder / "clinical.csv", text.getvalue().encode(), durable=False)
