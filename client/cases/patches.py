"""Labelled image patches instead of studies: an NPZ file with Hounsfield units and class names, for benchmarks that come as patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from client.cases.identity import canonical_id
from shared_models.core.errors import BadCohort

if TYPE_CHECKING:
    from pathlib import Path


def read_patches(path: Path, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], bool]:
    """Read patches: HU (n, 1, y, x) float32, class numbers (n,), names, and whether the names are patients.

    The file holds ``hu`` (n, y, x) integers, ``label`` (n,) class names and, when patients are known, ``patient`` (n,): two spellings of an
    id are one patient. Without it every patch counts as a patient of its own, and reports must say so.

    Raises
    ------
    BadCohort
        Missing arrays, other lengths, or a label that is not a class.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            hu, label = file["hu"], file["label"]
            identified = "patient" in file
            patient = [canonical_id(str(name)) for name in file["patient"]] if identified else [f"patch{i}" for i in range(len(hu))]
    except (OSError, KeyError, ValueError) as error:
        raise BadCohort(
            "a patch file is an NPZ with hu and label", value=type(error).__name__, remedy="write it with numpy.savez, without objects"
        ) from None
    if hu.ndim != 3 or len(label) != len(hu) or len(patient) != len(hu):
        raise BadCohort("hu is (n, y, x) and label has n entries", value=(hu.shape, label.shape))
    if unknown := sorted(set(map(str, label)) - set(classes)):
        raise BadCohort("every patch has one of the experiment's classes", value=unknown[:3])
    numbers = np.array([classes.index(str(name)) for name in label], np.int64)
    return hu[:, None].astype(np.float32), numbers, tuple(patient), identified
