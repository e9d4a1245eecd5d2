"""Patches as a table: the experiment's feature families measured on every labelled patch, for models that read columns.

A patch stands for a study of one slice that is lung all over; its pixel size is the experiment's ``preparation.grid_mm``. Families that need
depth, sides or the pleura say nothing of a patch: an experiment that names one of their columns is refused. What was measured is kept in the
workspace, named after the patches, the families and the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from client.cases.cache import cache_key
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.features import FEATURES
from client.segmentation.sides import RIGHT
from shared_models.core.choices import pick
from shared_models.core.errors import BadCohort, BadInput
from shared_models.core.files import canonical_json, read_state, sha256, sha256_file, write_state
from shared_models.experiment import Experiment


def patch_features(hu: np.ndarray, experiment: Experiment) -> np.ndarray:
    """Return the experiment's columns of each patch (n, y, x) in HU, shape (n, columns) in float64.

    Raises
    ------
    BadCohort
        No pixel size, a column that no family of ``[preparation]`` gives, or one that a patch has no number for.

    Examples
    --------
    >>> from shared_models.core.choices import Choice
    >>> from shared_models.experiment import Data, Inputs, Preparation
    >>> experiment = Experiment(
    ...     name="x",
    ...     data=Data(kind="patches", classes=("a", "b")),
    ...     preparation=Preparation(grid_mm=(1.0, 0.8, 0.8), features=(Choice(name="densitometry"),)),
    ...     inputs=Inputs(columns=("whole_mld_hu",)),
    ...     model=Choice(name="svm"),
    ... )
    >>> patch_features(np.full((2, 9, 9), -900.0), experiment).tolist()
    [[-900.0], [-900.0]]
    """
    grid_mm = experiment.preparation.grid_mm
    if grid_mm is None:
        raise BadCohort("features of patches need the size of their pixels", remedy="set preparation.grid_mm; its first number is the slice")
    families = [pick(FEATURES, choice, kind="feature family") for choice in experiment.preparation.features]
    rows = np.empty((len(hu), len(experiment.inputs.columns)))
    for number, patch in enumerate(np.asarray(hu, np.float32)):
        study = Prepared(Volume(patch[None], grid_mm), np.full((1, *patch.shape), RIGHT, np.uint8))
        found: dict[str, float] = {}
        for family in families:
            found |= family(study)
        rows[number] = _row(found, experiment.inputs.columns)
    return rows


def _row(found: Mapping[str, float], columns: tuple[str, ...]) -> list[float]:
    if absent := [name for name in columns if name not in found]:
        raise BadCohort("a column of patches is one of a feature family of [preparation]", value=absent[:3])
    if empty := [name for name in columns if not np.isfinite(found[name])]:
        raise BadCohort("a column of patches is a number for every patch", value=empty[:3], remedy="leave the column out of inputs.columns")
    return [found[name] for name in columns]


def kept_patch_features(hu: np.ndarray, experiment: Experiment, *, source: Path, workspace: Path) -> np.ndarray:
    """Return `patch_features`, from the workspace where they were measured before; `source` is the file of the patches."""
    content = sha256(canonical_json([sha256_file(source), experiment.data.classes, experiment.inputs.columns]).encode())
    path = workspace / "patch_features" / f"{cache_key(content, experiment.preparation.digest)}.safetensors"
    if path.exists():
        try:
            rows = read_state(path)["rows"]
            if rows.shape == (len(hu), len(experiment.inputs.columns)):
                return rows
        except (BadInput, KeyError):
            pass  # torn or of another layout: measured again
    rows = patch_features(hu, experiment)
    write_state(path, {"rows": rows}, mode=0o600, durable=False)
    return rows
