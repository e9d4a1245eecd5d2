"""One body, ready for any disease: the thorax, its trees and, per lung voxel, all that placement and painting ask for. Cached."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from shared_models.core.arrays import HU, Mask
from sim.phantom.fields import Axes, Floats
from sim.phantom.thorax import REGION_MM, Thorax, axes_of, fill, make_thorax
from sim.phantom.trees import Tubes, beside, grow, join, paint

BODIES = 8
"""How many bodies a cohort draws from; half are men."""

LEVELS = 10
AIRWAY_LEVELS = 6
VESSEL_RADIUS_MM = 3.6
TRACHEA_RADIUS_MM = 9.0


@dataclass(frozen=True)
class Template:
    """A body without disease on one grid. Arrays named "per voxel" have one entry for each voxel that any lung touches, in scan order.

    Parameters
    ----------
    body : int
        Its number.
    grid_mm : float
        Edge of the cubic voxels.
    tissue : ndarray of float32, shape (z, y, x)
        HU around the lungs, trachea and main bronchi included.
    box : tuple of slice
        The part of the grid that holds the lungs.
    axes_mm : three 1-D arrays
        Voxel centres of the box along z, y, x.
    at : ndarray of int, per voxel
        Flat index into the box.
    lung : ndarray of float32, per voxel
        Share of the voxel filled by lung at full inspiration.
    side : ndarray of uint8, per voxel
        1 right, 2 left, 0 where a lung fills less than half the voxel.
    points_mm : ndarray of float32, per voxel, shape (n, 3)
        Centre of the voxel (z, y, x).
    above_dome_mm, pleura_mm, airway_mm : ndarray of float32, per voxel
        Distance to the diaphragm, to the outer pleura (of ribs and diaphragm) and to the nearest airway.
    height, dorsal : ndarray of float32, per voxel
        0 at the apex to 1 at the base; 0 in front to 1 at the back.
    vessel, wall, lumen : ndarray of float32, per voxel
        Share filled by vessel, by airway wall with its lumen, and by lumen.
    airways : Tubes
        All airways down to the last level, also those too thin to see until traction dilates them.
    """

    body: int
    grid_mm: float
    tissue: HU
    box: tuple[slice, ...]
    axes_mm: Axes
    at: np.ndarray
    lung: Floats
    side: Mask
    points_mm: Floats
    above_dome_mm: Floats
    pleura_mm: Floats
    airway_mm: Floats
    height: Floats
    dorsal: Floats
    vessel: Floats
    wall: Floats
    lumen: Floats
    airways: Tubes

    @property
    def box_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the box."""
        z, y, x = (len(axis) for axis in self.axes_mm)
        return z, y, x

    def gather(self, volume: np.ndarray) -> np.ndarray:
        """Return the values of a box-shaped volume per voxel."""
        return volume.reshape(-1)[self.at]

    def spread(self, values: np.ndarray, fill: float = 0) -> np.ndarray:
        """Return a box-shaped volume with `values` at the lung voxels and `fill` elsewhere."""
        volume = np.full(int(np.prod(self.box_shape)), fill, values.dtype)
        volume[self.at] = values
        return volume.reshape(self.box_shape)


