"""What a reader has drawn: one label map a series in the site's folder of annotations, checked and brought onto the grid of the series.

The folder is named in the site TOML (``[site] annotations``). A map is called ``<SeriesInstanceUID>.nii.gz``, or ``<StudyInstanceUID>.nii.gz``
(``.nii`` too) where a study has one series. Its numbers are codes of `PATTERNS`; 255 is "not annotated": whole slices, where slices were picked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.cases.finding import Finding
from client.cases.nifti import onto, read_label_map
from client.cases.volume import Volume
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput
from shared_models.patterns import NOT_ANNOTATED, PATTERNS

ENDINGS = (".nii.gz", ".nii")


def annotation_path(folder: Path | None, series_uid: str, study_uid: str) -> Path | None:
    """Return the label map of a series, None where there is none: under its own name, else under that of its study."""
    names = [f"{uid}{ending}" for uid in (series_uid, study_uid) for ending in ENDINGS if set(uid) <= set("0123456789.")]
    return None if folder is None else next((folder / name for name in names if (folder / name).is_file()), None)


def read_annotation(path: Path, volume: Volume) -> Mask:
    """Return the codes of a label map on the grid of its series, uint8, shape (z, y, x).

    Raises
    ------
    BadInput
        No label map, other voxels, another place, or a number that is no pattern.
    """
    labels = onto(read_label_map(path), volume)
    known = np.isin(labels, [*PATTERNS.values(), NOT_ANNOTATED])
    if not known.all():
        rule = f"a label map holds codes of patterns (0 to {max(PATTERNS.values())}) and {NOT_ANNOTATED} for what is not annotated"
        raise BadInput(rule, value=np.unique(labels[~known])[:5].tolist())
    return labels.astype(np.uint8)


def try_annotation(path: Path | None, volume: Volume) -> tuple[Mask | None, list[Finding]]:
    """Return the annotation of a series; one that cannot be used is left out, with a finding that says which rule it breaks."""
    if path is None:
        return None, []
    try:
        return read_annotation(path, volume), []
    except BadInput as error:
        return None, [Finding("ANNOTATION", "warning", f"the annotation is left out: {error.rule}")]
