"""Smooth random fields and Worley cells, drawn in millimetres: the same seed gives the same tissue on a coarse and on a fine grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Floats = NDArray[np.float32]
"""Any array of float32."""

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Positions of the voxel centres along z, y and x, millimetres."""

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""Low and high ends, millimetres, along z, y and x."""


def apply_axes(volume: np.ndarray, along_z: np.ndarray, along_y: np.ndarray, along_x: np.ndarray) -> Floats:
    """Apply one matrix to each axis of a volume: any separable filter or resampling is three matrix products.

    Parameters
    ----------
    volume : ndarray, shape (z, y, x)
        Any volume.
    along_z, along_y, along_x : ndarray, shapes (z', z), (y', y), (x', x)
        What becomes of each axis.

    Returns
    -------
    ndarray of float32, shape (z', y', x')

    Examples
    --------
    >>> half = np.array([[0.5, 0.5]])
    >>> apply_axes(np.arange(8.0).reshape(2, 2, 2), half, half, half).item()
    3.5
    """
    zs, ys, xs = volume.shape
    out = np.asarray(along_z, np.float32) @ np.asarray(volume, np.float32).reshape(zs, ys * xs)
    out = out.reshape(-1, xs) @ np.asarray(along_x, np.float32).T
    return np.asarray(np.asarray(along_y, np.float32) @ out.reshape(len(along_z), ys, len(along_x)), np.float32)


def gaussian_field(rng: np.random.Generator, length_mm: float, axes_mm: Axes, region_mm: Box) -> Floats:
    """Draw a Gaussian random field of mean 0, variance 1 and correlation ``exp(-d**2 / (2 length**2))``.

    White noise on a lattice as coarse as the length allows is blurred and interpolated in one step: the field is ``(Kz x Ky x Kx) white`` with
    Gaussian rows of unit norm, so its variance is 1 at every voxel.

    Parameters
    ----------
    rng : Generator
        Source of the white noise.
    length_mm : float
        Correlation length, millimetres.
    axes_mm : three 1-D arrays
        Positions of the voxel centres along z, y and x.
    region_mm : Box
        The whole region. The lattice spans it whatever the grid, so all grids inside it share the field of a seed.

    Returns
    -------
    ndarray of float32, shape (z, y, x)

    Examples
    --------
    >>> axis, region = np.arange(0.0, 120.0, 3.0), ((0.0, 120.0),) * 3
    >>> field = gaussian_field(np.random.default_rng(0), 6.0, (axis, axis, axis), region)
    >>> round(float(field.std()), 1), round(float(np.corrcoef(field[:-2].ravel(), field[2:].ravel())[0, 1]), 1)  # exp(-1/2) = 0.6
    (1.0, 0.6)
    """
    sigma_mm = length_mm / np.sqrt(2.0)
    matrices, used, shape = [], [], []
    for axis, (low, high) in zip(axes_mm, region_mm, strict=True):
        nodes = np.arange(low - 4 * sigma_mm, high + 4 * sigma_mm, sigma_mm)
        near = slice(*np.searchsorted(nodes, (axis[0] - 4 * sigma_mm, axis[-1] + 4 * sigma_mm)))
        rows = np.exp(-0.5 * ((axis[:, None] - nodes[None, near]) / sigma_mm) ** 2)
        rows[rows < 1e-5] = 0.0  # not only to cut the tail: denormal numbers would slow the products tenfold
        matrices.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
        used.append(near)
        shape.append(len(nodes))
    white = rng.standard_normal(shape, dtype=np.float32)[tuple(used)]
    return apply_axes(white, *matrices)


def worley_walls(rng: np.random.Generator, cell_mm: float, points_mm: np.ndarray, region_mm: Box) -> Floats:
    """Return the distances of each point to the two nearest walls between Worley (Voronoi) cells, millimetres.

    One seed lies at random in each cube of a lattice; walls are the planes halfway between a point's nearest seed a and the two next ones b, at
    distance ``(|p-b|^2 - |p-a|^2) / (2 |a-b|)``.

    Parameters
    ----------
    rng : Generator
        Source of the seeds.
    cell_mm : float
        Lattice step: the mean cell size.
    points_mm : ndarray, shape (n, 3)
        Where to measure.
    region_mm : Box
        The whole region; the seeds depend on it and not on `points_mm`, so a lesion that grows keeps its cells.

    Returns
    -------
    ndarray of float32, shape (n, 2)

    Examples
    --------
    >>> points = np.random.default_rng(1).uniform(0, 30, (20000, 3))
    >>> walls = worley_walls(np.random.default_rng(0), 6.0, points, ((0.0, 30.0),) * 3)
    >>> bool(0.2 < np.mean(walls[:, 0] < 0.3) < 0.35)  # walls 0.6 mm thick fill about 2.91 w / a = 0.29
    True
    """
    low_mm, high_mm = np.array(region_mm).T
    first = np.floor(low_mm / cell_mm) - 1
    counts = (np.ceil(high_mm / cell_mm) + 1 - first).astype(int)
    corners = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), axis=-1)
    seeds = ((first + corners + rng.random((*counts, 3), dtype=np.float32)) * cell_mm).reshape(-1, 3)
    if len(points_mm):  # seeds far from every point cannot be nearest: the tree stays small when the lesion is small
        margin = 2.0 * cell_mm
        seeds = seeds[np.all((seeds > points_mm.min(axis=0) - margin) & (seeds < points_mm.max(axis=0) + margin), axis=1)]
    distance, nearest = map(np.asarray, KDTree(seeds, balanced_tree=False, compact_nodes=False).query(points_mm, k=3))
    apart = np.linalg.norm(seeds[nearest[:, :1]] - seeds[nearest[:, 1:]], axis=2)
    return ((distance[:, 1:] ** 2 - distance[:, :1] ** 2) / (2.0 * np.maximum(apart, 1e-6))).astype(np.float32)


def wall_fraction(distances_mm: np.ndarray, wall_mm: float, grid_mm: float) -> Floats:
    """Return how much of a voxel its walls fill, each a slab `wall_mm` thick that crosses a voxel `grid_mm` wide.

    Parameters
    ----------
    distances_mm : ndarray, shape (n, walls)
        From the voxel's centre to the middle of each wall.
    wall_mm, grid_mm : float
        Thickness of a wall and width of a voxel.

    Returns
    -------
    ndarray of float32 in [0, 1], shape (n,)
        ``1 - prod(1 - share of each wall)``: walls overlap as if they lay at random.

    Examples
    --------
    >>> wall_fraction(np.array([[0.0, 9.0], [1.0, 9.0], [0.0, 0.0], [2.0, 9.0]]), wall_mm=1.0, grid_mm=2.0).tolist()
    [0.5, 0.25, 0.75, 0.0]
    """
    overlap = np.minimum(distances_mm + wall_mm / 2, grid_mm / 2) - np.maximum(distances_mm - wall_mm / 2, -grid_mm / 2)
    share = np.clip(overlap, 0.0, min(wall_mm, grid_mm)) / grid_mm
    return (1.0 - np.prod(1.0 - share, axis=-1)).astype(np.float32)
