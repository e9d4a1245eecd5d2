"""What one patient leaves behind: series in the archive, rows of the clinical table, and the truth."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from client.cases.nifti import write_label_map
from shared_models.core.files import write_atomic
from shared_models.patterns import NOT_ANNOTATED
from sim.hospital.plan import PatientPlan
from sim.hospital.preset import HospitalPreset
from sim.hospital.reported import reported_cells
from sim.phantom.diseases import fibrosis_of
from sim.phantom.patient import Phantom, make_phantom
from sim.scanner.dicom import Identity, write_series
from sim.scanner.scanner import Scan, Scanner, at_scan, scan


@dataclass(frozen=True)
class PatientRecord:
    """What the tables say of one patient: rows of clinical.csv and entries of truth.json, one a visit."""

    number: int
    rows: list[list[str]]
    truth: list[dict[str, Any]]


def make_patient(preset: HospitalPreset, plan: PatientPlan, folder: Path, truth: Path) -> PatientRecord:
    """Write all visits of one patient (DICOM and truth masks) and return the table entries.

    Parameters
    ----------
    preset : HospitalPreset
        The hospital.
    plan : PatientPlan
        The patient.
    folder, truth : Path
        The hospital's folder and its own truth folder.
    """
    scanner = preset.machine()
    person, at_first = plan.course.person, fibrosis_of(plan.course.visits[0].extents)
    patient_id = f"PHANTOM-{preset.name}-{plan.number + 1:04d}"
    rows, entries = [], []
    for number, visit in enumerate(plan.course.visits):
        day = plan.study_date(visit)
        phantom = make_phantom(
            plan.klass, seed=plan.seed, grid_mm=preset.grid_mm, body=plan.body, extents=visit.extents, visit=number, first_fibrosis=at_first
        )
        scanned = scan(phantom, scanner, seed=plan.seed + number)
        who = Identity(patient_id, f"Phantom^{preset.name}{plan.number + 1:04d}", plan.birth_date, person.sex, day, preset.name)
        _write_study(folder / "dicom" / patient_id / who.study_uid[-12:], scanned, scanner, who, preset, plan.extras, first_visit=number == 0)
        _write_masks(truth / f"{patient_id}-{day:%Y%m%d}.npz", phantom, scanned)
        if preset.annotated:
            _write_annotation(folder / "annotations" / f"{who.series_uid()}.nii.gz", phantom, scanned, preset.annotated)
        fvc = "" if plan.missing_fvc else f"{visit.fvc_percent:.1f}"
        dlco = "" if plan.missing_dlco else f"{visit.dlco_percent:.1f}"
        age = (day - plan.birth_date).days // 365.25
        outcome = [f"{visit.time_years:.3f}", str(int(visit.event))]
        row = [patient_id, f"{day:%Y%m%d}", plan.diagnosis, f"{age:.0f}", person.sex, person.smoking, fvc, dlco, *outcome]
        reader = np.random.default_rng([plan.seed, number, 53])
        rows.append([*row, *reported_cells(phantom.extents, preset.findings, reader)] if preset.findings else row)
        entries.append(
            {
                "patient_id": patient_id,
                "study_date": f"{day:%Y%m%d}",
                "class": plan.klass,
                "diagnosis": plan.diagnosis,
                "lung_ml": phantom.lung_ml,
                "fibrosis": phantom.fibrosis,
                "body": plan.body,
                "log_hazard": plan.course.log_hazard,
                "extras": sorted(plan.extras),
                **asdict(visit),
                "extents": phantom.extents,
            }
        )
    return PatientRecord(plan.number, rows, entries)


def _write_study(
    folder: Path, scanned: Scan, scanner: Scanner, who: Identity, preset: HospitalPreset, extras: frozenset[str], *, first_visit: bool
) -> None:
    """Write the series of a visit: the supine one, and whatever else the archive holds."""
    corrupt = first_visit and "corrupt" in extras
    write_series(folder / "series-1", scanned, scanner, who, shuffled=preset.shuffled, corrupt=corrupt)
    if "prone" in extras:
        write_series(folder / "series-2", scanned, scanner, who, number=2, description="CHEST HRCT PRONE", prone=True, shuffled=preset.shuffled)
    if "localizer" in extras:
        scout = replace(scanned, hu=scanned.hu[len(scanned.hu) // 2 :][:1])
        write_series(folder / "series-3", scout, scanner, who, number=3, description="SCOUT", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    if "derived" in extras:
        reformat = replace(
            scanned, hu=np.maximum.reduceat(scanned.hu, range(0, len(scanned.hu), 4)), spacing_mm=(4 * scanned.spacing_mm[0], *scanned.spacing_mm[1:])
        )
        write_series(folder / "series-4", reformat, scanner, who, number=4, description="MIP", image_type=("DERIVED", "SECONDARY", "MIP"))


def _write_annotation(path: Path, phantom: Phantom, scanned: Scan, share: float) -> None:
    """Write what a reader would draw: the planted patterns, on slices spread evenly over the lung."""
    labels = at_scan(phantom.labels, phantom, scanned)
    lung = np.flatnonzero(at_scan(phantom.lung, phantom, scanned).any((1, 2)))
    looked = lung[readers_slices(len(lung), share)]
    drawn = np.full_like(labels, NOT_ANNOTATED)
    drawn[looked] = labels[looked]
    z_mm, y_mm, x_mm = scanned.axes_mm()
    path.parent.mkdir(parents=True, exist_ok=True)
    down = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # a scan runs from head to feet
    write_label_map(path, drawn, scanned.spacing_mm, np.array([x_mm[0], y_mm[0], -z_mm[0]]), down)


def readers_slices(there: int, share: float) -> np.ndarray:
    """Return which of `there` lung slices a reader outlines: evenly spread and both ends among them; of one or two alone, not the ends.

    Examples
    --------
    >>> readers_slices(21, 0.05).tolist(), readers_slices(21, 0.1).tolist(), readers_slices(21, 0.2).tolist()
    ([10], [5, 15], [0, 7, 13, 20])
    """
    if share >= 1:
        return np.arange(there)
    count = max(1, round(share * there))
    places = np.linspace(0, there - 1, count) if count > 2 else (np.arange(count) + 0.5) * (there - 1) / count
    return np.unique(np.round(places).astype(int))


def _write_masks(path: Path, phantom: Phantom, scanned: Scan) -> None:
    """Write label and lung masks on the grid of the scan."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, labels=at_scan(phantom.labels, phantom, scanned), lung=at_scan(phantom.lung, phantom, scanned))
    write_atomic(path, buffer.getvalue(), durable=False)
