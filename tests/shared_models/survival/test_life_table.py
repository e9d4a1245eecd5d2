"""Life tables and their curves: golden values, lifelines, sums over sites, a slow obvious way."""

import lifelines
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.core.errors import BadInput
from shared_models.survival.life_table import aalen_johansen, kaplan_meier, life_table, suppressed

GOLDEN = ([1, 2, 3, 4, 5, 6], [1, 1, 0, 1, 0, 1])
PATIENTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=40)


def test_the_golden_curve():
    curve = kaplan_meier(life_table(*GOLDEN))
    assert [curve.at(t) for t in (0.5, 1, 2, 4, 6)] == pytest.approx([1, 5 / 6, 4 / 6, 4 / 9, 0], abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(PATIENTS)
def test_kaplan_meier_is_the_product_it_is_defined_as(patients):
    times, causes = [t for t, _ in patients], [min(c, 1) for _, c in patients]
    curve = kaplan_meier(life_table(times, causes))
    for horizon in range(14):
        slow = 1.0
        for t in sorted({t for t, c in zip(times, causes, strict=True) if c and t <= horizon}):
            slow *= 1 - sum(x == t and c for x, c in zip(times, causes, strict=True)) / sum(x >= t for x in times)
        assert curve.at(horizon) == pytest.approx(slow, abs=1e-12)
    assert (curve.low <= curve.values + 1e-12).all() and (curve.values <= curve.high + 1e-12).all()


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(3)
    return np.round(rng.exponential(4, 200), 1) + 0.1, rng.integers(0, 3, 200)


def test_kaplan_meier_equals_lifelines(cohort):
    times, causes = cohort
    fit = lifelines.KaplanMeierFitter().fit(times, causes > 0)
    curve = kaplan_meier(life_table(times, (causes > 0).astype(int)))
    assert fit.survival_function_.iloc[1:, 0].to_numpy() == pytest.approx(curve.values, abs=1e-12)
    limits = fit.confidence_interval_.iloc[1:].to_numpy()
    assert limits[:-1, 0] == pytest.approx(curve.low[:-1], abs=1e-9) and limits[:-1, 1] == pytest.approx(curve.high[:-1], abs=1e-9)


def test_aalen_johansen_equals_lifelines_and_adds_to_one(cohort):
    times, causes = cohort
    distinct = times + np.arange(len(times)) * 1e-6  # lifelines shakes ties at random
    table = life_table(distinct, causes, kinds=2)
    fit = lifelines.AalenJohansenFitter(calculate_variance=True).fit(distinct, causes, event_of_interest=1)
    curve = aalen_johansen(table, 1)
    known = fit.cumulative_density_.iloc[:, 0]
    assert [curve.at(t) for t in known.index] == pytest.approx(known.to_list(), abs=1e-9)
    limits = fit.confidence_interval_
    assert [curve.low[np.searchsorted(curve.times, t)] for t in limits.index[5:150]] == pytest.approx(limits.iloc[5:150, 0].to_list(), abs=2e-3)
    total = aalen_johansen(table, 1).values + aalen_johansen(table, 2).values + kaplan_meier(table).values
    assert total == pytest.approx(np.ones(len(total)), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(PATIENTS, PATIENTS)
def test_tables_of_two_sites_add_up_to_that_of_all(one, two):
    grid = [2.0, 4.0, 6.5, 12.0]
    tables = [life_table([t for t, _ in site], [c for _, c in site], grid=grid, kinds=2) for site in (one, two, one + two)]
    total = tables[0] + tables[1]
    assert np.array_equal(total.at_risk, tables[2].at_risk) and np.array_equal(total.events, tables[2].events)


def test_a_grid_of_all_times_changes_nothing_and_a_coarse_one_agrees_at_its_ends():
    rng = np.random.default_rng(0)
    times, causes = rng.integers(1, 9, 80).astype(float), rng.integers(0, 2, 80)
    exact = kaplan_meier(life_table(times, causes))
    assert np.array_equal(kaplan_meier(life_table(times, causes, grid=np.unique(times))).values, exact.values)
    all_die = kaplan_meier(life_table(times, np.ones(80, int), grid=[3.0, 8.0]))
    assert all_die.at(3) == pytest.approx(np.mean(times > 3), abs=1e-12)


def test_what_cannot_be_is_refused():
    for times, causes, how in (([-1], [0], {}), ([1], [2], {}), ([1, 2], [0], {}), ([1], [0], {"grid": [2, 1]}), ([float("nan")], [0], {})):
        with pytest.raises(BadInput):
            life_table(times, causes, **how)
    with pytest.raises(BadInput, match="same times"):
        life_table([1], [1]) + life_table([2], [1])


def test_a_released_table_ends_before_few_are_at_risk():
    table = suppressed(life_table(*GOLDEN), 3)
    assert table.at_risk.min() >= 3 and table.times.tolist() == [1, 2, 3, 4]
    assert len(suppressed(life_table(*GOLDEN), 7).times) == 0 and kaplan_meier(suppressed(life_table(*GOLDEN), 7)).at(3) == 1
