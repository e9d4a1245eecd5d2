"""Which patterns a disease mixes, in what amounts, and where they lie. To add one: a row of `CLASSES` (and of `PEOPLE` in outcomes)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared_models.core.choices import look_up
from sim.phantom.lesions import LESIONS
from sim.phantom.placement import Placement


@dataclass(frozen=True)
class Disease:
    """How a disease is mixed and where it lies.

    Parameters
    ----------
    mix : dict of pattern to (low, high)
        Extent of each pattern in percent of the lung, drawn anew for each patient. "mosaic" is air trapping, which is not a label.
    where : dict of pattern to Placement
        One for each pattern of `mix`.
    traction : float
        Strength of traction bronchiectasis: where fibrosis is dense, airway radii grow by the factor ``1 + 1.2 traction``.
    migrates : bool
        Patches lie elsewhere at each visit.
    """

    mix: dict[str, tuple[float, float]]
    where: dict[str, Placement]
    traction: float = 0.0
    migrates: bool = False


_UIP_WHERE = {
    "honeycombing": Placement(subpleural=2.5, subpleural_mm=5, basal=1.8, patch_mm=18),
    "reticulation": Placement(subpleural=2.0, subpleural_mm=7, basal=1.6, patch_mm=18),
    "ggo": Placement(subpleural=1.0, subpleural_mm=10, basal=0.8),
}

CLASSES: dict[str, Disease] = {
    "normal": Disease({"ggo": (0, 1)}, {"ggo": Placement(dorsal=2.0, basal=0.5)}),
    "UIP": Disease({"honeycombing": (2, 15), "reticulation": (5, 25), "ggo": (1, 6)}, _UIP_WHERE, traction=1.0),
    "probable_UIP": Disease({"reticulation": (5, 25), "ggo": (1, 6)}, _UIP_WHERE, traction=1.0),
    "NSIP": Disease(
        {"ggo_reticulation": (2, 6), "reticulation": (2, 6), "ggo": (12, 35)},
        dict.fromkeys(("ggo_reticulation", "reticulation", "ggo"), Placement(basal=1.3, sparing=0.8, patchy=0.3)),
        traction=0.5,
    ),
    "fibrotic_NSIP": Disease(
        {"ggo_reticulation": (10, 25), "ggo": (2, 8)},
        dict.fromkeys(("ggo_reticulation", "ggo"), Placement(basal=1.3, sparing=0.8, patchy=0.6, patch_mm=18)),
        traction=0.8,
    ),
    "OP": Disease(
        {"consolidation": (5, 20), "ggo": (4, 12)},
        {
            "consolidation": Placement(subpleural=1.2, subpleural_mm=10, peribronchial=0.6, patchy=1.4, patch_mm=14),
            "ggo": Placement(subpleural=0.8, subpleural_mm=15, peribronchial=0.6, patchy=1.4, patch_mm=14),
        },
        migrates=True,
    ),
    "HP": Disease(
        {"micronodules": (1, 4), "reticulation": (0, 10), "ggo": (8, 25), "mosaic": (8, 20)},
        {
            "micronodules": Placement(upper=1.0, patchy=0.3, blob_mm=(1.5, 3.0)),
            "reticulation": Placement(upper=1.0, peribronchial=0.6, patchy=0.8),
            "ggo": Placement(upper=1.0, patchy=1.2),
            "mosaic": Placement(upper=0.4, patchy=1.2),
        },
        traction=0.4,
    ),
    "indeterminate": Disease(
        {"reticulation": (1, 4), "ggo": (1, 3)},
        {"reticulation": Placement(patchy=1.0), "ggo": Placement(patchy=1.0)},
    ),
    "CPFE": Disease(
        {"honeycombing": (2, 12), "reticulation": (5, 18), "emphysema": (8, 20), "ggo": (1, 4)},
        {**_UIP_WHERE, "emphysema": Placement(upper=1.4, patchy=0.4, blob_mm=(2.0, 5.0))},
        traction=1.0,
    ),
    "basal_ggo": Disease({"ggo": (8, 20)}, {"ggo": Placement(basal=2.0)}),
    "apical_ggo": Disease({"ggo": (8, 20)}, {"ggo": Placement(upper=2.0)}),
    "subpleural_ggo": Disease(
        {"ggo": (4, 9)}, {"ggo": Placement(subpleural=3.0, subpleural_mm=10, clear_mm=12, patchy=0.3, blob_mm=(6.0, 11.0), apart=True)}
    ),
    "central_ggo": Disease({"ggo": (4, 9)}, {"ggo": Placement(clear_mm=22, patchy=0.3, blob_mm=(6.0, 11.0), apart=True)}),
}
"""Every class: mixes and distributions after the 2018/2022 ATS/ERS/JRS/ALAT guideline on IPF and the glossary of the Fleischner Society.

``fibrotic_NSIP`` is the NSIP whose ground glass is crossed by lines nearly everywhere: the one class in which ``ggo_reticulation`` fills regions of
its own. In ``NSIP`` that pattern is a small share, between two others.

The last four are no diseases but twins: as much of one pattern, at the base or at the apex, under the pleura or away from it. What tells two apart
is where, not how much.
"""


def fibrosis_of(extents: Mapping[str, float]) -> float:
    """Return the extent of fibrosis, percent of the lung.

    Examples
    --------
    >>> fibrosis_of({"honeycombing": 4.0, "ggo_reticulation": 3.0, "ggo": 20.0})
    7.0
    """
    return float(sum(percent for name, percent in extents.items() if name in LESIONS and LESIONS[name].fibrosis))


def draw_extents(klass: str, rng: np.random.Generator) -> dict[str, float]:
    """Draw the planted extents of a patient, percent of the lung. One severity moves all patterns, so that they rise together.

    Examples
    --------
    >>> extents = draw_extents("UIP", np.random.default_rng(0))
    >>> list(extents), 2 <= extents["honeycombing"] <= 15
    (['honeycombing', 'reticulation', 'ggo'], True)
    """
    disease = look_up(CLASSES, klass, kind="class")
    severity = rng.uniform()
    share = {name: 0.5 * severity + 0.5 * rng.uniform() for name in disease.mix}
    return {name: float(low + (high - low) * share[name]) for name, (low, high) in disease.mix.items()}
