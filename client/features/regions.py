"""Densitometry by region: thirds of the height of each side, depth shells, and what differs between them."""

from __future__ import annotations

import math

import numpy as np

from client.cases.prepared import Prepared
from client.features.densitometry import MEASURES, densitometry_of_cells, thirds_of
from client.features.pleura import SHELLS, depth_mm, shell_numbers
from client.features.roi import hu_of, side_mask
from client.segmentation.components import bounding_box
from client.segmentation.sides import LEFT

THIRDS = ("lower", "middle", "upper")
SIDES = ("right", "left")
ZONES = tuple(f"{third}_{side}" for side in SIDES for third in THIRDS)
REGIONS = (*ZONES, *SHELLS, *(f"{shell}_{side}" for side in SIDES for shell in SHELLS))
"""Six zones, three shells of both lungs, and three of each side."""

CONTRASTS = {
    "lower_minus_upper_haa_percent": ("haa_percent", "lower", "upper"),
    "peripheral_minus_central_haa_percent": ("haa_percent", "peripheral", "central"),
    "lower_minus_upper_mld_hu": ("mld_hu", "lower", "upper"),
    "peripheral_minus_central_mld_hu": ("mld_hu", "peripheral", "central"),
}
"""Fibrosis of the usual kind is basal and subpleural: what lies between the two ends of each axis."""


def regions_names() -> tuple[str, ...]:
    """Return the columns of `regions` in order.

    Examples
    --------
    >>> len(regions_names()), regions_names()[0], regions_names()[-1]
    (274, 'lower_right_haa_percent', 'peripheral_minus_central_mld_hu')
    """
    return (*(f"{region}_{measure}" for region in REGIONS for measure in MEASURES), *CONTRASTS)


def regions(prepared: Prepared) -> dict[str, float]:
    """Return the measures of `densitometry` for every region in `REGIONS`, and the contrasts between regions.

    Thirds are those of `densitometry`; shells lie 0 to 5, 5 to 15 and above 15 mm from the border of their lung. The voxels are sorted into
    18 cells (third, side, shell) once; every region is a sum of cells.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).

    Returns
    -------
    dict
        Keys of `regions_names`; as in `densitometry`, NaN where a region is empty, and volume and mass 0.

    Raises
    ------
    BadInput
        No lung mask, or intensities that are no HU.
    """
    hu, lung = hu_of(prepared), side_mask(prepared)
    if prepared.mask is None or not lung.any():
        return {name: (0.0 if name.endswith(("volume_l", "mass_g")) else math.nan) for name in regions_names()}
    box = bounding_box(lung)
    labels, inside = prepared.mask[box], lung[box]
    third = thirds_of(len(labels))[np.nonzero(inside)[0]]
    shell = shell_numbers(depth_mm(labels, prepared.volume.spacing_mm)[inside])
    side = (labels[inside] == LEFT).astype(np.intp)
    cells = (third * 2 + side) * len(SHELLS) + shell
    members = {}
    for number in range(3 * 2 * len(SHELLS)):
        in_third, in_side, in_shell = THIRDS[number // 6], SIDES[number // 3 % 2], list(SHELLS)[number % 3]
        for region in (f"{in_third}_{in_side}", in_third, in_shell, f"{in_shell}_{in_side}"):
            members.setdefault(region, []).append(number)
    found = densitometry_of_cells(hu[box][inside], cells, members, prepared.volume.voxel_ml)
    out = {f"{region}_{measure}": found[region][measure] for region in REGIONS for measure in MEASURES}
    return out | {name: found[first][measure] - found[second][measure] for name, (measure, first, second) in CONTRASTS.items()}
