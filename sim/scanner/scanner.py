"""What a scanner makes of a phantom: blur, slice profile, edge enhancement, noise, drift, padding. Linear but for the final rounding.

Blur, resampling and slice profile are separable, so a scan is one small matrix per axis. The noise has the texture of its kernel: a soft kernel
keeps low frequencies (blobs), a sharp one high frequencies (grain), which is what makes densitometry depend on the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared_models.core.arrays import Mask
from sim.phantom.fields import Axes, Floats, apply_axes
from sim.phantom.patient import Phantom
from sim.phantom.thorax import axes_of

FIELD_OF_VIEW_MM = (220.0, 316.0)
"""Front to back, right to left: the phantom fills it."""

LOWEST_HU, HIGHEST_HU = -1024, 3071


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel.

    Parameters
    ----------
    blur_mm : float
        Standard deviation of the point spread function in the plane.
    sharpen, sharpen_mm : float
        Strength and reach of the edge enhancement, ``image + sharpen * (image - blurred image)``.
    grain : bool
        Noise of high frequencies (white minus blurred white); otherwise blurred white noise.
    """

    blur_mm: float
    sharpen: float = 0.0
    sharpen_mm: float = 1.0
    grain: bool = False


KERNELS: dict[str, Kernel] = {
    "soft": Kernel(blur_mm=0.75),
    "mid": Kernel(blur_mm=0.50),
    "sharp": Kernel(blur_mm=0.35, sharpen=0.6, grain=True),
}
"""Kernels by their character."""


@dataclass(frozen=True)
class Scanner:
    """A scanner with its protocol.

    Parameters
    ----------
    kernel : str
        Key of `KERNELS`.
    pixel_mm, thickness_mm, spacing_mm : float
        Pixel edge, slice thickness, and distance between slice centres (larger than the thickness: the gaps of legacy HRCT).
    noise_hu : float
        Standard deviation of the noise.
    hu_shift : float
        Calibration drift added to every HU.
    padding : int, optional
        HU written outside the circular field of view.
    intercept : int
        RescaleIntercept of the files.
    manufacturer, model, kernel_name : str
        As written into the files.
    kvp : int
        Tube voltage, kV.
    stretch : float
        Factor on the lengths of the kernel; see `at`.
    """

    kernel: str
    pixel_mm: float
    thickness_mm: float
    spacing_mm: float
    noise_hu: float
    hu_shift: float = 0.0
    padding: int | None = None
    intercept: int = -1024
    manufacturer: str = "Phantom Imaging"
    model: str = "PI-64"
    kernel_name: str = "B30f"
    kvp: int = 120
    stretch: float = 1.0

    def at(self, resolution: float) -> Scanner:
        """Return this scanner for a coarser grid, so that a small image still tells the scanners apart.

        Pixels grow by the factor, and kernel lengths half as fast, so that the little detail there is stays visible. Each slice gets
        ``1.6 mm * (resolution - 1)`` thicker: 5 mm instead of 1 at the demonstration's 3.5.
        """
        thickness_mm = self.thickness_mm + 1.6 * (resolution - 1)
        return replace(
            self,
            pixel_mm=self.pixel_mm * resolution,
            thickness_mm=thickness_mm,
            spacing_mm=max(self.spacing_mm, thickness_mm),
            stretch=0.5 + 0.5 * resolution,
        )


SCANNERS: dict[str, Scanner] = {
    "A": Scanner("soft", 0.70, 1.0, 1.0, 18, model="PI-64", kernel_name="B30f"),
    "B": Scanner("sharp", 0.65, 1.0, 1.0, 60, padding=-3024, manufacturer="Synthetic Medical", model="SM Pulse", kernel_name="LUNG"),
    "C": Scanner("mid", 0.80, 2.5, 2.5, 30, padding=-2000, intercept=0, manufacturer="Imaginary Systems", model="IS Wide", kernel_name="FC13"),
    "D": Scanner("sharp", 0.70, 1.0, 10.0, 60, model="PI-4", kernel_name="B70f", kvp=140),
    "E": Scanner("soft", 0.75, 1.25, 1.25, 45, hu_shift=15, manufacturer="Synthetic Medical", model="SM Lite", kernel_name="STANDARD", kvp=100),
    "F": Scanner("mid", 0.60, 1.5, 1.5, 40, hu_shift=-10, intercept=-8192, manufacturer="Fictive Health", model="FH 1", kernel_name="I44f", kvp=110),
}
"""A soft; B sharp; C middle with thick slices; D sharp legacy HRCT with gaps of 10 mm; E soft, low dose, drifted; F seen by no training site."""


@dataclass(frozen=True)
class Scan:
    """A reconstructed series.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Rounded HU from head to feet, front to back, patient's right to left.
    spacing_mm : tuple of float
        Distance of voxel centres along (z, y, x).
    first_mm : tuple of float
        Position of voxel (0, 0, 0) in the phantom, (z, y, x).
    """

    hu: NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    first_mm: tuple[float, float, float]

    def axes_mm(self) -> Axes:
        """Return the voxel centres along z, y and x in phantom millimetres."""
        return axes_of(first + step * np.arange(n) for first, step, n in zip(self.first_mm, self.spacing_mm, self.hu.shape, strict=True))


