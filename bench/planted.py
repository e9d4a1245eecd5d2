"""Whether what was planted in patients as tables is found: hazard ratio, nothing where nothing is, risks under censoring, order beside the truth.

python -m bench.planted [--repeats 200] [--smoke]

Simulated patients without images (`sim/phantom/cohort`), 300 at four hospitals: the figures say whether the software finds what was planted, and
nothing about patients. Judged are Cox's hazards (planted extents, federated, strata by hospital), the curve of Kaplan and Meier of summed tables of
half years, boosted hazards and the survival forest; order and risks on 1,500 patients whom no model has seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.site_bias import TRUTH, fitted, ratio_of
from bench.timing import heading, table
from shared_models.classical.cox import cox, hazard_table
from shared_models.classical.random_survival_forest import random_survival_forest
from shared_models.classical.survival_boosting import survival_boosting
from shared_models.metrics.horizons import auc_at
from shared_models.survival.horizon import ALIVE, EVENT, horizon_labels
from shared_models.survival.life_table import kaplan_meier, life_table
from sim.phantom.cohort import PlantedCohort, draw_cohort

PATIENTS, UNSEEN, HORIZONS = 300, 1500, (1.0, 3.0, 5.0)
HALF_YEARS = tuple(0.5 * number for number in range(1, 11))
SSC = {"shape": 0.575, "rate": 0.0889}
Z95 = 1.959963984540054
Figures = NDArray[np.float64]


def ratios(repeats: int) -> tuple[Figures, Figures]:
    """Return hazard ratios of 10 % of fibrosis (repeats, 3) with their 95 % intervals, and whether each holds the truth."""
    found = np.array([ratio_of(fitted(draw_cohort(PATIENTS, seed).sites())) for seed in range(repeats)])
    return found, (found[:, 1] <= TRUTH) & (found[:, 2] >= TRUTH)


def null_hits(repeats: int) -> Figures:
    """Return of cohorts in which fibrosis does nothing whether the fit calls it significant at 0.05."""
    drawn = (draw_cohort(PATIENTS, seed, hazard_ratio=1.0).sites() for seed in range(repeats))
    return np.array([abs(hazard_table(fitted(sites, 6))["z"][0]) > Z95 for sites in drawn])


def risks_at_five(repeats: int, law: dict[str, float]) -> dict[str, Figures]:
    """Return the error of the risk within 5 years by way of reckoning: the summed curve, the lost taken for alive, and the lost left out."""
    errors: dict[str, list[float]] = {"summed curve": [], "lost as alive": [], "lost left out": []}
    for seed in range(repeats):
        cohort = draw_cohort(PATIENTS, seed, **law)  # type: ignore[arg-type]
        truth, total = cohort.risks((5.0,)).mean(), None
        for _, outcomes in cohort.sites():
            one = life_table(outcomes[:, 0], outcomes[:, 1].astype(int), grid=HALF_YEARS)
            total = one if total is None else total + one
        labels = horizon_labels(cohort.outcomes[:, 0], cohort.outcomes[:, 1], 5.0)
        dead, alive = (labels == EVENT).sum(), (labels == ALIVE).sum()
        told = (1 - kaplan_meier(total).at(5.0), dead / PATIENTS, dead / (dead + alive))  # type: ignore[arg-type]
        for name, risk in zip(errors, told, strict=True):
            errors[name].append(float(risk - truth))
    return {name: np.array(each) for name, each in errors.items()}


def short_of_planted(repeats: int, law: dict[str, float]) -> Figures:
    """Return by how much AUC at 3 years of a Cox fit to 300 patients lies above that of the planted hazard (repeats,), on patients not seen."""
    found = []
    for seed in range(repeats):
        state, others = fitted(draw_cohort(PATIENTS, seed, **law).sites(), 6), draw_cohort(UNSEEN, 100_000 + seed, **law)  # type: ignore[arg-type]
        outcomes, once = np.column_stack([others.outcomes[:, :2], np.zeros(UNSEEN)]), np.ones((1, UNSEEN))
        scores = (cox(3, 2).predict(state, others.columns)[:, 0], others.log_hazard)
        ours, planted = (auc_at(outcomes, score, once, horizon=3.0)[0] for score in scores)
        found.append(ours - planted)
    return np.array(found)


def _boosted(cohort: PlantedCohort, others: PlantedCohort) -> Figures:
    model = survival_boosting(3, 2, times=HALF_YEARS, trees=8, depth=2, min_leaf=30)
    state = model.start(seed=0)
    for _ in range(2 + model.trees * model.depth):
        state = model.combine(state, [model.contribution(state, x, y, seed=0) for x, y in cohort.sites()], [1.0] * 4)
    return model.risks(state, others.columns, HORIZONS)


def _forest(cohort: PlantedCohort, others: PlantedCohort) -> Figures:
    model = random_survival_forest(3, 2, times=HALF_YEARS, trees=25, min_leaf=15)
    start = model.start(seed=0)
    parts = [model.contribution(start, x, y, seed=site) for site, (x, y) in enumerate(cohort.sites())]
    return model.risks(model.combine(start, parts, [1.0] * 4), others.columns, HORIZONS)


STATING: dict[str, Callable[[PlantedCohort, PlantedCohort], Figures]] = {"boosted hazards": _boosted, "survival forest": _forest}
"""Models that state risks: of a cohort to learn from and one to judge, risks (n, 3) of the other at 1, 3 and 5 years."""


def stated(model: Callable[[PlantedCohort, PlantedCohort], Figures], repeats: int) -> tuple[Figures, float]:
    """Return the mean error of stated risks within 5 years (repeats,), and the least rise of any patient's risk from horizon to horizon."""
    errors, least = [], np.inf
    for seed in range(repeats):
        others = draw_cohort(UNSEEN, 100_000 + seed)
        risks = model(draw_cohort(4 * PATIENTS, seed), others)
        errors.append(float((risks[:, 2] - others.risks((5.0,))[:, 0]).mean()))
        least = min(least, float(np.diff(risks, axis=1).min()))
    return np.array(errors), least


