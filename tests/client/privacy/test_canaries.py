"""The audit can fail: it passes the trainers as they are and catches each seeded bug. `make audit` does the same at full size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from client.privacy.canaries import Sighting, auc, epsilon_lower_bound, expected_auc, judge
from client.privacy.spending import Spend
from client.training import PRIVATE_FITTERS
from client.training.canaries import CANARIES
from tests.client.privacy.mutants import MUTANTS, SEEDED

CANARY_COUNT, SEEDS = 500, (0, 1, 2)


def test_every_trainer_that_claims_privacy_is_audited() -> None:
    assert set(CANARIES) == set(PRIVATE_FITTERS)
    assert len(MUTANTS) == 5


@pytest.mark.parametrize("trainer", CANARIES)
def test_the_trainers_do_what_they_say(trainer: str) -> None:
    verdict = judge([CANARIES[trainer](CANARY_COUNT, seed=seed) for seed in SEEDS])
    assert verdict.faults() == []
    assert 0.6 < verdict.expected_auc < 0.85  # neither hidden nor plain: a mistake would show


@pytest.mark.parametrize(("trainer", "bug"), SEEDED)
def test_a_seeded_bug_is_caught(trainer: str, bug: str) -> None:
    with MUTANTS[bug]() as book:
        sightings = []
        for seed in SEEDS:
            book.clear()
            sightings.append(CANARIES[trainer](CANARY_COUNT, seed=seed, book=book))
    assert judge(sightings).faults() != []


def test_the_expected_auc_is_that_of_a_simulation() -> None:
    rng = np.random.default_rng(0)
    sigma, q, steps, n = 1.1, 0.3, 20, 20_000
    noise = rng.normal(0, sigma * math.sqrt(steps), (2, n))
    assert auc(rng.binomial(steps, q, n) + noise[0], noise[1]) == pytest.approx(expected_auc(sigma, q, steps), abs=0.01)


@pytest.mark.parametrize("eps", [0.5, 1.0, 2.0])
def test_the_bound_holds_for_randomised_response_and_is_not_far_below(eps: float) -> None:
    rng = np.random.default_rng(1)
    bounds = [epsilon_lower_bound(1000, 1000, int(rng.binomial(1000, 1 / (1 + math.exp(-eps)))), 1e-6) for _ in range(60)]
    assert np.mean(np.array(bounds) > eps) <= 0.12  # 5 % are meant to be
    assert np.median(bounds) > 0.6 * eps


def test_the_bound_is_never_certain_of_nothing() -> None:
    assert epsilon_lower_bound(100, 0, 0, 1e-5) == 0.0
    assert epsilon_lower_bound(1000, 1000, 1000, 1e-5) > 4
    assert epsilon_lower_bound(1000, 1000, 1000, 0.01) < 1  # a delta of one in a hundred may give canaries away without epsilon's help


def test_each_fault_is_named() -> None:
    rng = np.random.default_rng(0)
    present = rng.random(2000) < 0.5
    spend = Spend(2.0, 1.0, 1, 1000, "patient", 1.0, 1e-5, "")
    given_away = Sighting(10.0 * present + rng.normal(0, 1, 2000), present, rng.normal(0, 1, 2000), (spend,))
    words = " ".join(judge([given_away]).faults())
    assert "AUC 1.000" in words
    assert "epsilon is at least" in words
    assert "the noise is 0.49" in words
