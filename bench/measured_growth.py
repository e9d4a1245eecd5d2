"""The best risk that measured visits allow where growth kills: what is planted, seen through the error of the extents and not by itself.

The sum of a patient's measured extents rises by the growth g a year, and its error is known; so the slope over the visits up to the landmark L has
the law N(g, patterns error^2 / sum (t - mean t)^2). With the planted law of g, and what it means to have lived to L, Bayes gives the law of g of each
patient, and the risk within h years of L is the mean over it of 1 - exp(-rate e^eta(g) ((L + h)^shape - L^shape)). Lung function is not read: its
error a visit is that of several points of growth a year.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.cases.identity import canonical_id
from sim.courses import MEASURED
from sim.phantom.outcomes import GROWTH_SCALE, GROWTH_SHAPE, LAWS, LOG_HAZARD, LOG_HAZARD_OF_GROWTH

LARGEST_GROWTH = 40.0
"""Points of the lung a year; one patient in a million grows faster."""


def best_risks(table: Path, *, error_percent: float, landmark_years: float, horizon: float, law: str = "progression") -> dict[str, float]:
    """Return each patient's risk within `horizon` years of the landmark, by what a hospital's ``table.csv`` of visits says up to it."""
    by_patient: dict[str, list[dict[str, str]]] = {}
    with open(table, newline="", encoding="utf-8") as text:
        for row in csv.DictReader(text):
            by_patient.setdefault(row["patient_id"], []).append(row)
    found = {}
    for patient, rows in by_patient.items():
        first = min(rows, key=lambda row: float(row["years"]))
        seen = [row for row in rows if float(row["years"]) <= landmark_years]
        years, sums = (np.array([float(row[name]) for row in seen]) for name in ("years", "diseased_percent"))
        person = LOG_HAZARD["age"] * (float(first["age"]) - LAWS[law].age) + LOG_HAZARD["male"] * (float(first["male"]) - 0.5)
        found[canonical_id(patient)] = risk_of(years, sums, person, error_percent, landmark_years, horizon, law)
    return found


def risk_of(years: NDArray[np.float64], sums: NDArray[np.float64], person: float, error: float, landmark: float, horizon: float, law: str) -> float:
    """Return the risk of one patient: visits at `years` with the `sums` of their extents, log hazard of age and sex.

    Examples
    --------
    >>> slow, fast = (risk_of(np.array([0.0, 0.8, 1.5]), np.array([20.0, 20 + up, 20 + 2 * up]), 0.0, 0.5, 1.6, 3.0, "progression") for up in (0, 5))
    >>> slow < 0.2, fast > 0.4
    (True, True)
    """
    chosen = LAWS[law]
    growth = np.linspace(0.01, LARGEST_GROWTH, 800)
    log_weight = (GROWTH_SHAPE - 1) * np.log(growth) - growth / GROWTH_SCALE
    off = years - years.mean()
    if (spread := float((off**2).sum())) > 0:
        slope, variance = float((off * sums).sum()) / spread, len(MEASURED) * error**2 / spread
        log_weight -= (slope - growth) ** 2 / (2 * max(variance, 1e-6))
    rate = chosen.rate * np.exp(person + LOG_HAZARD_OF_GROWTH * (growth - (chosen.growth or 0.0)))
    log_weight -= rate * landmark**chosen.shape  # who lives at the landmark grows more slowly than who began
    weight = np.exp(log_weight - log_weight.max())
    risk = -np.expm1(-rate * ((landmark + horizon) ** chosen.shape - landmark**chosen.shape))
    return float((weight * risk).sum() / weight.sum())
