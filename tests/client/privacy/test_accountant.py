"""Epsilon: Opacus' own, whatever the order and grouping of the steps; a history is JSON."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from client.privacy.accountant import MOST_PRV, epsilon, from_json, merged, to_json
from shared_models.core.errors import BadInput

RANDOM = np.random.default_rng(0)
CASES = [(round(float(RANDOM.uniform(0.6, 6)), 3), round(float(RANDOM.uniform(0.005, 0.5)), 4), int(RANDOM.integers(1, 400))) for _ in range(20)]


def by_opacus(mechanism: str, steps: list[tuple[float, float, int]], delta: float) -> float:
    from opacus.accountants import PRVAccountant, RDPAccountant

    accountant = {"rdp": RDPAccountant, "prv": PRVAccountant}[mechanism]()
    for sigma, q, count in steps:
        for _ in range(count):
            accountant.step(noise_multiplier=sigma, sample_rate=q)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize(("sigma", "q", "steps"), CASES)
def test_equals_opacus_over_the_flattened_steps(sigma: float, q: float, steps: int) -> None:
    split = [(sigma, q, steps // 3), (sigma, q, steps - steps // 3)]  # as two rounds
    assert epsilon(split, 1e-5) == by_opacus("rdp", [(sigma, q, steps)], 1e-5)  # to the bit


@pytest.mark.parametrize("start", (0, 10))
def test_equals_opacus_over_runs_of_different_noise(start: int) -> None:
    runs = CASES[start : start + 5]
    assert epsilon(runs[::-1], 1e-6) == pytest.approx(by_opacus("rdp", runs, 1e-6), abs=1e-6)


def test_the_numerical_accountant_is_opacus_and_tighter() -> None:
    history = [(1.1, 0.02, 300), (2.0, 0.05, 50)]
    assert epsilon(history, 1e-5, accountant="prv") == pytest.approx(by_opacus("prv", history, 1e-5), abs=1e-6)
    assert epsilon(history, 1e-5, accountant="prv") < epsilon(history, 1e-5)


def test_where_the_numerical_accountant_gives_no_answer() -> None:
    assert epsilon([(0.3, 0.9, 2000)], 1e-5) > MOST_PRV
    assert math.isnan(epsilon([(0.3, 0.9, 2000)], 1e-5, accountant="prv"))


def test_nothing_spent() -> None:
    assert epsilon([], 1e-5) == epsilon([(1.0, 0.1, 0)], 1e-5, accountant="prv") == 0


def test_json_and_back() -> None:
    history = CASES[:7]
    assert from_json(to_json(history)) == merged(history)
    for text in ("", "{}", "[[1,2]]", '[["a",0.1,1]]', "[[1.0,0.1,1.5]]", "[[0,0.1,1]]", "[[1,1.1,1]]", "[[NaN,0.1,1]]", "3"):
        with pytest.raises(BadInput) as refused:
            from_json(text)
        assert refused.value.code == "E_SPEND"


@pytest.mark.parametrize("delta", [0, 1, -1, math.nan])
def test_no_delta(delta: float) -> None:
    with pytest.raises(BadInput):
        epsilon([(1.0, 0.1, 1)], delta)
