"""What follows from a disease: age, sex and smoking, lung function, progression, survival. The coefficients are the truth that models may recover.

    FVC %  = 98 - 0.9 fibrosis - 0.25 ground glass                      + N(0, 9)
    DLCO % = 92 - 1.3 fibrosis - 0.3 ground glass - 0.5 emphysema       + N(0, 11)
    T      = (-ln U / (rate e^eta))^(1/shape)        eta = ln(1.9)/10 fibrosis + ln(1.03) (age - 65) + ln(1.4) male

Under the law ``progression`` it is not how much there is that kills but how fast it becomes more: eta = ln(3)/3 (growth - 4) + age and sex as
above, growth being the points of the lung that become diseased in a year, drawn alike for all patients whatever they have: nothing of the first
visit tells it.

1.9 per 10 % of fibrosis is the hazard ratio 1.067 per 1 % of Lee et al.; times come from the Weibull law by inversion (Bender et al., Stat Med
2005, doi 10.1002/sim.2059).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared_models.core.choices import look_up
from shared_models.patterns import PATTERNS
from sim.phantom.diseases import draw_extents, fibrosis_of

LOG_HAZARD = {"fibrosis": np.log(1.9) / 10, "age": np.log(1.03), "male": np.log(1.4)}
"""Planted Cox coefficients: per percent of fibrosis, per year above 65, for men."""

SHAPE = 1.2
MEDIAN_YEARS = 6.0
"""Weibull shape, and median survival of a patient with the typical 14 % of fibrosis, 65 years old, at the mean of both sexes."""


@dataclass(frozen=True)
class Law:
    """How a kind of patients survives: Weibull shape and rate (1/year^shape) of the typical patient, who has that much fibrosis and that age.

    With `growth`, points of the lung a year of the typical patient, it is the growth that kills in place of the amount.
    """

    shape: float
    rate: float
    fibrosis: float
    age: float
    growth: float | None = None


LAWS: dict[str, Law] = {
    "ild": Law(SHAPE, float(np.log(2) / MEDIAN_YEARS**SHAPE), 14.0, 65.0),
    "ssc": Law(0.575, 0.0889, 11.0, 62.0),
    "progression": Law(SHAPE, float(np.log(2) / MEDIAN_YEARS**SHAPE), 14.0, 65.0, 4.0),
}
"""``ssc``: systemic sclerosis; shape and rate fit 181, 326 and 428 deaths by 1, 3 and 5 years among the 2,125 scans of a registry
(arXiv:2509.23530). Its typical patient is such that a hospital of normal, NSIP and UIP in the shares 2, 3 and 1 has about these risks."""

LOG_HAZARD_OF_GROWTH = np.log(3) / 3
"""Planted coefficient of one point of the lung a year, where growth kills."""

GROWTH_SHAPE, GROWTH_SCALE = 1.6, 2.5
"""Gamma law of that growth: mean 4 points a year, standard deviation 3.2."""

FOLLOW_UP_YEARS = (0.5, 8.0)
"""Censoring is uniform over this range and independent of all else."""

PEOPLE: dict[str, tuple[float, float, float, float]] = {
    "normal": (55, 12, 0.50, 0.45),
    "UIP": (70, 7, 0.70, 0.65),
    "probable_UIP": (68, 8, 0.65, 0.60),
    "NSIP": (58, 10, 0.40, 0.40),
    "fibrotic_NSIP": (60, 10, 0.40, 0.40),
    "OP": (60, 11, 0.50, 0.40),
    "HP": (61, 10, 0.45, 0.30),
    "indeterminate": (64, 10, 0.55, 0.50),
    "CPFE": (68, 7, 0.85, 0.97),
    "basal_ggo": (60, 11, 0.50, 0.50),
    "apical_ggo": (60, 11, 0.50, 0.50),
    "subpleural_ggo": (60, 11, 0.50, 0.50),
    "central_ggo": (60, 11, 0.50, 0.50),
}
"""Class to mean age, its standard deviation, share of men, share of those who ever smoked."""

YEARLY_GROWTH = {"UIP": 0.20, "probable_UIP": 0.18, "CPFE": 0.20, "HP": 0.10, "NSIP": 0.08, "fibrotic_NSIP": 0.12, "indeterminate": 0.08}
"""Mean growth of all extents a year, relative to the first visit; 0 for other classes."""

LARGEST_EXTENT = 75.0


@dataclass(frozen=True)
class Person:
    """Age in years at the first visit, sex (M or F), smoking (never, former or current)."""

    age: float
    sex: str
    smoking: str


@dataclass(frozen=True)
class VisitTruth:
    """One visit.

    Parameters
    ----------
    years : float
        Since the first visit.
    extents : dict of pattern to percent
        Planted extents.
    fvc_percent, dlco_percent : float
        Lung function, percent of predicted.
    worse_symptoms : bool
        Reported at this visit; more likely the more FVC fell.
    time_years : float
        From this visit to death or to the last contact.
    event : bool
        True when the patient died.
    """

    years: float
    extents: dict[str, float]
    fvc_percent: float
    dlco_percent: float
    worse_symptoms: bool
    time_years: float
    event: bool


@dataclass(frozen=True)
class Course:
    """A patient's person, visits and log hazard relative to the typical patient."""

    person: Person
    visits: tuple[VisitTruth, ...]
    log_hazard: float


