"""What makes one hospital differ from the next: scanner, size, case mix, and how untidy its archive is. All of it plain TOML values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np

from shared_models.core.choices import look_up
from shared_models.core.errors import BadInput
from sim.phantom.diseases import CLASSES
from sim.phantom.outcomes import LAWS
from sim.scanner.scanner import SCANNERS, Scanner

SHARES = ("label_noise", "missing_fvc", "missing_dlco", "prone", "localizer", "derived", "corrupt")
"""Fields of a preset that are shares of patients."""


@dataclass(frozen=True)
class HospitalPreset:
    """A hospital to make.

    Parameters
    ----------
    name : str
        Letters, digits, ``-`` and ``_``; names its folder and enters every seed.
    scanner : str
        Key of `SCANNERS`.
    patients : int
        How many.
    mix : dict of class to weight
        Case mix; weights need not sum to 1.
    visits : int
        Most visits of a patient.
    interval_years : float
        Mean time between visits.
    resolution : float
        Coarseness of the scans; 1 is a clinical scan (0.7 mm pixels), 3.5 the demonstration.
    grid_mm : float
        Grid of the phantom, 0.5 to 6 mm.
    label_noise : float
        Share of patients whose diagnosis in the table is another class of the mix.
    missing_fvc, missing_dlco : float
        Share of patients without that test.
    prone, localizer, derived : float
        Share of visits with a further prone series, a scout image, or a reformatted series.
    corrupt : float
        Share of patients whose first visit has a file that is cut short.
    shuffled : bool
        Instance numbers and file names do not follow the order in space.
    annotated : float
        Share of the slices of the lung whose patterns a reader has outlined, evenly spread; without any no label map is written.
    findings : float
        Share of a reader's findings (`sim.hospital.reported`) that the table tells, each as present or absent; 0 leaves their columns out.
    intercept, padding : int, optional
        Instead of the scanner's RescaleIntercept, and HU outside the field of view.
    noise_hu, hu_shift : float, optional
        Instead of the scanner's noise and drift.
    first_year : int
        Year in which the first visits begin; they spread over four years.
    survival : str
        Key of `LAWS`: how its patients survive.

    Raises
    ------
    BadInput, BadChoice
        A value outside its range, an unknown scanner or class.

    Examples
    --------
    >>> HospitalPreset("north", scanner="A", patients=10, mix={"UIP": 2, "normal": 1}).counts()
    {'UIP': 7, 'normal': 3}
    """

    name: str
    scanner: str
    patients: int
    mix: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("normal", "UIP", "NSIP", "OP", "HP"), 1.0))
    visits: int = 1
    interval_years: float = 1.0
    resolution: float = 3.5
    grid_mm: float = 2.5
    label_noise: float = 0.0
    missing_fvc: float = 0.0
    missing_dlco: float = 0.0
    prone: float = 0.0
    localizer: float = 0.0
    derived: float = 0.0
    corrupt: float = 0.0
    shuffled: bool = False
    annotated: float = 0.0
    findings: float = 0.0
    intercept: int | None = None
    padding: int | None = None
    noise_hu: float | None = None
    hu_shift: float | None = None
    first_year: int = 2019
    survival: str = "ild"

    def __post_init__(self) -> None:
        look_up(SCANNERS, self.scanner, kind="scanner")
        look_up(LAWS, self.survival, kind="law of survival")
        for klass in self.mix:
            look_up(CLASSES, klass, kind="class")
        rules = [
            ("name", bool(re.fullmatch(r"[A-Za-z0-9_-]{1,32}", self.name)), "1 to 32 letters, digits, - or _"),
            ("patients", self.patients >= 1, "at least 1"),
            ("mix", bool(self.mix) and min(self.mix.values(), default=0) >= 0 and sum(self.mix.values()) > 0, "weights, not all zero"),
            ("visits", 1 <= self.visits <= 10, "1 to 10"),
            ("interval_years", self.interval_years > 0, "above 0"),
            ("resolution", 1 <= self.resolution <= 8, "1 to 8"),
            ("grid_mm", 0.5 <= self.grid_mm <= 6, "0.5 to 6"),
            *((share, 0 <= getattr(self, share) <= 1, "a share from 0 to 1") for share in (*SHARES, "annotated", "findings")),
        ]
        for key, holds, rule in rules:
            if not holds:
                raise BadInput(f"a hospital's {key} must be {rule}", value=getattr(self, key), remedy=f"correct {key} of hospital {self.name!r}")

    def counts(self) -> dict[str, int]:
        """Return how many patients of each class, exactly: quotas are rounded down and the rest goes to the largest remainders."""
        weights = np.array(list(self.mix.values()), float)
        quotas = self.patients * weights / weights.sum()
        counts = np.floor(quotas).astype(int)
        counts[np.argsort(-(quotas - counts), kind="stable")[: self.patients - counts.sum()]] += 1
        return dict(zip(self.mix, counts.tolist(), strict=True))

    def machine(self) -> Scanner:
        """Return the scanner at this hospital's resolution, with what the hospital sets otherwise.

        Examples
        --------
        >>> HospitalPreset("north", scanner="A", patients=10, hu_shift=20.0).machine().hu_shift
        20.0
        """
        own = {key: getattr(self, key) for key in ("intercept", "padding", "noise_hu", "hu_shift")}
        return replace(SCANNERS[self.scanner].at(self.resolution), **{key: value for key, value in own.items() if value is not None})
