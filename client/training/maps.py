"""What a network that labels pixels says of records, and how that compares with what was drawn, patient by patient."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from client.cases.cohort import Case
from client.cases.prepared import Prepared
from client.training.gradient import warm_model
from client.training.micro_batch import in_parts
from client.training.records import Records, See, slices_at
from client.training.targets import drawn_study, onto_study
from shared_models.core.arrays import Mask, State
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment
from shared_models.metrics.segmentation import pixel_table
from shared_models.phases import trained

AT_ONCE = 32


def predict_maps(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    """Return the most probable class of every pixel of `records`, uint8, shape (n, k, y, x)."""
    warm = warm_model(experiment)
    flat, device = warm.flat, warm.flat.weights.device
    flat.load(trained(state))
    flat.model.eval()

    def classes(start: int, part: slice) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(records.inputs[start + part.start : start + part.stop], dtype=np.float32))
        return flat.model(batch.to(device)).argmax(1).to(torch.uint8).cpu().numpy()

    parts: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(records), AT_ONCE):
            parts += in_parts(min(AT_ONCE, len(records) - start), warm.predicts, functools.partial(classes, start))
    return np.concatenate(parts) if parts else np.zeros(records.inputs.shape, np.uint8)


def called_slices(experiment: Experiment, state: State, prepared: Prepared) -> Mask:
    """Return the class number that a network gives each voxel of a study, uint8, shape (z, y, x), on the grid of the study; 0 beyond its slices."""
    every = np.flatnonzero(np.asarray(prepared.mask).any((1, 2)))
    images = slices_at(prepared, experiment.inputs, every)
    records = Records(images[:, None], np.zeros(len(images), np.int64), ("",) * len(images))
    out = np.zeros(prepared.volume.hu.shape, np.uint8)
    out[every] = onto_study(predict_maps(experiment, state, records)[:, 0], prepared, experiment.inputs)
    return out


def judged_records(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    """Return the table of pixels (truth, call) of each record, shape (n, classes, classes)."""
    if records.targets is None:
        raise BadCohort("what labels pixels is judged by what was drawn")
    maps, count = predict_maps(experiment, state, records), len(experiment.data.classes)
    tables = [pixel_table(truth, found, count) for truth, found in zip(records.targets, maps, strict=True)]
    return np.stack(tables) if tables else np.zeros((0, count, count), np.int64)


def judged_cases(experiment: Experiment, state: State, cases: Sequence[Case], workspace: Path, *, see: See | None = None) -> np.ndarray:
    """Return the table of pixels of each case over all its annotated slices, shape (cases, classes, classes)."""
    tables = [judged_records(experiment, state, drawn_study(case, experiment, workspace, see=see)).sum(0) for case in cases]
    return np.stack(tables) if tables else np.zeros((0, len(experiment.data.classes), len(experiment.data.classes)), np.int64)
