"""ComBat on the columns of a table, with the sites as batches."""

from __future__ import annotations

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice
from shared_models.harmonisation.combat import CombatFit, SiteEffect, check, contribution, finish, harmonised, site_effect
from shared_models.statistics.spec import StatisticSpec


class Combat:
    """The pooled half of ComBat is summed; a site's own location and scale it finds from its own training records and keeps."""

    def __init__(self, columns: tuple[str, ...], covariates: tuple[str, ...], shrink: bool) -> None:
        if (unknown := sorted(set(covariates) - set(columns))) or len(set(covariates)) < len(covariates):
            raise BadChoice("combat's covariates are columns of the table, each once", value=unknown or list(covariates), remedy=", ".join(columns))
        if len(covariates) == len(columns):
            raise BadChoice("combat needs a column that is no covariate", value=list(covariates), remedy="leave one out of covariates")
        self.columns, self.shrink = columns, shrink
        self.kept = [columns.index(name) for name in covariates]
        self.changed = [number for number in range(len(columns)) if number not in self.kept]

    def columns_after(self) -> tuple[str, ...]:
        """Return the columns as they were."""
        return self.columns

    def start(self, *, seed: int) -> State:
        """Return a fit that takes nothing off."""
        del seed
        f, c = len(self.changed), len(self.kept)
        return {"mean": np.zeros(f), "slope": np.zeros((c, f)), "centre": np.zeros(c), "deviation": np.ones(f)}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return a site's sums; `weights` are not for it: what is centred within a site has no part of one record alone."""
        del state, y, seed
        if weights is not None:
            raise BadChoice("combat has no weighted sums", remedy="leave [privacy] out, or take the statistic scaler")
        return contribution(*self._parted(x))

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the pooled fit."""
        del state, weights
        fit = finish(contributions)
        return {"mean": fit.mean, "slope": fit.slope, "centre": fit.centre, "deviation": fit.deviation}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, or that no patients can have."""
        del state
        check(contribution, features=len(self.changed), covariates=len(self.kept))

    def own(self, state: State, x: np.ndarray) -> State:
        """Return the site's location and scale of each column, from at least two records."""
        effect = site_effect(_fit_of(state), *self._parted(x), shrink=self.shrink)
        return {"location": effect.location, "scale": effect.scale}

    def seen(self, state: State, own: State, x: np.ndarray) -> np.ndarray:
        """Return the rows without the site's effect, covariates as they are."""
        out = np.array(x, np.float64)
        out[:, self.changed] = harmonised(_fit_of(state), SiteEffect(own["location"], own["scale"]), *self._parted(x))
        return out

    def _parted(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.asarray(x, np.float64).reshape(len(x), len(self.columns))
        return rows[:, self.changed], rows[:, self.kept]


def _fit_of(state: State) -> CombatFit:
    return CombatFit(state["mean"], state["slope"], state["centre"], state["deviation"])


def combat(columns: tuple[str, ...], *, covariates: tuple[str, ...] = (), shrink: bool = True) -> Combat:
    """Take effects of location and scale of each site off the columns, keeping what the covariates explain; one round.

    A hospital that was not in the federation applies the same fit with its own location and scale, from patients of its own.

    Parameters
    ----------
    columns : tuple of str
        Of the table.
    covariates : tuple of str
        Columns whose effect on the others stays, such as ``age`` and ``male``; they are not changed themselves. Sites that differ in what
        is not named here (the diagnosis, too) lose that difference with their effect.
    shrink : bool
        Draw each site's effects towards their mean over the columns (empirical Bayes).

    Raises
    ------
    BadChoice
        A covariate that is no column, or nothing left to harmonise.

    Examples
    --------
    >>> rng, fit = np.random.default_rng(0), combat(("a", "b", "c", "d"))
    >>> sites = [rng.normal(5, 1, (200, 4)), rng.normal(9, 3, (200, 4))]
    >>> state = fit.combine({}, [fit.contribution({}, x, np.zeros(200, int), seed=0) for x in sites], [])
    >>> one, other = (fit.seen(state, fit.own(state, x), x) for x in sites)
    >>> bool(abs(one.mean() - other.mean()) < 0.1 and abs(one.std() / other.std() - 1) < 0.05)
    True
    """
    return Combat(columns, tuple(covariates), shrink)


SPEC = StatisticSpec(
    combat,
    takes="table",
    rounds=1,
    source="Johnson, Li & Rabinovic, Biostatistics 2007; Fortin et al., NeuroImage 2018; over sites Chen et al., NeuroImage 2022",
)
