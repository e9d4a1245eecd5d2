"""The names that every system maps into: patterns of a voxel, categories of a CT, patterns and diagnoses of a patient. Data, not code.

A reclassification of the field is another line here; what changes by it (rules, recipes) names these lines and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pattern:
    """What a voxel of the lung may show.

    Parameters
    ----------
    title : str
        For readers.
    reticulation, ground_glass, fibrosis : bool
        Whether it counts to the extent of each; ground glass with reticulation counts as reticulation, which is the more specific of its two parts.
    """

    title: str
    reticulation: bool = False
    ground_glass: bool = False
    fibrosis: bool = False


PATTERNS: dict[str, Pattern] = {
    "normal": Pattern("normal lung"),
    "ggo": Pattern("ground glass", ground_glass=True),
    "reticulation": Pattern("reticulation", reticulation=True, fibrosis=True),
    "honeycombing": Pattern("honeycombing", fibrosis=True),
    "consolidation": Pattern("consolidation"),
    "emphysema": Pattern("emphysema"),
    "micronodules": Pattern("micronodules"),
    "ggo_reticulation": Pattern("ground glass with reticulation", reticulation=True, fibrosis=True),
}
"""`PatternVoxel`: the code of a pattern in a label map is its place here. Anthimopoulos et al., IEEE TMI 2016, and emphysema; fibrosis as in
Koh et al., Eur Radiol 2024: reticulation and honeycombing. Definitions: glossary of the Fleischner Society."""

PATTERN_CODES: dict[str, int] = {name: code for code, name in enumerate(PATTERNS)}


@dataclass(frozen=True)
class Category:
    """A category of the HRCT pattern: its title, and the confidence of the guideline that histology shows UIP."""

    title: str
    histologic_uip: str


HRCT_CATEGORIES: dict[str, Category] = {
    "UIP": Category("UIP", "more than 90 %"),
    "probable_UIP": Category("probable UIP", "70 to 89 %"),
    "indeterminate": Category("indeterminate for UIP", "51 to 69 %"),
    "alternative": Category("suggestive of an alternative diagnosis", "50 % or less"),
    "no_ILD": Category("no pattern of ILD", "not of this table"),
}
"""Raghu et al., Am J Respir Crit Care Med 2022;205:e18 (ATS/ERS/JRS/ALAT); the last line is the project's."""

ILD_PATTERNS = ("normal", "UIP", "NSIP", "OP", "HP", "NSIP-OP", "DAD", "other")
"""Patterns of a patient, as the phantoms and IIM-ILD have them."""

ILD_DIAGNOSES = ("UIP", "CHP", "NSIP", "sarcoidosis", "other")
"""Diagnoses of Mei et al., Nat Commun 2023."""
