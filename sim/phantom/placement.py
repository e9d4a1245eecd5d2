"""Where a pattern lies: a score per voxel, and exactly as many of the best voxels as the planted extent asks for.

The extent is exact by construction, and because a larger extent takes the same ranking further, a disease that progresses only adds voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_models.core.errors import BadInput
from sim.phantom.fields import Floats
from sim.phantom.template import Template


@dataclass(frozen=True)
class Placement:
    """Weights of a score; each term lies between 0 and 1 (`patchy` multiplies a field of variance 1).

    Parameters
    ----------
    subpleural, subpleural_mm : float
        Weight and reach of ``exp(-d / reach)``, d the distance to the pleura.
    basal, upper : float
        Weight of the lower and of the upper lung, which meet 55 % of the way down.
    peribronchial : float
        Weight of ``exp(-d / 8 mm)``, d the distance to the nearest airway.
    sparing : float
        Weight of ``min(d, 12 mm) / 12 mm``: the subpleural millimetres are left free.
    clear_mm : float
        Nothing lies nearer to the pleura than this while there is room elsewhere: a scanner blurs what touches the chest wall, and a segmenter
        takes it for wall.
    dorsal : float
        Weight of the back.
    patchy, patch_mm : float
        Weight and size of a random field that makes patches.
    blob_mm : tuple of float, optional
        Radii of balls: the pattern comes as separate balls (nodules, holes) whose centres follow the score.
    apart : bool
        All balls of a patient have one size, and none touches another one.
    """

    subpleural: float = 0.0
    subpleural_mm: float = 7.0
    basal: float = 0.0
    upper: float = 0.0
    peribronchial: float = 0.0
    sparing: float = 0.0
    clear_mm: float = 0.0
    dorsal: float = 0.0
    patchy: float = 0.5
    patch_mm: float = 12.0
    blob_mm: tuple[float, float] | None = None
    apart: bool = False


def score(where: Placement, body: Template, pleura_mm: np.ndarray, patches: np.ndarray) -> Floats:
    """Return the score of every lung voxel of `body`; higher is diseased earlier.

    Parameters
    ----------
    where : Placement
        Weights.
    body : Template
        Supplies the distances.
    pleura_mm : ndarray, per voxel
        Distance to the pleura of this patient, millimetres.
    patches : ndarray, per voxel
        Random field of variance 1.
    """
    total = where.patchy * patches
    if where.subpleural:
        total = total + where.subpleural * np.exp(-pleura_mm / where.subpleural_mm)
    if where.basal or where.upper:
        low = 1.0 / (1.0 + np.exp(-(body.height - 0.55) / 0.12))
        total = total + where.basal * low + where.upper * (1 - low)
    if where.peribronchial:
        total = total + where.peribronchial * np.exp(-body.airway_mm / 8.0)
    if where.sparing:
        total = total + where.sparing * np.minimum(pleura_mm, 12.0) / 12.0
    if where.dorsal:
        total = total + where.dorsal * body.dorsal
    if where.clear_mm:
        total = total - 100.0 * (pleura_mm < where.clear_mm)
    return np.asarray(total, np.float32)


def best(scores: np.ndarray, free: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the `count` free voxels of highest score.

    Examples
    --------
    >>> best(np.array([3.0, 9.0, 5.0, 7.0]), np.array([True, False, True, True]), 2).tolist()
    [2, 3]
    """
    where = np.flatnonzero(free)
    _check_room(count, len(where))
    if count == 0:
        return where[:0]
    return np.sort(where[np.argpartition(-scores[where], count - 1)[:count]])


def balls(
    scores: np.ndarray,
    free: np.ndarray,
    count: int,
    body: Template,
    radii_mm: tuple[float, float],
    rng: np.random.Generator,
    *,
    apart: bool = False,
) -> np.ndarray:
    """Return the indices of `count` free voxels as balls, filled one after another.

    Centres are drawn with probability proportional to ``exp(3 score)`` (by the Gumbel trick: the largest of score plus noise), so their order, and
    with it a smaller extent as a part of a larger one, depends on the seed alone. Only the last ball may be cut.

    Parameters
    ----------
    scores, free : ndarray, per voxel
        Score, and where the pattern may lie.
    count : int
        Voxels wanted.
    body : Template
        Grid and positions.
    radii_mm : tuple of float
        Smallest and largest radius.
    rng : Generator
        Source of centres and radii.
    apart : bool
        One radius for the whole patient, and no ball that touches an earlier one while there is room: how much of the pattern is border, and so
        blurred by a scanner, then depends on the patient and not on where the balls lie.
    """
    _check_room(count, int(free.sum()))
    if count == 0:
        return np.flatnonzero(free)[:0]
    keys = 3.0 * scores + rng.gumbel(size=len(scores)).astype(np.float32)
    drawn_mm = np.full(len(keys), rng.uniform(*radii_mm)) if apart else rng.uniform(*radii_mm, size=len(keys))
    radius_mm = np.maximum(drawn_mm.astype(np.float32), 0.5 * body.grid_mm)
    reach = int(np.ceil(radii_mm[1] / body.grid_mm))
    steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    away_mm = np.linalg.norm(steps, axis=1) * body.grid_mm
    nearest = np.argsort(away_mm, kind="stable")
    steps, away_mm = steps[nearest], away_mm[nearest]
    voxel_of = body.spread(np.arange(1, len(body.at) + 1)) - 1
    balls_wanted = 64 + int(2 * count / (away_mm <= np.mean(radii_mm)).sum())
    while True:
        balls_wanted = min(balls_wanted, len(keys))
        centres = np.argpartition(-keys, balls_wanted - 1)[:balls_wanted]
        centres = centres[np.argsort(-keys[centres], kind="stable")]
        zyx = np.stack(np.unravel_index(body.at[centres], body.box_shape), axis=1)
        if apart and balls_wanted < len(keys):
            alone = _apart(zyx * body.grid_mm, radius_mm[centres])
            centres, zyx = centres[alone], zyx[alone]
        zyx = np.clip(zyx[:, None, :] + steps, 0, np.array(body.box_shape) - 1)
        covered = voxel_of[tuple(np.moveaxis(zyx, -1, 0))]
        covered = covered[(away_mm <= radius_mm[centres, None]) & (covered >= 0)]
        covered = covered[free[covered]]
        _, first = np.unique(covered, return_index=True)
        if len(first) >= count:
            return np.sort(covered[np.sort(first)[:count]])
        balls_wanted *= 2


def _apart(centres_mm: np.ndarray, radii_mm: np.ndarray) -> np.ndarray:
    """Return the numbers of the balls, first come first kept, that touch none that was kept before."""
    kept: list[int] = []
    for number, (centre, radius) in enumerate(zip(centres_mm, radii_mm, strict=True)):
        if (np.linalg.norm(centres_mm[kept] - centre, axis=1) > radii_mm[kept] + radius).all():
            kept.append(number)
    return np.array(kept)


def _check_room(count: int, room: int) -> None:
    if not 0 <= count <= room:
        raise BadInput("a planted extent must fit into the lung that is still free", value=f"{count} of {room} voxels", remedy="lower the extents")
