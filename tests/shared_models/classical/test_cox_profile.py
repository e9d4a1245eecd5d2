"""Profile-likelihood intervals: those of the likelihood searched end by end, over any spread of sites; golden values; ends that nobody can find."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

from shared_models.blocks.partial_likelihood import Ties, partial_likelihood
from shared_models.blocks.profile_ends import DROP
from shared_models.classical.cox import Cox, cox, hazard_table
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.metrics.survival import harrell_rows
from shared_models.secure_sum.fixed_point import decode_exact, encode_exact
from shared_models.survival.profile import profile_table
from tests.shared_models.classical.test_cox import by_site, patients

GOLDEN_X = np.array([[1.0], [0.2], [0.8], [1.1], [0.1], [0.5]])
GOLDEN_Y = np.column_stack([[1.0, 2, 3, 4, 5, 6], [1.0, 1, 0, 1, 0, 1], np.zeros(6)])


def fitted(model: Cox, sites: list[tuple[np.ndarray, np.ndarray]], rounds: int = 14, *, masked: bool = False, gap: int | None = None) -> State:
    state = model.start(seed=0)
    for number in range(rounds):
        sums = [model.contribution(state, x, y, seed=0) for x, y in sites[(number == gap) :]]
        if masked:
            words = {key: sum(encode_exact(part[key], sites=len(sums)) for part in sums) for key in sums[0]}
            sums = [{key: decode_exact(np.asarray(value), sites=len(sites)) for key, value in words.items()}]
        for part in sums:
            model.check(part, state)
        state = model.combine(state, sums, [1.0] * len(sums))
    return state


def searched(x: np.ndarray, y: np.ndarray, ties: Ties) -> tuple[np.ndarray, np.ndarray]:
    """The definition: with one coefficient held, the others are free; the ends are where twice the drop is the quantile."""

    def less(b: np.ndarray) -> tuple[float, np.ndarray]:
        strata = [(x[y[:, 2] == s], y[y[:, 2] == s]) for s in np.unique(y[:, 2])]
        parts = [partial_likelihood(rows, outcome[:, 0], outcome[:, 1], b, ties=ties) for rows, outcome in strata]
        return -sum(part[0] for part in parts), -np.sum([part[1] for part in parts], axis=0)

    best = minimize(less, np.zeros(x.shape[1]), jac=True, tol=1e-8)

    def drop(own: int) -> Callable[[float], float]:
        free = np.arange(x.shape[1]) != own

        def at(value: float) -> float:
            def rest(b: np.ndarray) -> tuple[float, np.ndarray]:
                found, slope = less(np.insert(b, own, value))
                return found, slope[free]

            held = minimize(rest, best.x[free], jac=True, tol=1e-8).fun if free.any() else rest(np.zeros(0))[0]
            return float(held - best.fun - DROP)

        return at

    far = 6.0 if x.shape[1] > 1 else 15.0
    ends = [[brentq(drop(own), start, start + side * far, xtol=1e-6) for own, start in enumerate(best.x)] for side in (-1, 1)]
    return np.array(ends[0]), np.array(ends[1])


def test_the_ends_are_those_of_the_definition_in_clear_and_through_the_secure_sum() -> None:
    ties: Ties = "breslow"  # Efron's are the golden ones
    x, y = patients(3, 30, columns=2)
    low, high = searched((x - x.mean(0)) / x.std(0), y, ties)
    for masked in (False, True):
        state = fitted(cox(2, 2, ties=ties, profile=True), by_site(x, y), masked=masked)
        found = profile_table(state)
        np.testing.assert_allclose(found["low"] * x.std(0), low, atol=2e-5)
        np.testing.assert_allclose(found["high"] * x.std(0), high, atol=2e-5)
    plain = fitted(cox(2, 2, ties=ties), by_site(x, y))
    np.testing.assert_allclose(state["coefficients"], plain["coefficients"], atol=1e-10)
    assert np.isnan(profile_table(plain)["low"]).all()


def test_golden_values() -> None:
    """Harrell's C, coefficient, standard error of the annex of formulas; the interval is skewed where Wald's is not."""
    state = fitted(cox(1, 2, profile=True), [(GOLDEN_X, GOLDEN_Y)], 16)
    table, ends = hazard_table(state), profile_table(state)
    assert harrell_rows(GOLDEN_Y, GOLDEN_X[:, 0], np.ones((1, 6)))[0] == pytest.approx(7 / 11, abs=1e-15)
    assert (table["coefficient"][0], table["standard_error"][0]) == pytest.approx((1.315238, 1.585325), abs=1e-6)
    low, high = searched(GOLDEN_X, GOLDEN_Y, "efron")
    assert (ends["low"][0], ends["high"][0]) == pytest.approx((low[0], high[0]), abs=1e-5)


def test_an_end_that_nobody_can_find_is_none() -> None:
    x, y = np.arange(6.0)[:, None], np.column_stack([6 - np.arange(6.0), np.ones(6), np.zeros(6)])
    assert np.isnan(profile_table(fitted(cox(1, 2, profile=True), [(x, y)], 20))["high"]).all()  # the larger, the likelier
    x, y = patients(6, 60, columns=2)
    x[:, 1] = 7.0
    found = profile_table(fitted(cox(2, 2, profile=True), by_site(x, y)))
    assert np.isfinite([found["low"][0], found["high"][0]]).all() and np.isnan([found["low"][1], found["high"][1]]).all()
    few = profile_table(fitted(cox(2, 2, profile=True), by_site(x, y), 7))
    assert np.isnan(few["low"]).all()  # no rounds were left


def test_a_round_without_a_site_moves_no_end() -> None:
    x, y = patients(3, 45, columns=2)
    model, sites = cox(2, 2, profile=True), by_site(x, y)
    with_gap, without = fitted(model, sites, 15, gap=9), fitted(model, sites, 14)
    for key in without:
        np.testing.assert_allclose(with_gap[key], without[key], rtol=1e-12)


def test_sums_at_the_ends_that_no_patients_can_have() -> None:
    x, y = patients(10, 40, columns=2)
    model = cox(2, 2, profile=True)
    state = fitted(model, [(x, y)], 10)
    good = model.contribution(state, x, y, seed=0)
    assert state["ready"][0] == 3 and good["bends"].shape == (4, 2, 2)
    for wrong in ({"values": good["values"] + 1e6}, {"bends": -good["bends"]}, {"slopes": good["slopes"] * np.nan}, {"n": -good["n"]}):
        with pytest.raises(BadState):
            model.check(good | wrong, state)
