"""What is planted is found: the hazard ratio, nothing where there is nothing, risks under censoring, and what a site's bias does to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.site_bias import HAZARDS, TRUTH, both, fitted, ratio_of
from shared_models.classical.cox import cox, hazard_table
from shared_models.classical.random_survival_forest import random_survival_forest
from shared_models.classical.survival_boosting import survival_boosting
from shared_models.core.arrays import State
from shared_models.metrics.horizons import auc_at
from shared_models.survival.horizon import ALIVE, EVENT, horizon_labels
from shared_models.survival.life_table import aalen_johansen, kaplan_meier, life_table
from sim.phantom.cohort import PlantedCohort, draw_cohort

YEARS = tuple(0.5 * number for number in range(1, 11))


def test_the_planted_ratio_lies_in_the_interval() -> None:
    ratio, low, high = ratio_of(fitted(draw_cohort(300, 1).sites()))
    assert low <= TRUTH <= high and abs(np.log(ratio / TRUTH)) < 0.15
    found = [ratio_of(fitted(draw_cohort(300, seed).sites(), 6)) for seed in range(2, 14)]
    assert sum(low <= TRUTH <= high for _, low, high in found) >= 9  # 11.4 of 12 by definition, 8 or fewer once in 3000
    assert abs(np.mean([np.log(ratio / TRUTH) for ratio, _, _ in found])) < 0.07  # three standard errors of 0.076 / sqrt(12)


def test_of_cohorts_without_an_effect_one_in_twenty_is_significant() -> None:
    p_below, repetitions = 0, 100
    for seed in range(repetitions):
        cohort = draw_cohort(60, seed, hazard_ratio=1.0, sites=1)
        model, state = cox(1, 2), cox(1, 2).start(seed=0)
        x, y = cohort.columns[:, :1], np.column_stack([cohort.outcomes[:, 0], cohort.outcomes[:, 1], np.zeros(60)])
        for _ in range(4):
            state = model.combine(state, [model.contribution(state, x, y, seed=0)], [1.0])
        p_below += int(abs(hazard_table(state)["z"][0]) > 1.959964)
    assert 0 <= p_below <= 12  # 5 by chance; more than 12 once in 1000


@pytest.fixture(scope="module")
def cohort() -> PlantedCohort:
    return draw_cohort(4000, 3)


def test_the_risk_at_five_years_is_the_planted_one_and_the_short_cuts_are_not(cohort: PlantedCohort) -> None:
    truth = cohort.risks((1, 3, 5)).mean(0)
    grid = [life_table(y[:, 0], y[:, 1].astype(int), grid=YEARS) for _, y in cohort.sites()]
    curve = kaplan_meier(grid[0] + grid[1] + grid[2] + grid[3])  # summed tables of half years
    np.testing.assert_allclose([1 - curve.at(t) for t in (1, 3, 5)], truth, atol=0.03)
    labels = horizon_labels(cohort.outcomes[:, 0], cohort.outcomes[:, 1], 5)
    naive, excluding = (labels == EVENT).mean(), (labels == EVENT).sum() / ((labels == EVENT) | (labels == ALIVE)).sum()
    assert truth[2] - naive > 0.08 and excluding - truth[2] > 0.08


def test_where_another_cause_ends_the_waiting_incidence_is_that_of_both_laws() -> None:
    cohort, rate = draw_cohort(4000, 4, transplants_a_year=0.1), 0.1
    tables = [
        life_table(part[:, 0], part[:, 1].astype(int), grid=np.arange(0.25, 7.1, 0.25), kinds=2)
        for part in (cohort.outcomes[cohort.outcomes[:, 2] == site] for site in range(4))
    ]
    total = tables[0] + tables[1] + tables[2] + tables[3]
    steps = np.linspace(0, 5, 2001)
    alive = (1 - cohort.risks(steps.tolist())) * np.exp(-rate * steps)
    transplanted = np.trapezoid(rate * alive.mean(0), steps)
    assert aalen_johansen(total, 2).at(5) == pytest.approx(transplanted, abs=0.03)
    assert aalen_johansen(total, 1).at(5) == pytest.approx(1 - alive.mean(0)[-1] - transplanted, abs=0.03)
    death_alone = life_table(cohort.outcomes[:, 0], (cohort.outcomes[:, 1] == 1).astype(int))
    assert 1 - kaplan_meier(death_alone).at(5) - aalen_johansen(total, 1).at(5) > 0.05  # taken for lost, the transplanted would die later


def boosted(cohort: PlantedCohort, **knobs: int) -> tuple[object, State]:
    model = survival_boosting(3, 2, times=YEARS, **{"trees": 8, "depth": 2, "min_leaf": 40, **knobs})
    state = model.start(seed=0)
    for _ in range(2 + model.trees * model.depth):
        state = model.combine(state, [model.contribution(state, x, y, seed=0) for x, y in cohort.sites()], [1.0] * 4)
    return model, state


def test_three_hundred_patients_order_others_nearly_as_well_as_the_truth(cohort: PlantedCohort) -> None:
    planted = draw_cohort(300, 5)
    outcomes = np.column_stack([cohort.outcomes[:, :2], np.zeros(4000)])
    oracle, ours = (
        auc_at(outcomes[:1500], score[:1500], np.ones((1, 1500)), horizon=3)[0]
        for score in (cohort.log_hazard, cox(3, 2).predict(fitted(planted.sites()), cohort.columns)[:, 0])
    )
    assert 0.68 < oracle < 0.82 and oracle - ours <= 0.03
    model, state = boosted(draw_cohort(1200, 6))
    stated = model.risks(state, cohort.columns, (1.0, 3.0, 5.0))  # type: ignore[attr-defined]
    np.testing.assert_allclose(stated.mean(0), cohort.risks((1, 3, 5)).mean(0), atol=0.04)  # of 1,200: 0.015 is one standard error
    assert oracle - auc_at(outcomes[:1500], stated[:1500, 1], np.ones((1, 1500)), horizon=3)[0] <= 0.04


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(12, 80))
def test_risks_never_fall_with_time(seed: int, patients: int) -> None:
    cohort = draw_cohort(patients, seed)
    model, state = boosted(cohort, trees=2, min_leaf=1)
    forest = random_survival_forest(3, 2, times=YEARS, trees=2, min_leaf=2)
    x, y = cohort.sites()[0]
    for risks in (model.risks(state, cohort.columns, (1, 3, 5)), forest.risks(forest.contribution({}, x, y, seed=seed), cohort.columns, (1, 3, 5))):  # type: ignore[attr-defined]
        assert (np.diff(risks, axis=1) >= 0).all() and ((risks >= 0) & (risks <= 1)).all()


def test_a_bias_of_some_sites_is_taken_up_by_their_strata_alone() -> None:
    found = both(2400, 1, HAZARDS["unconfounded"])
    assert found["stratified"][1] <= TRUTH <= found["stratified"][2]
    assert found["unstratified"][2] < TRUTH