def scan(phantom: Phantom, scanner: Scanner, *, seed: int) -> Scan:
    """Scan a phantom.

    Parameters
    ----------
    phantom : Phantom
        Noiseless HU on a cubic grid.
    scanner : Scanner
        Scanner with its protocol.
    seed : int
        Seed of the noise and of the first slice's position (within one spacing).

    Returns
    -------
    Scan
    """
    rng = np.random.default_rng([seed, 0x5CA9])
    kernel, stretch = KERNELS[scanner.kernel], scanner.stretch
    grid_mm = phantom.spacing_mm[0]
    length_mm = phantom.hu.shape[0] * grid_mm
    first_mm = 0.5 * scanner.thickness_mm + rng.uniform() * scanner.spacing_mm * 0.5
    slices = np.arange(first_mm, length_mm - 0.5 * scanner.thickness_mm, scanner.spacing_mm)
    rows, columns = (_pixels(extent_mm, scanner.pixel_mm) for extent_mm in FIELD_OF_VIEW_MM)

    profile = _slice_profile(slices, scanner.thickness_mm, grid_mm, phantom.hu.shape[0])
    plane = []
    for pixels, count, extent_mm in zip((rows, columns), phantom.hu.shape[1:], FIELD_OF_VIEW_MM, strict=True):
        voxels = (np.arange(count) + 0.5) * grid_mm - extent_mm / 2
        plane.append(_gaussian_rows(pixels, voxels, max(kernel.blur_mm * stretch, 0.4 * grid_mm)))
    image = apply_axes(phantom.hu, profile, *plane)
    if kernel.sharpen:
        image += kernel.sharpen * (image - _blur(image, kernel.sharpen_mm * stretch / scanner.pixel_mm))
    image += scanner.noise_hu * _noise(rng, image.shape, kernel, stretch / scanner.pixel_mm)
    image += scanner.hu_shift
    hu = np.rint(np.clip(image, LOWEST_HU, HIGHEST_HU)).astype(np.int16)
    if scanner.padding is not None:
        hu[:, np.hypot(rows[:, None], columns) > FIELD_OF_VIEW_MM[1] / 2] = scanner.padding
    return Scan(hu, (scanner.spacing_mm, scanner.pixel_mm, scanner.pixel_mm), (float(slices[0]), float(rows[0]), float(columns[0])))


def at_scan(mask: Mask, phantom: Phantom, scanned: Scan) -> Mask:
    """Return a mask of the phantom at the voxel centres of a scan (nearest voxel)."""
    starts = (0.0, *(-extent_mm / 2 for extent_mm in FIELD_OF_VIEW_MM))
    index = []
    for axis, start, step, count in zip(scanned.axes_mm(), starts, phantom.spacing_mm, mask.shape, strict=True):
        index.append(np.clip(np.floor((axis - start) / step).astype(int), 0, count - 1))
    return np.ascontiguousarray(mask[np.ix_(*index)])


def _pixels(extent_mm: float, pixel_mm: float) -> np.ndarray:
    """Pixel centres that cover an extent, symmetric about 0."""
    count = round(extent_mm / pixel_mm)
    return (np.arange(count) - (count - 1) / 2) * pixel_mm


def _slice_profile(centres: np.ndarray, thickness_mm: float, grid_mm: float, count: int) -> Floats:
    """Rows that average the phantom over each slice: a box, with the share of each voxel inside it."""
    edges = np.arange(count) * grid_mm
    low, high = centres[:, None] - thickness_mm / 2, centres[:, None] + thickness_mm / 2
    overlap = np.clip(np.minimum(high, edges + grid_mm) - np.maximum(low, edges), 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def _gaussian_rows(at: np.ndarray, nodes: np.ndarray, sigma: float) -> Floats:
    """Rows that take a Gaussian mean of `nodes` around each position of `at`; they sum to 1, also at the border."""
    rows = np.exp(-0.5 * np.square((at[:, None] - nodes[None, :]) / sigma))
    rows[rows < 1e-5] = 0.0
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def _blur(image: np.ndarray, sigma_pixels: float) -> Floats:
    along_y, along_x = (_gaussian_rows(np.arange(n), np.arange(n), sigma_pixels) for n in image.shape[1:])
    return along_y @ (image.reshape(-1, image.shape[2]) @ along_x.T).reshape(image.shape)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], kernel: Kernel, pixels_per_mm: float) -> Floats:
    """Noise of standard deviation 1 with the texture of the kernel, independent between slices."""
    white = rng.standard_normal(shape, dtype=np.float32)
    sigma = 1.2 * pixels_per_mm if kernel.grain else max(kernel.blur_mm * pixels_per_mm, 0.4)
    smooth = _blur(white, sigma)
    row = _gaussian_rows(np.array([32]), np.arange(65), sigma)[0]
    centre, energy = row[32] ** 2, np.square(row).sum() ** 2
    # var(white - smooth) = 1 - 2 g(0) + sum g^2 for a filter g
    return (white - smooth) / np.sqrt(1 - 2 * centre + energy) if kernel.grain else smooth / np.sqrt(energy)
