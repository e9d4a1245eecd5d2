"""A patient at one visit: a disease, a seed, and from these the thorax in Hounsfield units with its label mask."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from shared_models.core.arrays import HU, Mask
from shared_models.core.choices import look_up
from sim.phantom.diseases import CLASSES, Disease, draw_extents, fibrosis_of
from sim.phantom.fields import Floats, gaussian_field
from sim.phantom.lesions import LESIONS, Patch
from sim.phantom.placement import Placement, balls, best, score
from sim.phantom.template import AIRWAY_LEVELS, BODIES, Template, body_template
from sim.phantom.thorax import REGION_MM
from sim.phantom.trees import paint

VESSEL, WALL, LUMEN = 40.0, 20.0, -1000.0


@dataclass(frozen=True)
class Phantom:
    """A patient's thorax before any scanner.

    Parameters
    ----------
    klass : str
        Key of `CLASSES`.
    hu : ndarray of float32, shape (z, y, x)
        Noiseless HU, from head to feet, front to back, patient's right to left.
    labels : ndarray of uint8, shape (z, y, x)
        `PatternVoxel` codes; 0 outside the lungs and in healthy lung.
    lung : ndarray of uint8, shape (z, y, x)
        1 right lung, 2 left lung, 0 elsewhere. Trachea and main bronchi are outside, vessels are inside.
    spacing_mm : tuple of float
        Along (z, y, x).
    extents : dict of str to float
        Percent of lung voxels planted with each pattern; equals ``100 * (labels == code).sum() / (lung > 0).sum()``.
    body : int
        Number of the body template.
    """

    klass: str
    hu: HU
    labels: Mask
    lung: Mask
    spacing_mm: tuple[float, float, float]
    extents: dict[str, float] = field(default_factory=dict)
    body: int = 0

    @property
    def lung_ml(self) -> float:
        """Volume of both lungs, millilitres."""
        return float(np.count_nonzero(self.lung) * np.prod(self.spacing_mm) / 1000)

    @property
    def fibrosis(self) -> float:
        """Extent of fibrosis (reticulation, honeycombing), percent of the lung."""
        return fibrosis_of(self.extents)


def make_phantom(
    klass: str,
    *,
    seed: int,
    grid_mm: float = 2.5,
    body: int | None = None,
    extents: Mapping[str, float] | None = None,
    visit: int = 0,
    first_fibrosis: float | None = None,
    placement: str | None = None,
) -> Phantom:
    """Make the thorax of one patient at one visit.

    Parameters
    ----------
    klass : str
        Key of `CLASSES`.
    seed : int
        The patient. Equal at every visit.
    grid_mm : float
        Edge of the cubic voxels, 0.5 to 6 mm. A finer grid shows the same patient in more detail.
    body : int, optional
        Body template; by default drawn from the seed.
    extents : mapping of pattern to percent, optional
        Planted extents; by default drawn from the seed. Larger extents with the same seed contain the smaller ones.
    visit : int
        Number of the visit; moves the patches of a disease that migrates.
    first_fibrosis : float, optional
        Fibrosis that lifts the diaphragm (a stiff lung is small), percent; by default that of `extents`. Give that of the first visit at every
        later one: then the lung keeps its voxels, and lesions contain the earlier ones.
    placement : str, optional
        Place the patterns as another class would: the same mix elsewhere (a distribution twin).

    Returns
    -------
    Phantom

    Raises
    ------
    BadChoice
        No such class.
    BadInput
        Extents that do not fit into the lung, or an impossible grid.

    Examples
    --------
    >>> phantom = make_phantom("OP", seed=3, grid_mm=6.0, extents={"consolidation": 10.0})
    >>> lung = (phantom.lung > 0).sum()
    >>> int((phantom.labels == 4).sum()) == round(0.10 * lung)
    True
    """
    disease = look_up(CLASSES, klass, kind="class")
    where = {**disease.where, **(look_up(CLASSES, placement, kind="class").where if placement else {})}
    rng = np.random.default_rng([seed, 0xB0D1])
    drawn_body, inspiration_mm, drawn_extents = int(rng.integers(BODIES)), rng.uniform(0, 12), draw_extents(klass, rng)
    extents = dict(drawn_extents if extents is None else extents)
    for name in extents:
        look_up({**LESIONS, "mosaic": None}, name, kind="pattern")
    template = body_template(drawn_body if body is None else body, grid_mm)
    stiff = fibrosis_of(extents) if first_fibrosis is None else first_fibrosis

    above_mm = template.above_dome_mm - (inspiration_mm + 0.8 * stiff)
    cover = np.minimum(template.lung, np.clip(0.5 + above_mm / grid_mm, 0, 1))
    lung = cover >= 0.5
    pleura_mm = np.minimum(template.pleura_mm, np.maximum(0.85 * above_mm, 0))

    labels, trapped, planted = _place(disease, where, template, lung, pleura_mm, extents, seed=seed, visit=visit)
    hu = _parenchyma(template, seed)
    hu[trapped] -= np.random.default_rng([seed, 0x305A1C]).uniform(60, 90)
    for name in planted:
        if name in LESIONS:
            patch = Patch(template, np.flatnonzero(labels == LESIONS[name].code), (seed, LESIONS[name].code))
            hu[patch.voxels] = LESIONS[name].paint(hu[patch.voxels], patch)
    _extend_to_rim(hu, template, cover, lung)
    _lay_tubes(hu, template, labels, disease.traction)

    volume = template.tissue.copy()
    box = volume[template.box].reshape(-1)
    box[template.at] += cover * (hu - box[template.at])
    volume[template.box] = box.reshape(template.box_shape)
    return Phantom(
        klass,
        volume,
        _whole(template, labels),
        _whole(template, np.where(lung, template.side, 0).astype(np.uint8)),
        (grid_mm, grid_mm, grid_mm),
        planted,
        template.body,
    )


def _place(
    disease: Disease,
    where: Mapping[str, Placement],
    body: Template,
    lung: np.ndarray,
    pleura_mm: np.ndarray,
    extents: Mapping[str, float],
    *,
    seed: int,
    visit: int,
) -> tuple[Mask, np.ndarray, dict[str, float]]:
    """Return the label of each voxel, the voxels with air trapping, and the extents as planted (rounded to whole voxels)."""
    labels = np.zeros(len(lung), np.uint8)
    trapped = np.zeros(0, int)
    planted: dict[str, float] = {}
    total = int(lung.sum())
    for name in [*LESIONS, "mosaic"]:
        if name not in extents:
            continue
        count = round(extents[name] / 100 * total)
        spot = where.get(name, Placement())
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), visit if disease.migrates else 0])
        patches = body.gather(gaussian_field(rng, spot.patch_mm, body.axes_mm, REGION_MM))
        scores = score(spot, body, pleura_mm, patches)
        free = lung & (labels == 0)
        chosen = balls(scores, free, count, body, spot.blob_mm, rng, apart=spot.apart) if spot.blob_mm else best(scores, free, count)
        if name == "mosaic":
            trapped = chosen
        else:
            labels[chosen] = LESIONS[name].code
        planted[name] = 100 * len(chosen) / total
    return labels, trapped, planted


def _parenchyma(body: Template, seed: int) -> Floats:
    """Healthy lung: darker in front, brighter at the back, and uneven on two scales."""
    rng = np.random.default_rng([seed, 0x9A2E])
    coarse = body.gather(gaussian_field(rng, 12.0, body.axes_mm, REGION_MM))
    fine = body.gather(gaussian_field(rng, 3.0, body.axes_mm, REGION_MM))
    return (-868 + 26 * body.dorsal + 14 * coarse + 10 * fine).astype(np.float32)


def _extend_to_rim(hu: Floats, body: Template, cover: np.ndarray, lung: np.ndarray) -> None:
    """Give voxels that a lung fills to less than half the HU of a neighbour inside, so that no dark line parts a lesion from the pleura."""
    number = body.spread(np.arange(1, len(hu) + 1)) - 1
    rim = np.flatnonzero((cover > 0) & ~lung)
    zyx = np.stack(np.unravel_index(body.at[rim], body.box_shape))
    limit = np.array(body.box_shape)[:, None] - 1
    waiting = np.ones(len(rim), bool)
    for axis in (2, 1, 0):
        for step in (-1, 1):
            beside = zyx.copy()
            beside[axis] += step
            neighbour = number[tuple(np.clip(beside, 0, limit))]
            take = waiting & (neighbour >= 0) & lung[neighbour]
            hu[rim[take]] = hu[neighbour[take]]
            waiting &= ~take


def _lay_tubes(hu: Floats, body: Template, labels: Mask, traction: float) -> None:
    """Lay vessels and airways over the parenchyma; fibrosis pulls its airways open."""
    wall, lumen = body.wall, body.lumen
    keep, factor = _pulled_open(body, labels, traction)
    if keep.any():
        widened = body.airways.where(keep)
        widened = widened.with_radius(np.maximum(widened.radius, 0.7) * factor)
        thick = widened.with_radius(1.2 * widened.radius + 0.3)
        lumen = np.maximum(lumen, body.gather(paint(widened, body.axes_mm, ripple=0.2)))
        wall = np.maximum(np.maximum(wall, lumen), body.gather(paint(thick, body.axes_mm, ripple=0.2)))
    hu += body.vessel * (VESSEL - hu)
    hu *= 1 - wall
    hu += (wall - lumen) * WALL + lumen * LUMEN


def _pulled_open(body: Template, labels: Mask, traction: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which airways lie in fibrosis, and the factor on the radius of each of these."""
    fibrous = np.isin(labels, [lesion.code for lesion in LESIONS.values() if lesion.fibrosis])
    if traction <= 0 or not fibrous.any():
        return np.zeros(len(body.airways.level), bool), np.zeros(0)
    dense = ndimage.uniform_filter(body.spread(fibrous.astype(np.float32)), size=max(3, round(12.0 / body.grid_mm)))
    middle = (body.airways.start + body.airways.end) / 2
    voxel = np.rint((middle - [axis[0] for axis in body.axes_mm]) / body.grid_mm).astype(int)
    local = dense[tuple(np.clip(voxel, 0, np.array(body.box_shape) - 1).T)]
    keep = (local > 0.25) & (body.airways.level <= AIRWAY_LEVELS + 3)
    return keep, 1 + 1.2 * traction * local[keep]


def traction_index(phantom: Phantom) -> float:
    """Return the mean area of the airway lumina that lie in fibrosis over the area that they would have without it; 1 where none does.

    Examples
    --------
    >>> traction_index(make_phantom("normal", seed=0, grid_mm=6.0))
    1.0
    """
    body = body_template(phantom.body, phantom.spacing_mm[0])
    _, factor = _pulled_open(body, body.gather(phantom.labels[body.box]), CLASSES[phantom.klass].traction)
    return float((factor**2).mean()) if len(factor) else 1.0


def _whole(body: Template, values: Mask) -> Mask:
    """Return per-voxel values on the whole grid."""
    volume = np.zeros(body.tissue.shape, np.uint8)
    volume[body.box] = body.spread(values)
    return volume
