"""Cox: the fit of lifelines over any spread of sites, both kinds of ties against their formula, and a Newton step that never runs away."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter

from shared_models.blocks.partial_likelihood import Ties, partial_likelihood
from shared_models.classical.cox import Cox, cox, hazard_table, proportionality
from shared_models.core.arrays import State
from shared_models.core.errors import BadState


def patients(seed: int, count: int, columns: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Columns of unlike sizes, times with ties, some patients last seen before their event, four strata."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (count, columns)) * [1, 40, 0.02][:columns] + [0, 500, 3][:columns]
    risk = ((x - x.mean(0)) / x.std(0)) @ np.array([0.8, -0.5, 0.3][:columns])
    time = np.ceil(8 * rng.exponential(np.exp(-risk)))
    return x, np.column_stack([time, rng.random(count) < 0.7, rng.integers(0, 4, count)]).astype(float)


def fitted(model: Cox, sites: list[tuple[np.ndarray, np.ndarray]], rounds: int = 9) -> State:
    state = model.start(seed=0)
    for _ in range(rounds):
        sums = [model.contribution(state, x, y, seed=0) for x, y in sites]
        for contribution in sums:
            model.check(contribution, state)
        state = model.combine(state, sums, [1.0] * len(sums))
    return state


def by_site(x: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each stratum a site of its own, which calls itself stratum 0."""
    return [(x[y[:, 2] == s], y[y[:, 2] == s] * [1, 1, 0]) for s in np.unique(y[:, 2])]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_coefficients_and_errors_are_those_of_lifelines(seed: int) -> None:
    x, y = patients(seed, 160)
    frame = pd.DataFrame(np.column_stack([x, y]), columns=["a", "b", "c", "time", "event", "site"])
    theirs = CoxPHFitter().fit(frame, "time", "event", strata=["site"], fit_options={"precision": 1e-12})
    for sites in (by_site(x, y), [(x, y)]):
        table = hazard_table(fitted(cox(3, 2), sites))
        np.testing.assert_allclose(table["coefficient"], theirs.params_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(table["standard_error"], theirs.standard_errors_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(table["z"], theirs.params_ / theirs.standard_errors_, rtol=1e-6)


def slow_likelihood(x: np.ndarray, times: np.ndarray, events: np.ndarray, b: np.ndarray, ties: Ties) -> float:
    """The formula, read aloud."""
    total = 0.0
    for time in sorted(set(times[events == 1])):
        at_risk = [i for i in range(len(times)) if times[i] >= time]
        dead = [i for i in range(len(times)) if times[i] == time and events[i] == 1]
        everyone, tied = sum(np.exp(x[i] @ b) for i in at_risk), sum(np.exp(x[i] @ b) for i in dead)
        for number, i in enumerate(dead):
            total += x[i] @ b - np.log(everyone - (number / len(dead) * tied if ties == "efron" else 0))
    return total


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 14))
def test_the_fast_way_is_the_slow_way_and_its_own_derivative(ties: Ties, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    x, times, events, b = rng.normal(0, 1, (count, 2)), rng.integers(1, 5, count).astype(float), rng.integers(0, 2, count), rng.normal(0, 1, 2)
    value, gradient, information = partial_likelihood(x, times, events, b, ties=ties)
    assert value == pytest.approx(slow_likelihood(x, times, events, b, ties), rel=1e-10, abs=1e-10)
    for axis, h in itertools.product(range(2), [1e-5]):
        step = h * np.eye(2)[axis]
        above, below = (slow_likelihood(x, times, events, b + s * step, ties) for s in (1, -1))
        assert gradient[axis] == pytest.approx((above - below) / (2 * h), abs=1e-5)
        slopes = [partial_likelihood(x, times, events, b + s * step, ties=ties)[1] for s in (1, -1)]
        np.testing.assert_allclose(-information[axis], (slopes[0] - slopes[1]) / (2 * h), atol=1e-5)


def with_clock(x: np.ndarray, y: np.ndarray, b: np.ndarray, gamma: np.ndarray) -> float:
    """Log partial likelihood where the coefficients are b + gamma t, read aloud (Breslow, strata)."""
    total = 0.0
    for stratum in set(y[:, 2]):
        for i in np.flatnonzero((y[:, 2] == stratum) & (y[:, 1] == 1)):
            at_risk = (y[:, 0] >= y[i, 0]) & (y[:, 2] == stratum)
            beta = b + gamma * y[i, 0]
            total += x[i] @ beta - np.log(np.exp(x[at_risk] @ beta).sum())
    return total


def test_the_check_of_proportionality_is_the_score_test_of_its_definition() -> None:
    x, y = patients(11, 70)
    y[:, 0] /= y[:, 0].max()
    state = fitted(cox(3, 2, ties="breslow"), by_site(x, y), 12)
    scaled = (x - state["mean"]) / state["scale"]
    b, h = state["best"], 1e-4

    def at(step: np.ndarray) -> float:
        return with_clock(scaled, y, b + step[:3], step[3:])

    unit = np.eye(6) * h
    slope = np.array([(at(u) - at(-u)) / (2 * h) for u in unit])
    bend = -np.array([[(at(u + v) - at(u - v) - at(v - u) + at(-u - v)) / (4 * h * h) for v in unit] for u in unit])
    spread = bend[3:, 3:] - bend[3:, :3] @ np.linalg.inv(bend[:3, :3]) @ bend[:3, 3:]
    found = proportionality(state)
    np.testing.assert_allclose(found["chi2"], slope[3:] ** 2 / np.diag(spread), rtol=1e-4)
    np.testing.assert_allclose(found["all_chi2"], slope[3:] @ np.linalg.solve(spread, slope[3:]), rtol=1e-4)


def test_a_ratio_that_fades_is_found_and_a_steady_one_is_not() -> None:
    found = {"fading": 0, "steady": 0}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 2, (400, 1)).astype(float)
        early = rng.exponential(np.exp(-1.5 * x[:, 0]))
        times = {"steady": early, "fading": np.where(early < 0.3, early, 0.3 + rng.exponential(1, 400))}
        for name, time in times.items():
            y = np.column_stack([time, np.ones(400), np.zeros(400)])
            found[name] += int(proportionality(fitted(cox(1, 2), [(x, y)], 7))["p"][0] < 0.05)
    assert found["fading"] >= 11
    assert found["steady"] <= 3  # 0.6 by chance; more than 3 of 12 twice in 1000


