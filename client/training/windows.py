"""Windows of lung as records of a forest that labels them, and what it says of whole studies, patient by patient."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.cases.cohort import Case
from client.cases.prepared import Prepared
from client.features.windows import Layout, window_names, windows_of
from client.training.classical import predict_classical
from client.training.records import Records, See
from client.training.targets import class_map, seen_study, slices_to_learn
from shared_models.core.arrays import Mask, State
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment
from shared_models.metrics.segmentation import pixel_table
from shared_models.patterns import NOT_ANNOTATED


@dataclass(frozen=True)
class Kept:
    """Rows of windows with all their columns, what was drawn there, and where they lie if that is asked."""

    rows: NDArray[np.float32]
    labels: NDArray[Any]
    layout: Layout | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.rows.nbytes + self.labels.nbytes + (self.layout.voxels.nbytes + self.layout.place.nbytes if self.layout else 0)


MOST_KEPT_BYTES = 512 << 20
_KEPT: dict[tuple[str, str, str, str], Kept] = {}


def window_records(cases: Sequence[Case], experiment: Experiment, workspace: Path, *, see: See | None = None) -> Records:
    """Turn cases into records of windows: ``inputs.windows`` of each patient's first visit, all under the patient's one pseudonym.

    They are drawn among the lung voxels of ``inputs.slices`` drawn slices, every voxel as likely as any other, so that patterns come in their own
    proportions; the same patient gives the same windows in every round.

    Raises
    ------
    BadCohort
        A column that no window has, or a study without anything to learn.
    """
    found = [_kept("drawn", case, experiment, workspace, see, _drawn) for case in cases]
    rows, labels = [_columns(one.rows, experiment) for one in found], [one.labels.astype(np.int64) for one in found]
    names = tuple(case.pseudonym for case, one in zip(cases, labels, strict=True) for _ in one)
    empty = np.zeros((0, len(experiment.inputs.columns)))
    return Records(np.concatenate(rows) if rows else empty, np.concatenate(labels) if labels else np.zeros(0, np.int64), names)


def _drawn(prepared: Prepared, case: Case, experiment: Experiment) -> Kept:
    """Return the drawn windows of a study, all columns, and their class numbers."""
    windows, classes = windows_of(prepared), class_map(prepared, experiment.data)
    known = np.zeros(classes.shape, bool)
    known[slices_to_learn(prepared, classes, experiment.inputs)] = True
    known &= classes != NOT_ANNOTATED
    inside = np.asarray(prepared.mask) > 0
    there = np.flatnonzero(known[inside])
    rng = np.random.default_rng([experiment.seed, zlib.crc32(case.pseudonym.encode())])
    chosen = np.sort(rng.choice(there, min(experiment.inputs.windows, len(there)), replace=False))
    return Kept(windows.rows[windows.block[chosen]], classes[inside][chosen])


def _annotated(prepared: Prepared, case: Case, experiment: Experiment) -> Kept:
    """Return the windows of a study in which something was drawn and those beside them, and how many drawn voxels of each class each holds."""
    del case
    windows, classes = windows_of(prepared), class_map(prepared, experiment.data)[np.asarray(prepared.mask) > 0]
    known, count = classes != NOT_ANNOTATED, len(experiment.data.classes)
    held = np.bincount(windows.block[known] * count + classes[known], minlength=len(windows.rows) * count).reshape(len(windows.rows), count)
    near = windows.layout.beside(held.max(axis=1) > 0)
    return Kept(windows.rows[near], held[near], windows.layout.of(near))


def _kept(
    kind: str, case: Case, experiment: Experiment, workspace: Path, see: See | None, make: Callable[[Prepared, Case, Experiment], Kept]
) -> Kept:
    """Return what `make` finds in a study, kept in memory while there is room: every baseline and every judgement asks for the same windows."""
    if see is not None:
        return make(seen_study(case, workspace, see), case, experiment)
    settings = experiment.model_dump_json(include={"data": True, "inputs": {"slices", "windows"}, "seed": True})
    key = (kind, str(workspace / case.visits[0].prepared), case.pseudonym, settings)
    if key not in _KEPT:
        found = make(seen_study(case, workspace, None), case, experiment)
        if sum(one.nbytes for one in _KEPT.values()) + found.nbytes > MOST_KEPT_BYTES:
            return found
        _KEPT[key] = found
    return _KEPT[key]


def _columns(rows: NDArray[np.float32], experiment: Experiment) -> NDArray[np.float64]:
    names = {name: number for number, name in enumerate(window_names())}
    if unknown := [column for column in experiment.inputs.columns if column not in names]:
        raise BadCohort("a model of windows reads columns of windows", value=unknown[:3], remedy=f"choose among {window_names()[0]}, ...")
    return rows[:, [names[column] for column in experiment.inputs.columns]].astype(np.float64)


def called_map(experiment: Experiment, state: State, prepared: Prepared) -> Mask:
    """Return the class number that a forest of windows gives each lung voxel of a study, uint8, shape (z, y, x); 0 outside the lung."""
    windows = windows_of(prepared)
    inside = np.asarray(prepared.mask) > 0
    out = np.zeros(inside.shape, np.uint8)
    out[inside] = _called(experiment, state, windows.rows, windows.layout)[windows.block]
    return out


def _called(experiment: Experiment, state: State, rows: NDArray[np.float32], layout: Layout) -> Mask:
    """Return the class number of each block: what the forest calls its window, then the vote of the blocks about it."""
    read = _columns(rows, experiment)
    called = predict_classical(experiment, state, Records(read, np.zeros(len(read), np.int64), ("",) * len(read))).argmax(1)
    return layout.voted(called.astype(np.uint8))


def judged_windows(experiment: Experiment, state: State, records: Records) -> NDArray[np.int64]:
    """Return the table of windows (truth, call) of each patient of `records`, in the order of their first window, shape (n, classes, classes)."""
    called = predict_classical(experiment, state, records).argmax(1)
    count, names = len(experiment.data.classes), np.array(records.names)
    tables = [pixel_table(records.labels[names == name], called[names == name], count) for name in dict.fromkeys(records.names)]
    return np.stack(tables) if tables else np.zeros((0, count, count), np.int64)


def judged_studies(experiment: Experiment, state: State, cases: Sequence[Case], workspace: Path, *, see: See | None = None) -> NDArray[np.int64]:
    """Return the table of voxels of each case over all its annotated slices, shape (cases, classes, classes)."""
    count, tables = len(experiment.data.classes), []
    for case in cases:
        seen = _kept("annotated", case, experiment, workspace, see, _annotated)
        if seen.layout is None:
            raise ValueError("annotated windows lie somewhere")
        table = np.zeros((count, count), np.int64)
        np.add.at(table.T, _called(experiment, state, seen.rows, seen.layout), seen.labels)
        tables.append(table)
    return np.stack(tables) if tables else np.zeros((0, count, count), np.int64)
