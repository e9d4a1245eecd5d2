"""A pattern map by a trained segmentation network: which pattern of disease each voxel of the lung shows."""

from __future__ import annotations

import numpy as np

from client.cases.prepared import Prepared
from client.preprocessing.resample import resample_axis
from client.segmentation.network import BLOCK, Weights, normalised
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput
from shared_models.taxonomy import PATTERNS


def check_patterns(weights: Weights) -> None:
    """Check that a network tells the patterns of the taxonomy apart.

    Raises
    ------
    BadInput
        It has another number of classes.
    """
    if weights.normalisation.outputs != len(PATTERNS):
        raise BadInput(
            f"a network of patterns has {len(PATTERNS)} classes: {', '.join(PATTERNS)}",
            value=weights.normalisation.outputs,
            remedy="name the weights of a network that was trained on pattern maps",
        )


def pattern_map(prepared: Prepared, weights: Weights) -> Mask:
    """Return the most probable pattern of each lung voxel, codes of `PATTERNS`; 0 outside the lung.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).
    weights : Weights
        Network and normalisation, of `load_weights`.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    BadInput
        No lung mask, an image that is no longer in HU, or a network of other classes.
    """
    import torch

    check_patterns(weights)
    if prepared.mask is None or not prepared.is_hu:
        raise BadInput("a pattern map is made of Hounsfield units inside a lung mask", remedy="name a segmenter, and no step that changes units")
    volume = prepared.volume
    rows, columns = volume.hu.shape[1:]
    out = np.empty(volume.hu.shape, np.uint8)
    with torch.inference_mode():
        for first in range(0, len(out), BLOCK):
            block = normalised(volume.hu[first : first + BLOCK], volume.spacing_mm, weights.normalisation)
            logits = weights.network(torch.from_numpy(block[:, None])).numpy()
            n, classes, y, x = logits.shape
            planes = logits.reshape(n * classes, y, x)
            planes = resample_axis(planes, rows, rows * volume.spacing_mm[1] / y, volume.spacing_mm[1], 1)
            planes = resample_axis(planes, columns, columns * volume.spacing_mm[2] / x, volume.spacing_mm[2], 2)
            out[first : first + BLOCK] = planes.reshape(n, classes, rows, columns).argmax(1)
    return np.where(prepared.mask > 0, out, 0).astype(np.uint8)
