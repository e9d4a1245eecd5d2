"""The grey values of a body: what sites sum to find the centres of fuzzy c-means that serve all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client.cases.volume import Volume
from client.segmentation.components import Bits, label
from client.segmentation.fuzzy_cmeans import coarse_hu, grid_mm, histogram
from client.segmentation.lungs import IN_SLICE, coarse_steps
from shared_models.core.arrays import HU, Mask
from shared_models.core.errors import BadCohort

AIR_HU = -400.0


def body_histogram(volume: Volume, mask: Mask) -> NDArray[np.float64]:
    """Return the histogram of the body's grey values over `LEVELS_HU`, of mass 1, on the coarse grid that the clusters are found on.

    Air around the body is left out: how much of it there is, the field of view says and not the patient.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x).
    mask : ndarray of uint8, shape (z, y, x)
        Lung, which belongs to the body even where the image is cut there.

    Raises
    ------
    BadCohort
        Nothing but air.

    Examples
    --------
    >>> hu = np.full((1, 5, 5), -1000, np.float32)
    >>> hu[0, 1:4, 1:4] = 40
    >>> hu[0, 2, 2] = -850
    >>> found = body_histogram(Volume(hu, (5, 5, 5)), np.zeros(hu.shape, np.uint8))
    >>> found.nonzero()[0].tolist(), (9 * found[found > 0]).round(6).tolist()
    ([174, 1064], [1.0, 8.0])
    """
    coarse_mm = grid_mm(volume)
    z, y, x = coarse_steps(volume, coarse_mm)
    hu = coarse_hu(volume, coarse_mm)
    inside = body_of(hu, mask[::z, ::y, ::x] > 0)
    if not inside.any():
        raise BadCohort("a study needs a body", value=0)
    counts = histogram(hu[inside])
    return counts / counts.sum()


def body_of(hu: HU, lung: Bits) -> Bits:
    """Return all but the air outside `lung` that a path in its own slice joins to the slice's border.

    Examples
    --------
    >>> hu = np.full((1, 3, 4), 40, np.float32)
    >>> hu[0, 1] = -1000, 40, -850, 40
    >>> body_of(hu, np.zeros(hu.shape, bool))[0, 1].tolist()
    [False, True, True, True]
    """
    labels, count = label((hu < AIR_HU) & ~lung, IN_SLICE)
    outside = np.zeros(count + 1, bool)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outside[edge] = True
    outside[0] = False
    return ~outside[labels]
