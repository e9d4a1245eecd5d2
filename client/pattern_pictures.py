"""Pattern maps as pictures: the slice of each part of the lungs with most disease, every pattern in a colour that colour-blind readers tell apart."""

from __future__ import annotations

import numpy as np

from client.cases.prepared import Prepared
from client.pictures import PICTURES, draw_slice
from client.prediction import SeenSlice
from shared_models.core.arrays import Mask
from shared_models.taxonomy import PATTERN_CODES

PATTERN_COLOURS = {
    "ggo": ("Ground glass", "#56b4e9"),
    "reticulation": ("Reticulation", "#e69f00"),
    "ggo_reticulation": ("Ground glass with reticulation", "#009e73"),
    "honeycombing": ("Honeycombing", "#d55e00"),
    "consolidation": ("Consolidation", "#cc79a7"),
    "micronodules": ("Micronodules", "#f0e442"),
    "emphysema": ("Emphysema", "#0072b2"),
}
"""Pattern to its title and colour; normal lung stays grey. The palette is that of Okabe and Ito, Color Universal Design, 2008."""


def pattern_slices(prepared: Prepared, labels: Mask) -> tuple[SeenSlice, ...]:
    """Return of each of `PICTURES` equal parts of the lungs' height the slice with most voxels that are not normal, from apex to base.

    Parameters
    ----------
    prepared : Prepared
        Image and lung mask.
    labels : ndarray of uint8, shape (z, y, x)
        Codes of `PATTERNS` on the same grid; what lies outside the lungs is not drawn.
    """
    if prepared.mask is None or not prepared.mask.any():
        return ()
    inside = prepared.mask > 0
    planes = np.flatnonzero(inside.any((1, 2)))
    amount = ((labels > 0) & inside).sum((1, 2))
    low, high, total = int(planes[0]), max(int(planes[-1]), int(planes[0]) + 1), len(labels)
    legend = {PATTERN_CODES[name]: look for name, look in PATTERN_COLOURS.items()}
    found = []
    for part in np.array_split(planes[::-1], min(PICTURES, len(planes))):
        middle = np.abs(part - part.mean())
        number = int(part[np.lexsort((middle, -amount[part]))[0]])  # of equals, the one in the middle of its part
        shown = {code: look for code, look in legend.items() if ((labels[number] == code) & inside[number]).any()}
        picture = draw_slice(prepared, number, labels=np.where(inside[number], labels[number], 0), legend=shown)
        found.append(SeenSlice(total - number, total, round(100 * (number - low) / (high - low), 1), picture=picture))
    return tuple(found)
