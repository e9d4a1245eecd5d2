"""The log-rank test: that of a reference implementation, and of its own size where nothing was planted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from shared_models.core.errors import BadInput
from shared_models.metrics.log_rank import log_rank


def sample(seed: int, count: int, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of months (many ties), a third last seen, and a group whose hazard is `ratio` times that of the other."""
    rng = np.random.default_rng(seed)
    group = rng.random(count) < 0.4
    death, last = rng.exponential(12 / np.where(group, ratio, 1.0)), rng.uniform(2, 30, count)
    return np.column_stack([np.ceil(np.minimum(death, last)), death <= last, np.zeros(count)]), group


@pytest.mark.parametrize("seed", range(4))
def test_it_is_that_of_the_reference(seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lifelines.statistics import logrank_test
    outcomes, group = sample(seed, 80, 1.5)
    found = log_rank(outcomes, group)
    theirs = logrank_test(outcomes[group, 0], outcomes[~group, 0], outcomes[group, 1], outcomes[~group, 1])
    assert found["chi2"] == pytest.approx(theirs.test_statistic, rel=1e-9) and found["p"] == pytest.approx(theirs.p_value, rel=1e-6)


def test_strata_are_compared_within() -> None:
    one, group = sample(1, 60, 1.0)
    shifted = one.copy()
    shifted[:, 0] = shifted[:, 0] * 40
    shifted[:, 2] = 1
    whole = log_rank(np.concatenate([one, shifted]), np.concatenate([group, group]))
    alone = log_rank(one, group)
    assert whole["observed"] == 2 * (alone["observed"] or 0) and whole["expected"] == pytest.approx(2 * (alone["expected"] or 0))


def test_a_planted_hazard_is_found_and_none_is_not() -> None:
    p = {ratio: [log_rank(*sample(seed, 120, ratio))["p"] or 0.0 for seed in range(60)] for ratio in (1.0, 2.5)}
    assert np.mean(np.array(p[2.5]) < 0.01) > 0.8
    assert np.mean(np.array(p[1.0]) < 0.05) <= 0.15


def test_what_cannot_be_told() -> None:
    outcomes, group = sample(0, 20, 1.0)
    assert log_rank(outcomes, np.zeros(20, bool))["p"] is None
    assert log_rank(np.column_stack([outcomes[:, 0], np.zeros(20), np.zeros(20)]), group)["p"] is None
    with pytest.raises(BadInput):
        log_rank(outcomes, group[1:])
    with pytest.raises(BadInput):
        log_rank([[np.nan, 1, 0]], [True])