def log_hazard(fibrosis: float, person: Person, law: Law = LAWS["ild"], *, growth: float = 0.0) -> float:
    """Return the log hazard relative to the law's typical patient (14 % of fibrosis, 65 years) and half of the sexes' difference.

    `growth`, in points of the lung a year, counts under a law of growth alone, and the fibrosis does not.

    Examples
    --------
    >>> round(float(np.exp(log_hazard(24.0, Person(65, "M", "never")) - log_hazard(14.0, Person(65, "M", "never")))), 2)
    1.9
    """
    male = float(person.sex == "M") - 0.5
    disease = LOG_HAZARD["fibrosis"] * (fibrosis - law.fibrosis) if law.growth is None else LOG_HAZARD_OF_GROWTH * (growth - law.growth)
    return float(disease + LOG_HAZARD["age"] * (person.age - law.age) + LOG_HAZARD["male"] * male)


def planted_coefficients(law: Law) -> dict[str, float]:
    """Return the planted log hazard ratios of a law, by what they are of.

    Examples
    --------
    >>> list(planted_coefficients(LAWS["ild"])), list(planted_coefficients(LAWS["progression"]))
    (['fibrosis', 'age', 'male'], ['growth', 'age', 'male'])
    """
    disease = ("fibrosis", LOG_HAZARD["fibrosis"]) if law.growth is None else ("growth", LOG_HAZARD_OF_GROWTH)
    return {disease[0]: float(disease[1]), "age": float(LOG_HAZARD["age"]), "male": float(LOG_HAZARD["male"])}


def survival_years(uniform: float, log_hazard: float, law: Law = LAWS["ild"]) -> float:
    """Return the Weibull survival time whose survival probability is `uniform`, years.

    Examples
    --------
    >>> survival_years(0.5, 0.0)
    6.0
    """
    return round(float((-np.log(uniform) / (law.rate * np.exp(log_hazard))) ** (1 / law.shape)), 9)


def draw_person(klass: str, rng: np.random.Generator) -> Person:
    """Draw age, sex and smoking as the class has them."""
    age, spread, men, smokers = PEOPLE[klass]
    smoking = "never" if rng.uniform() > smokers else ("current" if rng.uniform() < 0.2 else "former")
    return Person(float(np.clip(rng.normal(age, spread), 25, 92)), "M" if rng.uniform() < men else "F", smoking)


def draw_course(klass: str, seed: int, *, visits: int = 1, interval_years: float = 1.0, law: str = "ild") -> Course:
    """Draw all of a patient but the images: extents at each visit, lung function, symptoms and survival.

    Parameters
    ----------
    klass : str
        Key of `CLASSES`.
    seed : int
        The patient.
    visits : int
        Most visits; those after death or the last contact do not happen.
    interval_years : float
        Mean time between visits.
    law : str
        Key of `LAWS`.

    Returns
    -------
    Course
        Extents never shrink from visit to visit, except that those of classes without growth stay equal.

    Examples
    --------
    >>> course = draw_course("UIP", 7, visits=3)
    >>> course.visits[0].years, course == draw_course("UIP", 7, visits=3)
    (0.0, True)
    """
    rng, chosen = np.random.default_rng([seed, 0xC0425E]), look_up(LAWS, law, kind="law of survival")
    person, first = draw_person(klass, rng), draw_extents(klass, rng)
    growth, points = YEARLY_GROWTH.get(klass, 0.0) * rng.uniform(0.3, 1.7), 0.0
    if chosen.growth is not None:
        amount = sum(percent for name, percent in first.items() if name in PATTERNS)  # of what a reader outlines
        points = np.random.default_rng([seed, 0x6027]).gamma(GROWTH_SHAPE, GROWTH_SCALE) if amount else 0.0
        growth = points / amount if amount else 0.0
    hazard = log_hazard(fibrosis_of(first), person, chosen, growth=points)
    death, last_contact = survival_years(rng.uniform(), hazard, chosen), rng.uniform(*FOLLOW_UP_YEARS)
    end, died = min(death, last_contact), bool(death <= last_contact)
    # a patient's own level and the error of each test add up to the residuals above
    own_fvc, own_dlco = rng.normal(0, 8.5), rng.normal(0, 10.4)
    happened: list[VisitTruth] = []
    for number in range(visits):
        years = 0.0 if number == 0 else happened[-1].years + interval_years * rng.uniform(0.8, 1.2)
        error_fvc, error_dlco, luck = rng.normal(0, 3.0), rng.normal(0, 3.6), rng.uniform()
        if number and years >= end:
            break
        extents = _grown(first, 1 + growth * years)
        fvc, dlco = mean_lung_function(extents)
        fvc, dlco = float(np.clip(fvc + own_fvc + error_fvc, 25, 140)), float(np.clip(dlco + own_dlco + error_dlco, 10, 140))
        fall = happened[-1].fvc_percent - fvc if happened else 0.0
        worse = bool(number and luck < 1 / (1 + np.exp(-(fall - 5) / 2.5)))
        happened.append(VisitTruth(years, extents, fvc, dlco, worse, end - years, died))
    return Course(person, tuple(happened), hazard)


def mean_lung_function(extents: Mapping[str, float]) -> tuple[float, float]:
    """Return the expected FVC and DLCO, percent of predicted.

    Examples
    --------
    >>> mean_lung_function({"honeycombing": 10.0, "ggo": 4.0})
    (88.0, 77.8)
    """
    fibrosis, ggo, emphysema = fibrosis_of(extents), extents.get("ggo", 0.0), extents.get("emphysema", 0.0)
    return 98 - 0.9 * fibrosis - 0.25 * ggo, 92 - 1.3 * fibrosis - 0.3 * ggo - 0.5 * emphysema


def _grown(extents: Mapping[str, float], factor: float) -> dict[str, float]:
    """Extents times `factor`, less where the lung would run out."""
    total = sum(extents.values())
    factor = max(1.0, min(factor, LARGEST_EXTENT / total)) if total else 1.0
    return {name: percent * factor for name, percent in extents.items()}