def test_a_column_that_says_nothing_has_no_check() -> None:
    x, y = patients(6, 100)
    x[:, 1] = 7.0
    found = proportionality(fitted(cox(3, 2), by_site(x, y)))
    assert np.isnan(found["p"][1]) and np.isfinite(found["p"][[0, 2]]).all() and np.isfinite(found["all_p"]).all()


def test_ties_count_in_two_ways_and_without_ties_in_one() -> None:
    x, y = patients(5, 120)
    assert not np.allclose(fitted(cox(3, 2), [(x, y)])["coefficients"], fitted(cox(3, 2, ties="breslow"), [(x, y)])["coefficients"], atol=1e-3)
    y[:, 0] = np.arange(120)
    np.testing.assert_allclose(fitted(cox(3, 2), [(x, y)])["coefficients"], fitted(cox(3, 2, ties="breslow"), [(x, y)])["coefficients"], atol=1e-12)


def test_a_column_that_says_nothing_stays_at_zero_with_an_endless_error() -> None:
    x, y = patients(6, 100)
    x[:, 1] = 7.0
    table = hazard_table(fitted(cox(3, 2), by_site(x, y)))
    assert table["coefficient"][1] == 0.0
    assert np.isinf(table["standard_error"][1])
    alone = hazard_table(fitted(cox(2, 2), by_site(x[:, [0, 2]], y)))
    np.testing.assert_allclose(table["coefficient"][[0, 2]], alone["coefficient"], rtol=1e-8)
    np.testing.assert_allclose(table["standard_error"][[0, 2]], alone["standard_error"], rtol=1e-8)


def test_columns_that_part_all_patients_run_away_slowly_and_stay_finite() -> None:
    x, y = np.arange(6.0)[:, None], np.column_stack([6 - np.arange(6.0), np.ones(6), np.zeros(6)])
    for rounds in (2, 10, 30):
        state = fitted(cox(1, 2), [(x, y)], rounds)
        assert all(np.isfinite(value).all() for value in state.values())
        assert state["coefficients"][0] > 0
    with_penalty = [fitted(cox(1, 2, ridge=0.5), [(x, y)], rounds)["coefficients"][0] for rounds in (15, 30)]
    assert with_penalty[0] == pytest.approx(with_penalty[1], rel=1e-9)


def test_a_step_too_far_is_halved_until_the_likelihood_grows() -> None:
    x, y = patients(7, 80)
    model = cox(3, 2)
    state = fitted(model, [(x, y)], 3)
    far = {**state, "coefficients": state["best"] + 40.0}
    seen = []
    for _ in range(14):
        far = model.combine(far, [model.contribution(far, x, y, seed=0)], [1.0])
        seen.append(float(far["likelihood"][0]))
    assert np.diff(seen).min() >= -1e-12 * abs(seen[-1])
    np.testing.assert_allclose(far["coefficients"], fitted(model, [(x, y)])["coefficients"], rtol=1e-6)


def test_rows_of_any_size_do_not_overflow() -> None:
    x, y = patients(8, 50)
    state = fitted(cox(3, 2), [(x, y)], 4)
    sums = cox(3, 2).contribution({**state, "coefficients": np.full(3, 300.0)}, x, y, seed=0)
    assert all(np.isfinite(value).all() for value in sums.values())


def test_a_site_without_events_and_a_site_of_one_patient_change_no_coefficient() -> None:
    x, y = patients(9, 60)
    quiet, lone = (x[:5], y[:5] * [1, 0, 0]), (x[5:6], np.array([[3.0, 1.0, 0.0]]))
    state = fitted(cox(3, 2), by_site(x, y), 2)
    for site in (quiet, lone):
        sums = cox(3, 2).contribution(state, *site, seed=0)
        assert not sums["gradient"].any()
        assert not sums["information"].any()


CASES: dict[str, Any] = {
    "a likelihood above one": lambda s: {**s, "likelihood": np.ones(1)},
    "no information at all": lambda s: {**s, "information": -s["information"]},
    "a lopsided information": lambda s: {**s, "information": np.triu(s["information"])},
    "a negative count": lambda s: {**s, "n": -s["n"]},
    "a gradient that is NaN": lambda s: {**s, "gradient": s["gradient"] * np.nan},
    "a column too many": lambda s: {**s, "gradient": np.zeros(4)},
}


@pytest.mark.parametrize("name", CASES)
def test_sums_that_no_patients_can_have(name: str) -> None:
    x, y = patients(10, 40)
    model = cox(3, 2)
    state = fitted(model, [(x, y)], 2)
    good = model.contribution(state, x, y, seed=0)
    model.check(good, state)
    with pytest.raises(BadState):
        model.check(CASES[name](good), state)