@lru_cache(maxsize=4)
def body_template(body: int, grid_mm: float = 2.5) -> Template:
    """Return the template of body number `body`: built once (about a second at 2.5 mm), then taken from memory.

    Parameters
    ----------
    body : int
        Number of the body; odd is a man.
    grid_mm : float
        Edge of the cubic voxels, 0.5 to 6 mm.

    Returns
    -------
    Template
    """
    thorax = make_thorax(body, grid_mm=grid_mm)
    vessels, airways, trunk = _trees(thorax, np.random.default_rng([body, 0x7EE5]))
    tissue = thorax.tissue.copy()
    outer = trunk.with_radius(_outer(trunk.radius))
    fill(tissue, paint(outer, thorax.axes_mm), 30.0)
    fill(tissue, paint(trunk, thorax.axes_mm), -1000.0)

    box = tuple(slice(max(0, int(i.min()) - 1), int(i.max()) + 2) for i in np.nonzero(thorax.lung))
    axes_mm = axes_of(axis[part] for axis, part in zip(thorax.axes_mm, box, strict=True))
    lung = thorax.lung[box]
    at = np.flatnonzero(lung)
    index = np.unravel_index(at, lung.shape)
    points_mm = np.stack([axis[i] for axis, i in zip(axes_mm, index, strict=True)], axis=1).astype(np.float32)
    wide = airways.where(airways.level <= AIRWAY_LEVELS)
    lumen, wall = paint(wide, axes_mm), paint(wide.with_radius(_outer(wide.radius)), axes_mm)

    def per_voxel(volume: np.ndarray) -> np.ndarray:
        return volume.reshape(-1)[at]

    base_mm, back_mm = 252.0 * thorax.scale[0], 78.0 * thorax.scale[1]
    return Template(
        body=body,
        grid_mm=grid_mm,
        tissue=tissue,
        box=box,
        axes_mm=axes_mm,
        at=at,
        lung=per_voxel(lung),
        side=per_voxel(thorax.side[box]),
        points_mm=points_mm,
        above_dome_mm=per_voxel(thorax.above_dome_mm[box]),
        pleura_mm=per_voxel(_pleura_mm(lung >= 0.5, grid_mm)),
        airway_mm=per_voxel(_distance_mm(wall <= 0, grid_mm)),
        height=np.clip(points_mm[:, 0] / base_mm, 0, 1),
        dorsal=np.clip(0.5 + 0.5 * points_mm[:, 1] / back_mm, 0, 1),
        vessel=per_voxel(paint(vessels, axes_mm)),
        wall=per_voxel(wall),
        lumen=per_voxel(lumen),
        airways=airways,
    )


def _outer(radius_mm: np.ndarray) -> np.ndarray:
    """Radius with the airway wall, which is 0.2 r + 0.3 mm thick (at most 1.5 mm, as in the trachea)."""
    return radius_mm + np.minimum(0.2 * radius_mm + 0.3, 1.5)


def _trees(thorax: Thorax, rng: np.random.Generator) -> tuple[Tubes, Tubes, Tubes]:
    """Return arteries with veins, airways of the lungs, and trachea with main bronchi."""
    scale = np.array(thorax.scale)
    vessels, airways = [], []
    trachea = np.array([[-5.0, 6.0, 0.0], [100.0, 16.0, 0.0]]) * scale
    trunk = [Tubes(trachea[:1], trachea[1:], np.array([TRACHEA_RADIUS_MM]), np.array([0]))]
    # points are drawn in the body and then looked up on the grid, so that every grid grows the same tree
    low_mm, high_mm = np.array(REGION_MM).T
    points_mm = rng.uniform(low_mm, high_mm, (14 * 2**LEVELS, 3))
    voxel = np.rint((points_mm - [axis[0] for axis in thorax.axes_mm]) / thorax.grid_mm).astype(int)
    voxel = np.clip(voxel, 0, np.array(thorax.lung.shape) - 1)
    points_mm = points_mm[thorax.lung[tuple(voxel.T)] > 0.9]
    for sign in (-1.0, 1.0):
        own = points_mm[np.sign(points_mm[:, 2]) == sign]
        hilum = np.array([128.0, 10.0, 27.0 * sign]) * scale
        for kind, low in (("artery", 0.0), ("vein", 14.0)):
            share = own[: 2**LEVELS] if kind == "artery" else own[-(2**LEVELS) :]
            tree = grow(share, hilum + [low, -low / 2, 0.0], root_radius_mm=VESSEL_RADIUS_MM)
            vessels.append(tree)
            if kind == "artery":
                bronchi = tree.with_radius(0.85 * tree.radius)
                airways.append(beside(bronchi, tree.radius + _outer(bronchi.radius)))
        entry = airways[-1].start[:1]
        trunk.append(Tubes(trachea[1:], entry, np.array([6.0]), np.array([0])))
    return join(*vessels), join(*airways), join(*trunk)


def _pleura_mm(lung: np.ndarray, grid_mm: float) -> Floats:
    """Distance to the pleura of ribs and diaphragm. The space between the lungs counts as inside: disease is not drawn to the mediastinum."""
    from_right, from_left = np.logical_or.accumulate(lung, axis=2), np.logical_or.accumulate(lung[..., ::-1], axis=2)[..., ::-1]
    return _distance_mm(np.pad(from_right & from_left, 1), grid_mm)[1:-1, 1:-1, 1:-1]


def _distance_mm(inside: np.ndarray, grid_mm: float) -> Floats:
    """Distance to the surface of `inside`, from voxel centres, in millimetres; 0 outside."""
    distance = ndimage.distance_transform_edt(inside, sampling=grid_mm)
    return np.maximum(np.asarray(distance) - grid_mm / 2, 0).astype(np.float32)