def share(hits: Any) -> str:
    """Return counts and a share with its 95 % interval (Clopper & Pearson, Biometrika 1934;26:404).

    Examples
    --------
    >>> share([True] * 19 + [False])
    '19 of 20: 0.950 (0.751 to 0.999)'
    """
    from scipy.stats import binomtest

    found = binomtest(int(np.sum(hits)), len(hits))
    interval = found.proportion_ci()
    return f"{found.k} of {found.n}: {found.statistic:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def spread(values: Figures) -> str:
    """Return the mean of repeats, and where 90 % of them lie.

    Examples
    --------
    >>> spread(np.array([-0.1, 0.0, 0.1]))
    '+0.000 (-0.090 to +0.090)'
    """
    return f"{values.mean():+.3f} ({np.quantile(values, 0.05):+.3f} to {np.quantile(values, 0.95):+.3f})"


def rows_of(repeats: int) -> list[list[str]]:
    """Return the table: what is asked, what was found over repeats, the bound."""
    found, held = ratios(repeats)
    curves = {name: risks_at_five(repeats, law) for name, law in {"": {}, " of systemic sclerosis": SSC}.items()}
    few = max(2, repeats // 20)
    out = [
        ["hazard ratio of 10 % of planted fibrosis, mean", f"{np.exp(np.log(found[:, 0]).mean()):.3f}", f"{TRUTH} planted"],
        ["its 95 % interval holds the planted one", share(held), "0.95"],
        ["nothing planted: significant at 0.05", share(null_hits(5 * repeats)), "0.05"],
        *([f"risk by 5 years, {what}{law}: error", spread(each), "0.03"] for law, by in curves.items() for what, each in by.items()),
        *([f"AUC at 3 minus planted, Cox{law}", spread(short_of_planted(repeats, knobs)), "-0.03"] for law, knobs in {"": {}, " (SSc)": SSC}.items()),
    ]
    for name, model in STATING.items():
        errors, least = stated(model, few)
        out += [[f"risk by 5 years, {name} of {4 * PATIENTS}: error", spread(errors), "0.03"]]
        out += [[f"least rise of a risk from horizon to horizon, {name}", f"{least:.3g}", "0 or more"]]
    return out


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=200)
    arguments.add_argument("--smoke", action="store_true", help="two repeats: shows only that everything runs")
    options = arguments.parse_args()
    repeats = 2 if options.smoke else options.repeats
    heading(f"planted truth in {PATIENTS} patients at 4 hospitals, {repeats} repeats (mean; 5 to 95 % of them)")
    table(["what", "found", "asked"], rows_of(repeats))


if __name__ == "__main__":
    main()
