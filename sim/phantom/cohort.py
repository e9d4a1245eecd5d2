"""Patients as tables: extents, age, sex and survival of thousands at once, for truths that need many patients and no images.

fibrosis  Gamma(1.6, 9) %, at most 60 (mean 14.3)      T = (-ln U / (rate e^eta))^(1/shape)
age       N(66, 9)                                      eta = ln(ratio)/10 (fibrosis - 14) + ln(1.03) (age - 65) + ln(1.4) (male - 1/2)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.phantom.outcomes import FOLLOW_UP_YEARS, LOG_HAZARD, MEDIAN_YEARS, SHAPE

COLUMNS = ("fibrosis", "age", "male")


@dataclass(frozen=True)
class PlantedCohort:
    """What is known and what is true of each of n patients.

    Parameters
    ----------
    columns : ndarray, shape (n, 3)
        Measured fibrosis %, age, male.
    outcomes : ndarray, shape (n, 3)
        Time in years, 0 for last seen, 1 for death or 2 for a transplant, number of the site.
    log_hazard : ndarray, shape (n,)
        Planted, of the true fibrosis and the site.
    shape, rate : float
        Of the Weibull law, 1/year^shape.
    """

    columns: NDArray[np.float64]
    outcomes: NDArray[np.float64]
    log_hazard: NDArray[np.float64]
    shape: float
    rate: float

    def risks(self, horizons: Sequence[float]) -> NDArray[np.float64]:
        """Return the planted P(death by each horizon) without other causes, shape (n, horizons)."""
        return 1 - np.exp(-self.rate * np.array(horizons) ** self.shape * np.exp(self.log_hazard)[:, None])

    def sites(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return columns and outcomes of each site, as a site sees them: death or not, and itself as stratum 0."""
        numbers = self.outcomes[:, 2]
        seen = np.column_stack([self.outcomes[:, 0], self.outcomes[:, 1] == 1, np.zeros(len(numbers))])
        return [(self.columns[numbers == site], seen[numbers == site]) for site in np.unique(numbers)]


def draw_cohort(
    patients: int,
    seed: int,
    *,
    hazard_ratio: float = 1.9,
    sites: int = 4,
    site_hazards: Sequence[float] = (),
    site_bias_percent: Sequence[float] = (),
    noise_percent: float = 0.0,
    transplants_a_year: float = 0.0,
    shape: float = SHAPE,
    rate: float | None = None,
) -> PlantedCohort:
    """Draw patients who are spread evenly over sites.

    Parameters
    ----------
    patients, seed : int
        How many, and of which random numbers.
    hazard_ratio : float
        Of 10 % more fibrosis; 1 plants nothing.
    sites : int
        Hospitals.
    site_hazards : sequence of float, optional
        Factor on the hazard of each site, by default 1: confounds what differs between sites.
    site_bias_percent : sequence of float, optional
        What each site's software adds to every extent.
    noise_percent : float
        Standard deviation of the error of a measured extent.
    transplants_a_year : float
        Rate of a competing cause, the same for all.
    shape, rate : float
        Of the Weibull law; by default the median patient lives `MEDIAN_YEARS`. Systemic sclerosis: 0.575 and 0.0889.

    Examples
    --------
    >>> cohort = draw_cohort(2000, 0)
    >>> bool(0.35 < (cohort.outcomes[:, 1] == 1).mean() < 0.55), bool(np.diff(cohort.risks((1, 3, 5)), axis=1).min() > 0)
    (True, True)
    """
    rng = np.random.default_rng([seed, 0x5EED])
    rate = float(np.log(2) / MEDIAN_YEARS**SHAPE) if rate is None else rate
    site = np.arange(patients) % sites
    fibrosis = np.minimum(rng.gamma(1.6, 9, patients), 60)
    age, male = np.clip(rng.normal(66, 9, patients), 25, 92), (rng.random(patients) < 0.6).astype(float)
    log_hazard = np.log(hazard_ratio) / 10 * (fibrosis - 14) + LOG_HAZARD["age"] * (age - 65) + LOG_HAZARD["male"] * (male - 0.5)
    if site_hazards:
        log_hazard = log_hazard + np.log(np.array(site_hazards))[site]
    death = (rng.exponential(1, patients) / (rate * np.exp(log_hazard))) ** (1 / shape)
    other = rng.exponential(1 / transplants_a_year, patients) if transplants_a_year else np.full(patients, np.inf)
    left = rng.uniform(*FOLLOW_UP_YEARS, patients)
    time = np.minimum(np.minimum(death, other), left)
    cause = np.where(time == left, 0, np.where(death < other, 1, 2))
    bias = np.array(site_bias_percent)[site] if site_bias_percent else 0.0
    measured = np.clip(fibrosis + bias + rng.normal(0, 1, patients) * noise_percent, 0, 100)
    return PlantedCohort(np.column_stack([measured, age, male]), np.column_stack([time, cause, site]).astype(float), log_hazard, shape, rate)
