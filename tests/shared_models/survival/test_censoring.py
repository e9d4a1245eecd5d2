"""Who is followed how long: against lifelines, from patients and from summed tables; weights that stand for those who left."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter

from shared_models.core.errors import BadChoice, BadState
from shared_models.survival.censoring import check_reach, staying_in, staying_of
from shared_models.survival.event_weights import factors_of, horizon_counts, horizon_counts_in, interval_counts, interval_counts_in
from shared_models.survival.horizon import UNKNOWN, censoring_weights, horizon_weights
from shared_models.survival.life_table import LifeTable, life_table
from sim.phantom.cohort import draw_cohort

GRID = tuple(0.5 * number for number in range(1, 13))


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    outcomes = draw_cohort(count, seed).outcomes
    return outcomes[:, 0], outcomes[:, 1]


def test_leaving_is_as_lifelines_has_it() -> None:
    times, events = drawn(200, 0)
    theirs = KaplanMeierFitter().fit(times, events == 0)
    np.testing.assert_allclose(staying_of(times, events).at(np.array([1.0, 3.0, 5.0])), theirs.predict([1.0, 3.0, 5.0]).to_numpy(), rtol=1e-9)


def test_a_table_of_half_years_tells_nearly_the_same_and_only_so_far() -> None:
    times, events = drawn(3000, 1)
    when = np.linspace(0.1, 5.4, 40)
    np.testing.assert_allclose(staying_in(life_table(times, events.astype(int), grid=GRID)).at(when), staying_of(times, events).at(when), atol=0.015)
    short = staying_in(life_table(times, events.astype(int), grid=GRID[:10]))  # ends at 5: who left in the last half year is not told
    check_reach(short, [1.0, 3.0])
    with pytest.raises(BadState, match=r"4\.5 of 5"):
        check_reach(short, [1.0, 3.0, 5.0])
    with pytest.raises(BadState, match="0 of 5"):
        check_reach(staying_in(LifeTable(np.zeros(0), np.zeros(0), np.zeros((1, 0)))), [5.0])


@given(st.integers(0, 1000), st.integers(5, 60))
def test_weights_are_those_of_the_metrics_and_stand_for_everybody(seed: int, count: int) -> None:
    times, events = drawn(count, seed)
    curve = staying_of(times, events)
    labels, weights = horizon_weights(times, events, (1.0, 3.0), curve)
    for place, horizon in enumerate((1.0, 3.0)):
        reached = curve.at(np.array([horizon]))[0] > 0
        np.testing.assert_allclose(weights[:, place], censoring_weights(times, events, horizon) if reached else np.zeros(count))
    assert (weights[labels == UNKNOWN] == 0).all()
    assert curve.at(np.array([3.0]))[0] == 0 or weights[:, 1].sum() == pytest.approx(count)  # those who are known stand for those who are not


def test_a_horizon_that_nobody_reaches_teaches_nothing() -> None:
    times, events = np.array([0.5, 1.0, 2.0]), np.array([1.0, 1.0, 0.0])
    _, weights = horizon_weights(times, events, (1.0, 5.0), staying_of(times, events))
    assert (weights[:, 0] > 0).all() and not weights[:, 1].any()


def test_counts_of_a_table_are_those_of_its_patients() -> None:
    times, events = drawn(4000, 2)
    table, edges = life_table(times, events.astype(int), grid=GRID), GRID[:10]
    np.testing.assert_allclose(interval_counts_in(table, edges), interval_counts(times, events, edges), rtol=1e-9)
    curve = staying_of(times, events)
    # a table of half years counts those who leave inside one as at risk throughout: events by 1.9 to 3.2 % too few
    np.testing.assert_allclose(horizon_counts_in(table, (1.0, 3.0, 5.0)), horizon_counts(times, events, (1.0, 3.0, 5.0), curve), rtol=0.04)


def test_factors_leave_the_mean_and_know_their_words() -> None:
    counts = np.array([[90.0, 10.0], [10.0, 0.0]])
    for how in ("none", "balanced", "effective"):
        found = factors_of(counts, how)
        assert (found * counts)[:, 0].sum() == pytest.approx(100) and found[:, 1].tolist() == [1.0, 1.0]
    ratio = [float(np.divide(*factors_of(counts[:, 0], how)[::-1])) for how in ("none", "effective", "balanced")]
    assert ratio == pytest.approx([1.0, (1 - 0.99**90) / (1 - 0.99**10), 9.0])
    with pytest.raises(BadChoice, match="'none', 'balanced' or 'effective'"):
        factors_of(counts, "prior")
