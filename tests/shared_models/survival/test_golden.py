"""Golden values of the annex of formulas that follow from nobody being lost: decision curve and Brier score of six cases at a horizon."""

import numpy as np
import pytest

from shared_models.metrics.horizons import auc_at, brier_at, net_benefit_at, uno_rows

TRUTH = np.array([0, 0, 1, 1, 1, 0])
RISKS = np.array([0.1, 0.4, 0.35, 0.8, 0.4, 0.2])
OUTCOMES = np.column_stack([np.where(TRUTH, 1.0, 3.0), TRUTH, np.zeros(6)])


def test_six_cases_of_whom_nobody_is_lost():
    assert net_benefit_at(OUTCOMES, RISKS, horizon=2, thresholds=np.array([0.3]))[0] == pytest.approx(3 / 7, abs=1e-12)
    assert net_benefit_at(OUTCOMES, np.ones(6), horizon=2, thresholds=np.array([0.3]))[0] == pytest.approx(2 / 7, abs=1e-12)
    assert auc_at(OUTCOMES, RISKS, np.ones((1, 6)), horizon=2)[0] == pytest.approx(5 / 6, abs=1e-12)
    assert brier_at(OUTCOMES, RISKS, np.ones((1, 6)), horizon=2)[0] == pytest.approx(0.1720833333, abs=1e-9)


def test_uno_without_loss_is_harrell():
    times, risks = np.arange(1.0, 7), np.array([1, 0.2, 0.8, 1.1, 0.1, 0.5])
    outcomes = np.column_stack([times, np.ones(6), np.zeros(6)])
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    assert uno_rows(outcomes, risks, np.ones((1, 6)), horizon=9)[0] == pytest.approx(np.mean([risks[i] > risks[j] for i, j in pairs]), abs=1e-12)
