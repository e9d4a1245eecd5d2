"""How sharp a scan is in the plane, measured where lung meets soft tissue: its edge transfer function.

A lung border is a step of some 850 HU that every chest CT holds, and unlike the skin it stays clear of the floor at -1024 HU that cuts off the
undershoot of a sharp kernel. Borders that run obliquely through the slice look blurred by the slice thickness and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from client.cases.volume import Volume
from shared_models.core.errors import BadStudy

BORDER_HU = -450.0
"""Half way between lung and soft tissue."""
LUNG_HU, TISSUE_HU = (-940.0, -600.0), (-150.0, 150.0)
"""What may lie on the two sides: air of windpipe and bowel does not, bone does not."""
REACH_MM, CORE_MM, TAPER_MM = 6.0, 2.5, 5.0
"""How far a profile goes to either side; where its derivative counts fully; where it no longer counts."""
PIECE_MM, SMOOTH_MM, SHORTEST_MM = 10.0, 1.5, 60.0
"""Length of a piece of border that is judged as one; blur with which the border is found; shortest border."""
FINE_MM = 0.8
"""Pixels up to this size are measured at the lengths above; with larger ones all lengths grow."""
SLICES, FEWEST_PIECES = 16, 20
CLEANEST, STRAIGHTEST = 0.7, 0.4
"""Shares of the pieces that are kept: by the evenness of both sides, then by how upright the border stands."""


@dataclass(frozen=True)
class Sharpness:
    """An edge transfer function.

    Parameters
    ----------
    per_mm : ndarray, shape (k,)
        Spatial frequencies, 1/mm, from 0 to beyond the corner of the pixels' frequency square.
    transfer : ndarray, shape (k,)
        What is left of a wave of each frequency; 1 at 0. It holds the blur of the anatomy too, which is alike in all scans.
    pieces : int
        Pieces of lung border that were averaged.
    """

    per_mm: NDArray[np.float64]
    transfer: NDArray[np.float64]
    pieces: int

    @property
    def mtf50_per_mm(self) -> float:
        """Frequency at which the transfer first falls below one half, 1/mm."""
        below = np.flatnonzero(self.transfer < 0.5)
        if len(below) == 0:
            return float(self.per_mm[-1])
        i = int(below[0])
        high, low = self.transfer[i - 1], self.transfer[i]
        return float(self.per_mm[i - 1] + (high - 0.5) / (high - low) * (self.per_mm[i] - self.per_mm[i - 1]))


def measure_sharpness(volume: Volume) -> Sharpness:
    """Return the edge transfer function of a chest CT in the plane.

    Profiles across the lung border are laid on one another at the sub-pixel distance of each pixel (the slanted-edge method); the derivative
    of their mean is the line spread function, the magnitude of its Fourier transform the transfer function.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x).

    Raises
    ------
    BadStudy
        ``NO_EDGES``: fewer than `FEWEST_PIECES` usable pieces of lung border.

    References
    ----------
    ISO 12233 (slanted edge); Samei et al., AAPM TG-233, 2019, section 3 (task transfer function of an edge).

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> y, x = np.mgrid[:160, :160] * 0.7
    >>> disc = gaussian_filter(np.where(np.hypot(y - 56.1, x - 55.8) < 40, -850.0, 40.0), (1.2, 1.2))
    >>> found = measure_sharpness(Volume(np.repeat(disc[None], 4, axis=0).astype(np.float32), (1, 0.7, 0.7)))
    >>> 0.19 < found.mtf50_per_mm < 0.24  # a Gaussian of 0.84 mm, and pixels of 0.7 mm: 0.22
    True
    """
    pixel = max(volume.spacing_mm[1:])
    unit = max(1.0, pixel / FINE_MM)
    if min(volume.hu.shape[1:]) * pixel < SHORTEST_MM:
        raise BadStudy("NO_EDGES", "sharpness is measured at the lung border", value=volume.hu.shape[1:])
    middle = np.linspace(0.1, 0.9, SLICES) * (len(volume.hu) - 1)
    found = [_profiles(volume, int(z), pixel, unit) for z in np.unique(np.rint(middle))]
    at, values, uneven, slanted = (np.concatenate(part) for part in zip(*found, strict=True))
    clean = uneven <= np.quantile(uneven, CLEANEST) if len(uneven) else np.zeros(0, bool)
    kept = clean & (slanted <= np.quantile(slanted[clean], STRAIGHTEST)) if clean.any() else clean
    pieces = int(kept.sum())
    if pieces < FEWEST_PIECES:
        raise BadStudy("NO_EDGES", "sharpness is measured at the lung border", value=pieces)
    return _transfer(at[kept], values[kept], pixel, unit, pieces)


def _profiles(volume: Volume, z: int, pixel: float, unit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return, for the usable pieces of border in slice z, signed distances and values (pieces, n), how uneven the sides are, and the slant."""
    limits = (-1024.0, 300.0)
    plane = np.clip(volume.hu[z], *limits).astype(np.float32)
    blur = SMOOTH_MM * unit / pixel
    smooth = ndimage.gaussian_filter(plane, blur)
    above, below = min(z + 1, len(volume.hu) - 1), max(z - 1, 0)
    rise = np.clip(volume.hu[above], *limits) - np.clip(volume.hu[below], *limits)
    steep = ndimage.gaussian_filter(rise.astype(np.float32), blur) / max(above - below, 1)
    gradient = (np.gradient(smooth, axis=0), np.gradient(smooth, axis=1))

    side = round(REACH_MM * unit / pixel * 2) / 2
    along = np.arange(-side, side + 0.25, 0.5)
    count = max(2, round(PIECE_MM * unit / pixel))
    contours = [c[: len(c) // count * count] for c in find_contours(smooth, BORDER_HU) if len(c) * pixel >= SHORTEST_MM * unit]
    border = np.concatenate([np.zeros((0, 2)), *contours])
    normal = np.stack([_between(g, border) for g in gradient], axis=1)
    size = np.maximum(np.linalg.norm(normal, axis=1), 1e-6)
    normal /= size[:, None]
    pixels = np.rint(border[:, None] + along[:, None] * normal[:, None]).astype(np.int32)
    rows, columns = pixels[..., 0], pixels[..., 1]
    inside = (rows >= 0) & (rows < plane.shape[0]) & (columns >= 0) & (columns < plane.shape[1])
    values = plane[np.where(inside, rows, 0), np.where(inside, columns, 0)]
    down, right = rows - border[:, :1], columns - border[:, 1:]
    values[~inside | (np.abs(down * normal[:, 1:] - right * normal[:, :1]) > 0.6)] = np.nan
    distance = (down * normal[:, :1] + right * normal[:, 1:]) * pixel
    slant = np.abs(_between(steep, border)) / size * pixel
    groups = (len(border) // count, -1)
    if len(border) == 0:
        return np.zeros((0, count * len(along))), np.zeros((0, count * len(along))), np.zeros(0), np.zeros(0)
    return _usable(distance.reshape(groups), values.reshape(groups), slant.reshape(groups), 0.5 * REACH_MM * unit)


def _between(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.map_coordinates(field, points.T, order=1, mode="nearest"), np.float64)


def _usable(at: np.ndarray, values: np.ndarray, slant: np.ndarray, outer_mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Keep pieces with lung on one side and soft tissue on the other, scaled to 0 and 1."""
    sides = [np.sort(np.where(beyond, values, np.nan), axis=1) for beyond in (at < -outer_mm, at > outer_mm)]  # NaN sort to the end
    counts = [np.count_nonzero(~np.isnan(side), axis=1) for side in sides]
    low, high = (side[np.arange(len(side)), np.maximum(count - 1, 0) // 2] for side, count in zip(sides, counts, strict=True))
    fits = (np.minimum(*counts) >= 8) & (low > LUNG_HU[0]) & (low < LUNG_HU[1]) & (high > TISSUE_HU[0]) & (high < TISSUE_HU[1])
    step = (high - low)[fits, None]
    uneven = np.add(*(np.nanstd(side[fits], axis=1) for side in sides)) / step[:, 0]
    return at[fits], (values[fits] - low[fits, None]) / step, uneven, np.median(slant[fits], axis=1)


def _transfer(at: np.ndarray, values: np.ndarray, pixel: float, unit: float, pieces: int) -> Sharpness:
    width = pixel / 4
    bins = 2 * int(REACH_MM * unit / width)
    known = ~np.isnan(values)
    cell = np.floor(at[known] / width).astype(int) + bins // 2
    fits = (cell >= 0) & (cell < bins)
    count = np.bincount(cell[fits], minlength=bins)
    total = np.bincount(cell[fits], values[known][fits], minlength=bins)
    seen = count > 0
    places = (np.arange(bins) + 0.5 - bins // 2) * width
    edge = np.interp(places, places[seen], total[seen] / count[seen])
    line, place = np.diff(edge) / width, (np.arange(1, bins) - bins // 2) * width
    near = np.abs(line) * (np.abs(place) < 2 * unit)
    place = place - (near @ place) / near.sum()
    line *= np.clip((TAPER_MM * unit - np.abs(place)) / ((TAPER_MM - CORE_MM) * unit), 0, 1)
    per_mm = np.linspace(0, 0.75 / pixel, 31)
    waves = np.abs(np.exp(-2j * np.pi * per_mm[:, None] * place) @ line)
    return Sharpness(per_mm, waves / waves[0] / np.sinc(per_mm * width) ** 2, pieces)
