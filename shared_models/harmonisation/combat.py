"""ComBat on features from exact sums: site effects of location and scale go, effects of age, sex or disease stay.

The model of feature f of a patient at site s with covariates x is ``y = a_f + x b_f + gamma_sf + delta_sf e``. Within-site centring takes the
site intercepts out of the regression (Frisch, Waugh and Lovell), so the pooled fit of a, b and the residual variance needs sums only, and sums
that do not even tell the sites apart: a secure sum will do. What is left, a site's own location and scale and their empirical-Bayes shrinkage
over the features, the site finds out from its own patients. The result is that of one ComBat over all patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.files import canonical_json, sha256
from shared_models.core.state import is_finite, same_layout

Table = NDArray[np.float64]
FEWEST_PATIENTS = 2
"""A site's scale is a standard deviation of its own patients."""


def contribution(features: Table, covariates: Table) -> State:
    """Return a site's sums over its patients.

    Parameters
    ----------
    features : ndarray, shape (n, f)
        One row a patient.
    covariates : ndarray, shape (n, c)
        What is to be kept, as numbers (age, male, 0/1 per diagnosis but one); c may be 0.

    Returns
    -------
    dict
        ``n``, ``features`` (f,) and ``covariates`` (c,): plain sums. ``cc`` (c, c), ``cf`` (c, f) and ``ff`` (f,): products of what is left of
        both after the site's own means are taken off.

    Examples
    --------
    >>> sums = contribution(np.array([[1.0], [3.0]]), np.zeros((2, 0)))
    >>> sums["n"].tolist(), sums["features"].tolist(), sums["ff"].tolist()
    ([2.0], [4.0], [2.0])
    """
    features, covariates = _table(features, "features"), _table(covariates, "covariates")
    if len(features) != len(covariates):
        raise BadState("features and covariates have one row a patient", value=(len(features), len(covariates)))
    y, x = (table - table.mean(axis=0) if len(table) else table for table in (features, covariates))
    return {
        "n": np.array([float(len(features))]),
        "features": features.sum(axis=0),
        "covariates": covariates.sum(axis=0),
        "cc": x.T @ x,
        "cf": x.T @ y,
        "ff": (y * y).sum(axis=0),
    }


def check(sums: State, *, features: int, covariates: int) -> None:
    """Refuse sums of another shape and sums that no patients can have.

    Raises
    ------
    BadState
        With what is wrong.
    """
    same_layout(sums, contribution(np.zeros((0, features)), np.zeros((0, covariates))))
    if not is_finite(sums) or sums["n"][0] < 0 or (sums["ff"] < 0).any():
        raise BadState("sums must be finite, counts and squares not negative")
    size = max(1.0, float(np.abs(sums["cc"]).max(initial=0)))
    if np.abs(sums["cc"] - sums["cc"].T).max(initial=0) > 1e-9 * size or np.linalg.eigvalsh(sums["cc"]).min(initial=0) < -1e-8 * size * (
        1 + covariates
    ):
        raise BadState("products of covariates must be symmetric and positive semidefinite")


@dataclass(frozen=True)
class CombatFit:
    """The pooled half of ComBat: what every site needs to know.

    Parameters
    ----------
    mean : ndarray, shape (f,)
        Mean of each feature over the federation.
    slope : ndarray, shape (c, f)
        Effect of each covariate.
    centre : ndarray, shape (c,)
        Mean of each covariate.
    deviation : ndarray, shape (f,)
        Standard deviation of what neither site nor covariates explain; 1 for a feature that never varies.
    """

    mean: Table
    slope: Table
    centre: Table
    deviation: Table

    def to_json(self) -> str:
        """Return canonical JSON with a digest of the numbers, so that a changed file is not taken for the one that was agreed."""
        numbers = {name: getattr(self, name).tolist() for name in ("mean", "slope", "centre", "deviation")}
        return canonical_json({**numbers, "sha256": sha256(canonical_json(numbers).encode())})

    @staticmethod
    def from_json(text: str) -> CombatFit:
        """Read what `to_json` wrote.

        Raises
        ------
        BadState
            It is not JSON of that form, or does not match its digest.
        """
        import json

        try:
            numbers = json.loads(text)
            digest = numbers.pop("sha256")
            if digest != sha256(canonical_json(numbers).encode()):
                raise ValueError("digest")
            mean, centre, deviation = (np.array(numbers[name], np.float64) for name in ("mean", "centre", "deviation"))
            slope = np.array(numbers["slope"], np.float64).reshape(len(centre), len(mean))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadState("a ComBat fit must match its digest", remedy="take the file again from the server") from None
        if mean.ndim != 1 or deviation.shape != mean.shape or not (deviation > 0).all() or not is_finite({"m": mean, "s": slope, "c": centre}):
            raise BadState("a ComBat fit holds finite numbers and positive deviations")
        return CombatFit(mean, slope, centre, deviation)


