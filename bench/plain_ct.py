"""A chest CT prepared the plain way with MONAI and scikit-image: what a careful user writes after reading their manuals, and nothing of ours.

The steps are those of `client.prepare.prepare_study`: read the series, lung mask by threshold without windpipe, densities of six regions, half
resolution, cache. One function a step, at full resolution, one thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import PydicomReader
from monai.transforms import LoadImage, Resize
from scipy import stats
from skimage.measure import label, regionprops
from skimage.morphology import closing, dilation, disk, erosion
from skimage.segmentation import clear_border

AIR_HU = -400
AIRWAY_HU = -880
CLOSE_MM = 2.6


def read(folder: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """HU of shape (z, y, x) from feet to head, and spacing in mm."""
    image: Any = LoadImage(reader=PydicomReader(), image_only=True)(str(folder))
    x_mm, y_mm, z_mm = (float(v) for v in image.pixdim)
    hu = np.asarray(image).transpose(2, 1, 0)
    # MONAI's world is RAS and its slices come by instance number: from feet to head, to the back, to the patient's left
    turn = [int(sign * image.affine[axis, axis] < 0) for axis, sign in ((2, 1), (1, -1), (0, -1))]
    return np.flip(hu, [axis for axis, wrong in enumerate(turn) if wrong]), (z_mm, y_mm, x_mm)


def lungs(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """0 elsewhere, 1 right lung, 2 left lung."""
    air = hu < AIR_HU
    inside = np.stack([clear_border(one) for one in air])
    labels = label(inside, connectivity=1)
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    order = np.argsort(-counts)
    kept = labels == order[0]
    if counts[order[1]] >= 0.1 * counts[order[0]]:
        kept |= labels == order[1]
    tube = windpipe(hu, kept, spacing_mm)
    kept &= ~tube
    shape = disk(int(CLOSE_MM / 2 / spacing_mm[1]))
    closed = np.stack([closing(one, shape) for one in kept]) & ~tube
    return sides(closed)


def windpipe(hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """The round column of air at the top, followed down until it opens into lung."""
    out, pixel_mm2, here, area = np.zeros_like(mask), spacing_mm[1] * spacing_mm[2], None, 0.0
    reach = disk(round(3.5 / spacing_mm[1]))
    for z in range(len(mask) - 1, -1, -1):
        if here is None:
            if z < 0.65 * len(mask):
                break
            for region in regionprops(label(mask[z], connectivity=1), hu[z]):
                off_mm = abs(region.centroid[1] - hu.shape[2] / 2) * spacing_mm[2]
                round_enough = region.axis_major_length <= 2.2 * max(region.axis_minor_length, 1)
                if 40 <= region.area * pixel_mm2 <= 700 and off_mm <= 45 and round_enough and region.intensity_mean < AIRWAY_HU + 40:
                    here = np.zeros(mask.shape[1:], bool)
                    here[tuple(region.coords.T)] = True
                    area = float(region.area)
                    break
        else:
            new = dilation(here, reach) & mask[z] & (hu[z] < AIRWAY_HU)
            if not 20 <= new.sum() * pixel_mm2 <= 1000 or new.sum() > 2 * area + 2:
                break
            here, area = new, float(new.sum())
        if here is not None:
            out[z] = here
    rim = disk(1)
    return np.stack([dilation(one, rim) for one in out]) & mask


def sides(mask: np.ndarray) -> np.ndarray:
    """Right and left: two components, after peeling where they touch."""
    core, peeled = mask, 0
    while True:
        labels = label(core, connectivity=1)
        counts = np.bincount(labels.ravel())
        counts[0] = 0
        order = np.argsort(-counts)
        if counts[order[1]] > 0.15 * mask.sum() or peeled == 10:
            break
        core, peeled = np.stack([erosion(one, disk(1)) for one in core]), peeled + 1
    first, second = labels == order[0], labels == order[1]
    x = np.arange(mask.shape[2])
    if (first.sum((0, 1)) @ x) / first.sum() > (second.sum((0, 1)) @ x) / max(1, second.sum()):
        first, second = second, first
    for _ in range(2 * peeled):
        first = np.stack([dilation(one, disk(1)) for one in first]) & mask & ~second
        second = np.stack([dilation(one, disk(1)) for one in second]) & mask & ~first
    return first * np.uint8(1) + second * np.uint8(2)


def densities(hu: np.ndarray, mask: np.ndarray, voxel_ml: float) -> dict[str, float]:
    """The measures of `client.features.densitometry`, region by region."""
    z = np.nonzero(mask.any((1, 2)))[0]
    third = np.zeros(len(mask), int)
    third[z[0] : z[-1] + 1] = 3 * np.arange(z[-1] + 1 - z[0]) // (z[-1] + 1 - z[0])
    level = third[:, None, None]
    regions = {"whole": mask > 0, "right": mask == 1, "left": mask == 2}
    regions |= {name: (mask > 0) & (level == number) for number, name in enumerate(("lower", "middle", "upper"))}
    out = {}
    for name, inside in regions.items():
        values = hu[inside].astype(np.float64)
        found = {"volume_l": len(values) * voxel_ml / 1000, "mld_hu": values.mean(), "sd_hu": values.std()}
        found |= {"skewness": stats.skew(values), "kurtosis": stats.kurtosis(values)}
        percentiles = (5, 15, 50, 85, 95)
        found |= {f"perc{p}_hu": value for p, value in zip(percentiles, np.percentile(values, percentiles), strict=True)}
        found |= {"haa_percent": 100 * ((values >= -600) & (values <= -250)).mean(), "laa950_percent": 100 * (values < -950).mean()}
        found |= {"laa910_percent": 100 * (values < -910).mean(), "mass_g": np.maximum(0, 1 + values / 1000).sum() * voxel_ml}
        bounds = {"hyperaerated": (-1000, -900), "normally_aerated": (-900, -500), "poorly_aerated": (-500, -100), "nonaerated": (-100, 101)}
        found |= {f"{word}_percent": 100 * ((values >= low) & (values < high)).mean() for word, (low, high) in bounds.items()}
        out |= {f"{name}_{measure}": float(value) for measure, value in found.items()}
    return out


def prepare(folder: Path, cache: Path) -> dict[str, float]:
    """The whole way of one study; returns its densities."""
    torch.set_num_threads(1)
    hu, spacing_mm = read(folder)
    mask = lungs(hu, spacing_mm)
    found = densities(hu, mask, float(np.prod(spacing_mm)) / 1000)
    half = [n // 2 for n in hu.shape]
    small: Any = Resize(half, mode="area")(torch.from_numpy(np.ascontiguousarray(hu, np.float32))[None])
    coarse = mask[tuple(slice(0, 2 * n, 2) for n in half)]
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, hu=np.rint(small[0].numpy()).astype(np.int16), mask=coarse)
    return found
