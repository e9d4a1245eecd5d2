"""A classifier of patches as a map of the lung: a window slides over each slice, and each place is called what its window is."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from client.cases.prepared import Prepared
from client.training import PREDICTORS
from client.training.records import Records
from shared_models.catalogue import spec_of
from shared_models.core.arrays import Mask, State
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment, Inputs
from shared_models.patterns import NOT_ANNOTATED

BATCH = 512
"""Windows that are asked at once."""


def patches_as_read(hu: np.ndarray, units: str, inputs: Inputs) -> np.ndarray:
    """Return patches in the values that a model reads: Hounsfield units, or the experiment's window from 0 to 1.

    Examples
    --------
    >>> patches_as_read(np.array([-1000.0, -400.0, 500.0]), "unit", Inputs()).round(2).tolist()
    [0.0, 0.5, 1.0]
    """
    if units != "unit":
        return hu
    low, high = inputs.window_hu
    return np.clip((hu - low) / (high - low), 0, 1).astype(np.float32)


def sliding_map(experiment: Experiment, state: State, prepared: Prepared, *, patch_px: int = 31, step_px: int = 4) -> Mask:
    """Return the class number of every voxel of the lung, uint8 (z, y, x); 255 outside of it.

    Parameters
    ----------
    experiment : Experiment
        Of patches (``data.kind = "patches"``), on pixels of the size of the study's.
    state : State
        Of its model.
    prepared : Prepared
        A study with its lung mask; its edges are mirrored where a window reaches beyond them.
    patch_px : int
        Rows and columns of a window, as of the patches that were learnt from.
    step_px : int
        Windows lie so far apart; every voxel takes the class of the window whose middle is nearest.

    Raises
    ------
    BadCohort
        A model that reads no patches, or a study without a lung mask.

    Source: Anthimopoulos et al., IEEE Trans Med Imaging 35(5), 2016: a patch classifier as a map of the whole lung.
    """
    spec = spec_of(experiment.model)
    if experiment.data.kind != "patches" or spec.takes != "patch":
        raise BadCohort("a window slides for a model of patches", value=experiment.model.name, remedy='choose one that takes a patch: "ild_cnn"')
    if prepared.mask is None or not prepared.mask.any():
        raise BadCohort("a map is of the lung", remedy="name a segmenter in [preparation]")
    hu, lung = prepared.volume.hu, prepared.mask > 0
    out = np.full(lung.shape, NOT_ANNOTATED, np.uint8)
    y, x = (_nearest(size, step_px) for size in lung.shape[1:])
    before = patch_px // 2
    for z in np.flatnonzero(lung.any((1, 2))):
        inside = np.flatnonzero(lung[z])
        middles, place = np.unique(np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)[inside], axis=0, return_inverse=True)
        padded = np.pad(np.asarray(hu[z], np.float32), (before, patch_px - 1 - before), mode="symmetric")
        windows = sliding_window_view(padded, (patch_px, patch_px))[middles[:, 0], middles[:, 1]]
        out[z].reshape(-1)[inside] = _called(experiment, state, windows, spec.units)[place.reshape(-1)]
    return out


def _nearest(size: int, step: int) -> np.ndarray:
    """Return for each of `size` pixels the middle of the nearest window."""
    middles = np.arange(min(step // 2, size - 1), size, step)
    return middles[np.minimum(np.arange(size) // step, len(middles) - 1)]


def _called(experiment: Experiment, state: State, windows: np.ndarray, units: str) -> np.ndarray:
    predict, found = PREDICTORS[spec_of(experiment.model).fit], []
    for start in range(0, len(windows), BATCH):
        part = patches_as_read(windows[start : start + BATCH, None], units, experiment.inputs)
        records = Records(np.ascontiguousarray(part), np.zeros(len(part), np.int64), tuple(map(str, range(len(part)))))
        found.append(predict(experiment, state, records).argmax(1))
    return np.concatenate(found).astype(np.uint8)