def finish(parts: Sequence[State]) -> CombatFit:
    """Return the pooled fit from the sites' sums, or from their total alone: the server's half.

    Raises
    ------
    BadState
        Malformed sums, or fewer patients than the fit has unknowns.

    Examples
    --------
    >>> one, other = (contribution(np.array(rows, float), np.zeros((2, 0))) for rows in ([[1], [3]], [[11], [13]]))
    >>> fit = finish([one, other])
    >>> fit.mean.tolist(), fit.deviation.tolist()
    ([7.0], [1.0])
    """
    if not parts:
        raise BadState("ComBat needs at least one site", value=0)
    covariates, features = parts[0]["cf"].shape if "cf" in parts[0] and parts[0]["cf"].ndim == 2 else (0, 0)
    for part in parts:
        check(part, features=features, covariates=covariates)
    total = {key: np.sum([part[key] for part in parts], axis=0) for key in parts[0]}
    n = float(total["n"][0])
    if n < covariates + 2:
        raise BadState("ComBat needs more patients than covariates", value=n)
    slope = np.linalg.pinv(total["cc"], hermitian=True) @ total["cf"]
    residual = total["ff"] - 2 * (slope * total["cf"]).sum(axis=0) + (slope * (total["cc"] @ slope)).sum(axis=0)
    variance = np.maximum(residual, 0) / n
    flat = variance <= 1e-12 * np.maximum(1.0, np.square(total["features"] / n))
    return CombatFit(total["features"] / n, slope, total["covariates"] / n, np.where(flat, 1.0, np.sqrt(np.where(flat, 1.0, variance))))


@dataclass(frozen=True)
class SiteEffect:
    """A site's own half of ComBat, in standardised features: what is taken off and what is divided by. It stays at the site.

    Parameters
    ----------
    location, scale : ndarray, shape (f,)
        Additive effect, and factor on the deviation.
    """

    location: Table
    scale: Table


def site_effect(fit: CombatFit, features: Table, covariates: Table, *, shrink: bool = True, tolerance: float = 1e-4) -> SiteEffect:
    """Return the effect of the site whose patients these are, by default shrunk towards its mean over the features (empirical Bayes).

    Parameters
    ----------
    fit : CombatFit
        Of the federation.
    features, covariates : ndarray, shapes (n, f) and (n, c)
        Of the site's patients, at least `FEWEST_PATIENTS`.
    shrink : bool
        False takes the site's own mean and deviation of each feature as they are.
    tolerance : float
        Relative change at which the iteration for the posterior means ends.

    Raises
    ------
    BadState
        Too few patients.

    References
    ----------
    Johnson, Li & Rabinovic, Adjusting batch effects in microarray expression data using empirical Bayes methods, Biostatistics 2007, section 3;
    on imaging features Fortin et al., NeuroImage 2018; over sites that keep their data Chen et al., NeuroImage 2022.
    """
    z = standardised(fit, features, covariates)
    n, f = z.shape
    if n < FEWEST_PATIENTS:
        raise BadState(f"a site's scale needs at least {FEWEST_PATIENTS} patients", value=n)
    mean, variance = z.mean(axis=0), z.var(axis=0, ddof=1)
    varies = variance > 1e-12
    if not shrink or np.count_nonzero(varies) < 3:
        return SiteEffect(mean, np.where(varies, np.sqrt(variance), 1.0))
    location, scale = mean.copy(), np.ones(f)
    location[varies], squared = _posterior(z[:, varies], mean[varies], variance[varies], tolerance)
    scale[varies] = np.sqrt(squared)
    return SiteEffect(location, scale)


def _posterior(z: Table, mean: Table, variance: Table, tolerance: float) -> tuple[Table, Table]:
    n = len(z)
    prior_mean, prior_variance = mean.mean(), mean.var(ddof=1)
    m, s2 = variance.mean(), variance.var(ddof=1)
    if s2 <= 1e-12 * m * m:  # all scales are alike: nothing to shrink
        return (n * prior_variance * mean + variance * prior_mean) / (n * prior_variance + variance), variance
    shape, rate = (2 * s2 + m * m) / s2, (m * s2 + m**3) / s2
    location, squared = mean, variance
    change = math.inf
    while change > tolerance:
        next_location = (n * prior_variance * mean + squared * prior_mean) / (n * prior_variance + squared)
        sums = np.square(z - next_location).sum(axis=0)
        next_squared = (0.5 * sums + rate) / (n / 2 + shape - 1)
        change = max(
            float((np.abs(next_location - location) / np.maximum(np.abs(location), 1e-12)).max()),
            float((np.abs(next_squared - squared) / squared).max()),
        )
        location, squared = next_location, next_squared
    return location, squared


def standardised(fit: CombatFit, features: Table, covariates: Table) -> Table:
    """Return features less mean and covariate effects, in deviations, shape (n, f)."""
    features, covariates = _table(features, "features"), _table(covariates, "covariates")
    if features.shape[1] != len(fit.mean) or covariates.shape[1] != len(fit.centre):
        raise BadState("a ComBat fit is for its own columns", value=(features.shape[1], covariates.shape[1]))
    return (features - fit.mean - (covariates - fit.centre) @ fit.slope) / fit.deviation


def harmonised(fit: CombatFit, effect: SiteEffect, features: Table, covariates: Table) -> Table:
    """Return the features without the site's effect, on their old scale, shape (n, f).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sites = [rng.normal(5, 1, (200, 4)), rng.normal(9, 3, (200, 4))]
    >>> none = np.zeros((200, 0))
    >>> fit = finish([contribution(site, none) for site in sites])
    >>> a, b = (harmonised(fit, site_effect(fit, site, none), site, none) for site in sites)
    >>> bool(abs(a.mean() - b.mean()) < 0.1 and abs(a.std() / b.std() - 1) < 0.05)
    True
    """
    z = (standardised(fit, features, covariates) - effect.location) / effect.scale
    return z * fit.deviation + fit.mean + (_table(covariates, "covariates") - fit.centre) @ fit.slope


def _table(values: Table, what: str) -> Table:
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise BadState(f"{what} must be a table of finite numbers", value=table.shape)
    return table
