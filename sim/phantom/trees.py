"""Vessel and airway trees: grown so that they fill a lung, painted so that a voxel holds the exact volume of tube inside it.

A tree is a perfect binary one. Level k has ``2**k`` branches; each heads for the centroid of its share of the lung, and the share is then halved
across its longest axis (after the volume-filling idea of Tawhai et al., J Appl Physiol 2004, doi 10.1152/japplphysiol.00520.2004). With equal
shares Murray's law, r0^3 = r1^3 + r2^3, gives the radius at once: ``r = root / 2**(k/3)``, a ratio of 0.794 at each fork.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.phantom.fields import Axes, Floats

POINTS_PER_VOXEL = 24.0

EVEN = 1.0 / 1.22074408460575947536 ** np.arange(1, 4)
"""Steps of the three-dimensional R sequence: multiples of them, modulo 1, fill a cube evenly (its base solves x^4 = x + 1)."""


@dataclass(frozen=True)
class Tubes:
    """Straight tubes: `start` and `end` of shape (n, 3) in mm (z, y, x), `radius` (n,) in mm, `level` (n,) counted from the root."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    level: np.ndarray

    def where(self, keep: np.ndarray) -> Tubes:
        """Return the tubes that `keep` marks."""
        return Tubes(self.start[keep], self.end[keep], self.radius[keep], self.level[keep])

    def with_radius(self, radius: np.ndarray) -> Tubes:
        """Return the same tubes with other radii, millimetres."""
        return Tubes(self.start, self.end, radius, self.level)


def join(*parts: Tubes) -> Tubes:
    """Return all tubes of several sets as one."""
    return Tubes(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("start", "end", "radius", "level")))


def grow(points_mm: np.ndarray, root_mm: np.ndarray, *, root_radius_mm: float, reach: float = 0.42) -> Tubes:
    """Grow a tree from `root_mm` until every point has its own branch.

    Parameters
    ----------
    points_mm : ndarray, shape (2**levels, 3)
        Points spread over the lung.
    root_mm : ndarray, shape (3,)
        Hilum, where the tree starts.
    root_radius_mm : float
        Radius of the first branch.
    reach : float
        How far of the way to the centroid a branch goes.

    Returns
    -------
    Tubes
        ``2 * len(points_mm) - 1`` branches; branch i has the children 2i + 1 and 2i + 2.

    Examples
    --------
    >>> tree = grow(np.random.default_rng(0).uniform(0, 100, (8, 3)), np.zeros(3), root_radius_mm=3.6)
    >>> len(tree.radius), tree.radius[[0, 1, 3, 7]].round(2).tolist()
    (15, [3.6, 2.86, 2.27, 1.8])
    """
    levels = int(np.log2(len(points_mm)))
    groups = np.asarray(points_mm, float)[: 2**levels].reshape(1, -1, 3)
    tips = np.asarray(root_mm, float).reshape(1, 3)
    starts, ends = [], []
    for level in range(levels + 1):
        starts.append(tips)
        tips = tips + reach * (groups.mean(axis=1) - tips)
        ends.append(tips)
        if level < levels:
            longest = groups.var(axis=1).argmax(axis=1)
            order = np.take_along_axis(groups, longest[:, None, None], axis=2)[..., 0].argsort(axis=1)
            groups = np.take_along_axis(groups, order[..., None], axis=1).reshape(2 * len(groups), -1, 3)
            tips = np.repeat(tips, 2, axis=0)
    level = np.repeat(np.arange(levels + 1), 2 ** np.arange(levels + 1))
    return Tubes(np.concatenate(starts), np.concatenate(ends), root_radius_mm / 2 ** (level / 3), level)


def beside(tubes: Tubes, offset_mm: np.ndarray) -> Tubes:
    """Return `tubes` moved sideways by `offset_mm` each, along one common direction: airways run beside their arteries."""
    shift = offset_mm[:, None] * np.array([0.0, -0.8, 0.6])
    return Tubes(tubes.start + shift, tubes.end + shift, tubes.radius, tubes.level)


def paint(tubes: Tubes, axes_mm: Axes, *, ripple: float = 0.0, wave_mm: float = 6.0) -> Floats:
    """Return the share of each voxel that the tubes fill.

    Points spread evenly over each tube carry its volume, ``pi r^2 L``, and are counted per voxel. Tubes far thinner than a voxel and tubes of
    many voxels need no separate treatment: a thin one fills ``pi r^2 / grid^2`` of the voxels it crosses.

    Parameters
    ----------
    tubes : Tubes
        What to paint; parts outside the grid are left out.
    axes_mm : three 1-D arrays
        Evenly spaced voxel centres along z, y, x.
    ripple : float
        Relative swing of the radius along the tube (traction bronchiectasis is not smooth).
    wave_mm : float
        Wave length of the ripple.

    Returns
    -------
    ndarray of float32 in [0, 1], shape (z, y, x)

    Examples
    --------
    >>> axis = np.arange(20.0)
    >>> one = Tubes(np.array([[4.0, 10.0, 10.0]]), np.array([[14.0, 10.0, 10.0]]), np.array([2.0]), np.array([0]))
    >>> 0.95 < float(paint(one, (axis, axis, axis)).sum()) / (np.pi * 2**2 * 10) <= 1.0  # its whole volume is there
    True
    """
    step = float(axes_mm[0][1] - axes_mm[0][0])
    shape = tuple(len(axis) for axis in axes_mm)
    along = tubes.end - tubes.start
    length = np.linalg.norm(along, axis=1)
    each = np.ceil(POINTS_PER_VOXEL * np.pi * np.square(tubes.radius) * length / step**3 + 3.0 * length / step).astype(int)
    owner = np.repeat(np.arange(len(each)), each)
    number = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    position, area, turn = np.mod((number[:, None] + 0.5) * EVEN, 1.0).T
    radius = tubes.radius[owner] * (1 + ripple * np.sin(2 * np.pi * position * length[owner] / wave_mm))
    distance, angle = radius * np.sqrt(area), 2 * np.pi * turn
    across, up = _perpendicular(along / np.maximum(length, 1e-9)[:, None])
    points = tubes.start[owner] + position[:, None] * along[owner]
    points += (distance * np.cos(angle))[:, None] * across[owner] + (distance * np.sin(angle))[:, None] * up[owner]
    voxel = np.rint((points - [axis[0] for axis in axes_mm]) / step).astype(int)
    inside = np.all((voxel >= 0) & (voxel < shape), axis=1)
    volume = (np.pi * np.square(radius) * length[owner] / each[owner])[inside]
    flat = np.ravel_multi_index(tuple(voxel[inside].T), shape)
    filled = np.bincount(flat, weights=volume / step**3, minlength=int(np.prod(shape)))
    return np.minimum(filled, 1.0).astype(np.float32).reshape(shape)


def _perpendicular(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two unit vectors across each direction, shape (n, 3) each."""
    helper = np.where(np.abs(direction[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    across = np.cross(direction, helper)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    return across, np.cross(direction, across)
