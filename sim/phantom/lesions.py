"""How each pattern of interstitial lung disease looks, in Hounsfield units. To add one: a function, and a line in `LESIONS`.

A painter takes the HU of healthy parenchyma at the voxels of the lesion and returns those of the lesion. Vessels and airways are laid over it
afterwards. Definitions follow the glossary of the Fleischner Society (Bankier et al., Radiology 2024; Hansell et al., Radiology 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.phantom.fields import Floats, gaussian_field, wall_fraction, worley_walls
from sim.phantom.template import Template
from sim.phantom.thorax import REGION_MM


@dataclass(frozen=True)
class Patch:
    """The voxels of one lesion in one patient.

    Parameters
    ----------
    body : Template
        Grid and positions.
    voxels : ndarray of int
        Which lung voxels.
    seed : tuple of int
        Seed of this pattern in this patient: equal at every visit, so a lesion keeps its texture as it grows.
    """

    body: Template
    voxels: np.ndarray
    seed: tuple[int, ...]

    def rng(self) -> np.random.Generator:
        """Return the random numbers of this pattern, from the start."""
        return np.random.default_rng(self.seed)

    def field(self, rng: np.random.Generator, length_mm: float) -> Floats:
        """Return a Gaussian random field of variance 1 at the voxels."""
        return gaussian_field(rng, length_mm, self.body.axes_mm, REGION_MM).reshape(-1)[self.body.at[self.voxels]]

    def walls(self, rng: np.random.Generator, cell_mm: float, wall_mm: float) -> Floats:
        """Return the share of each voxel filled by the walls of Worley cells; on average about ``2.91 wall / cell``."""
        distances_mm = worley_walls(rng, cell_mm, self.body.points_mm[self.voxels], REGION_MM)
        return wall_fraction(distances_mm, wall_mm, self.body.grid_mm)


def ground_glass(hu: Floats, patch: Patch) -> Floats:
    """Hazy rise of 190 to 230 HU through which vessels stay visible; about -635 +- 95 HU."""
    rng = patch.rng()
    return hu + rng.uniform(190, 230) + 25 * patch.field(rng, 9.0)


def reticulation(hu: Floats, patch: Patch) -> Floats:
    """Interlacing lines of -150 HU around lobules of 5 to 8 mm, on parenchyma raised by 110 HU; about -585 +- 100 HU."""
    rng = patch.rng()
    lines = patch.walls(rng, rng.uniform(5, 8), 0.6)
    return (1 - lines) * (hu + 110) + lines * -150


def honeycombing(hu: Floats, patch: Patch) -> Floats:
    """Stacked cysts of 6 to 12 mm at -965 HU that share walls of 1 to 1.5 mm at -10 HU; about -570 +- 215 HU."""
    rng = patch.rng()
    cell_mm = rng.uniform(6, 12)
    walls = patch.walls(rng, cell_mm, np.clip(0.135 * cell_mm, 1.0, 1.5))
    return (1 - walls) * -965 + walls * -10 + 0 * hu


def consolidation(hu: Floats, patch: Patch) -> Floats:
    """Airless lung of -20 to 30 HU that hides vessels; open bronchi stay dark in it (air bronchogram)."""
    rng = patch.rng()
    return rng.uniform(-20, 30) + 15 * patch.field(rng, 6.0) + 0 * hu


def emphysema(hu: Floats, patch: Patch) -> Floats:
    """Holes of -975 HU without a wall."""
    return np.full_like(hu, -975.0)


def micronodules(hu: Floats, patch: Patch) -> Floats:
    """Dots under 3 mm, around -394 +- 55 HU after partial volume."""
    return -390 + 40 * patch.field(patch.rng(), 3.0) + 0 * hu


def ground_glass_reticulation(hu: Floats, patch: Patch) -> Floats:
    """Fine lines of -150 HU on ground glass, as in fibrotic NSIP; about -535 HU."""
    rng = patch.rng()
    lines = patch.walls(rng, rng.uniform(5, 8), 0.6)
    return (1 - lines) * (hu + 150) + lines * -150


@dataclass(frozen=True)
class Lesion:
    """A pattern: its code in the label mask, whether it counts as fibrosis, and its painter."""

    code: int
    fibrosis: bool
    paint: Callable[[Floats, Patch], Floats]


LESIONS: dict[str, Lesion] = {
    "honeycombing": Lesion(3, True, honeycombing),
    "reticulation": Lesion(2, True, reticulation),
    "ggo_reticulation": Lesion(7, True, ground_glass_reticulation),
    "consolidation": Lesion(4, False, consolidation),
    "emphysema": Lesion(5, False, emphysema),
    "micronodules": Lesion(6, False, micronodules),
    "ggo": Lesion(1, False, ground_glass),
}
"""Every pattern, in the order in which they take their place. Codes are `PatternVoxel`; 0 is a lung voxel without disease."""
