"""What is known at a horizon; weights for those who left; hazards by interval; metrics at horizons, each against its definition."""

import itertools

import numpy as np
import pytest
import torch

from shared_models.core.errors import BadInput
from shared_models.metrics.horizons import auc_at, brier_at, calibration_at, integrated_brier, net_benefit_at, uno_rows
from shared_models.metrics.spec import ones
from shared_models.metrics.survival import harrell_rows
from shared_models.survival.hazards import hazard_loss, interval_of, risks_at
from shared_models.survival.horizon import censoring_weights, horizon_labels, risk_by
from shared_models.survival.life_table import kaplan_meier, life_table


@pytest.fixture(scope="module")
def planted():
    """Weibull times by risk, uniform censoring over 0.3 to 7 years: the truth at 5 years is known."""
    rng = np.random.default_rng(11)
    n = 6000
    eta = rng.normal(0, 0.8, n)
    true = (-np.log(rng.random(n)) / (0.09 * np.exp(eta))) ** (1 / 1.2)
    left = rng.uniform(0.3, 7, n)
    outcomes = np.stack([np.minimum(true, left), (true <= left).astype(float), np.zeros(n)], 1)
    return outcomes, true, 1 - np.exp(-0.09 * np.exp(eta) * 5**1.2)


def test_the_unknown_is_no_zero(planted):
    outcomes, true, _ = planted
    labels = horizon_labels(outcomes[:, 0], outcomes[:, 1], 5)
    truth = (true <= 5).mean()
    naive, left_out = (labels == 1).mean(), (labels == 1).sum() / (labels != -1).sum()
    found = risk_by(outcomes[:, 0], outcomes[:, 1], 5)
    assert abs(found - truth) <= 0.03 and naive < truth - 0.05 and left_out > truth + 0.05


def test_weights_give_everybody_back(planted):
    outcomes, _, _ = planted
    weights = censoring_weights(outcomes[:, 0], outcomes[:, 1], 5)
    assert weights.sum() == pytest.approx(len(weights), rel=0.02)
    assert (weights[horizon_labels(outcomes[:, 0], outcomes[:, 1], 5) == -1] == 0).all()


def test_the_weighted_risk_is_that_of_kaplan_meier():
    rng = np.random.default_rng(5)
    times, events = rng.permutation(60) + 1.0, rng.integers(0, 2, 60).astype(float)
    for horizon in (10, 25.5, 40):
        weights = censoring_weights(times, events, horizon)
        share = (weights * (horizon_labels(times, events, horizon) == 1)).mean()
        assert share == pytest.approx(1 - kaplan_meier(life_table(times, events.astype(int))).at(horizon), abs=1e-12)


def small():
    rng = np.random.default_rng(2)
    outcomes = np.stack([rng.integers(1, 9, 40).astype(float), rng.integers(0, 2, 40).astype(float), np.zeros(40)], 1)
    return outcomes, np.round(rng.random(40), 1)


def test_auc_equals_its_double_sum():
    outcomes, risks = small()
    t, e = outcomes[:, 0], outcomes[:, 1]
    for horizon in (2, 4, 6):
        weights = censoring_weights(t, e, horizon)
        above = below = 0.0
        for i, j in itertools.product(range(40), range(40)):
            if t[i] <= horizon and e[i] == 1 and (t[j] > horizon or (t[j] == horizon and e[j] == 0)):
                above += weights[i] * (1.0 if risks[i] > risks[j] else 0.5 if risks[i] == risks[j] else 0.0)
                below += weights[i]
        assert auc_at(outcomes, risks, ones(40), horizon=horizon)[0] == pytest.approx(above / below, abs=1e-12)


def test_uno_equals_its_double_sum_and_harrell_without_censoring():
    outcomes, risks = small()
    t, e = outcomes[:, 0], outcomes[:, 1]
    weights = censoring_weights(t, e, np.inf)
    above = below = 0.0
    for i, j in itertools.product(range(40), range(40)):
        if e[i] == 1 and t[i] < 7 and (t[j] > t[i] or (t[j] == t[i] and e[j] == 0)):
            above += weights[i] ** 2 * (1.0 if risks[i] > risks[j] else 0.5 if risks[i] == risks[j] else 0.0)
            below += weights[i] ** 2
    assert uno_rows(outcomes, risks, ones(40), horizon=7)[0] == pytest.approx(above / below, abs=1e-12)
    seen = outcomes.copy()
    seen[:, 1] = 1
    assert uno_rows(seen, risks, ones(40), horizon=np.inf) == pytest.approx(harrell_rows(seen, risks, ones(40)), abs=1e-12)


def test_resampling_counts_are_repeated_patients():
    outcomes, risks = small()
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, (3, 40)).astype(float)
    # With weights as they are on all patients, a count of two is the patient twice.
    for row in counts:
        twice = np.repeat(np.arange(40), row.astype(int))
        t, e = outcomes[:, 0], outcomes[:, 1]
        weights, labels = censoring_weights(t, e, 4), horizon_labels(t, e, 4)
        slow = sum(weights[i] * ((labels[i] == 1) - risks[i]) ** 2 for i in twice) / len(twice)
        assert brier_at(outcomes, risks, row[None], horizon=4)[0] == pytest.approx(slow, abs=1e-12)


def test_the_truth_is_calibrated_and_scores_best(planted):
    outcomes, _, risks = planted
    rows = calibration_at(outcomes, risks, horizon=5, bins=5)
    assert len(rows) == 5 and sum(row["n"] for row in rows) == len(risks)
    assert all(row["low"] - 0.03 <= row["stated"] <= row["high"] + 0.03 for row in rows)
    worse = [brier_at(outcomes, np.clip(risks + shift, 0, 1), ones(len(risks)), horizon=5)[0] for shift in (-0.2, 0, 0.2)]
    assert worse[1] < worse[0] and worse[1] < worse[2]
    assert auc_at(outcomes, risks, ones(len(risks)), horizon=5)[0] > 0.7
    assert auc_at(outcomes, -risks, ones(len(risks)), horizon=5)[0] == pytest.approx(1 - auc_at(outcomes, risks, ones(len(risks)), horizon=5)[0])
    benefit = net_benefit_at(outcomes, risks, horizon=5, thresholds=np.array([0.0, 0.3, 0.999999]))
    all_treated = risk_by(outcomes[:, 0], outcomes[:, 1], 5)
    assert benefit[0] == pytest.approx(all_treated, abs=1e-12) and benefit[1] > all_treated - 0.7 * 0.3 / 0.7 and benefit[2] <= 1e-9


def test_beyond_the_follow_up_is_undefined():
    outcomes = np.array([[1.0, 1, 0], [2, 0, 0]])
    assert np.isnan(brier_at(outcomes, np.array([0.5, 0.5]), ones(2), horizon=5)[0])
    assert np.isnan(auc_at(outcomes, np.array([0.5, 0.5]), ones(2), horizon=5)[0])


def test_integrated_brier_of_a_constant_is_the_constant():
    outcomes = np.array([[9.0, 1, 0]] * 4)
    risks = np.full((4, 3), 0.3)
    assert integrated_brier(outcomes, risks, np.array([1.0, 2.0, 5.0]), ones(4))[0] == pytest.approx(0.09)


EDGES = [0.5, 1.0, 2.0, 5.0]


def test_the_hazard_loss_equals_its_sum_by_hand_and_its_gradient_is_finite():
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(0, 2, (50, 4))).requires_grad_()
    times = torch.from_numpy(np.concatenate([[0.5, 5.0, 5.0, 7.0, 0.2], rng.uniform(0, 7, 45)]))
    events = torch.from_numpy(np.concatenate([[0, 0, 1, 1, 0], rng.integers(0, 2, 45)]).astype(float))
    loss = hazard_loss(logits, times, events, EDGES)
    hazards = torch.sigmoid(logits).detach().numpy()
    for row, (t, e) in enumerate(zip(times.tolist(), events.tolist(), strict=True)):
        slow = 0.0
        for b, end in enumerate(EDGES):
            start = EDGES[b - 1] if b else 0.0
            if e == 1 and (start < t <= end or (b == 0 and t <= end)):
                slow -= np.log(hazards[row, b])
            elif t > end or (e == 0 and t == end):
                slow -= np.log(1 - hazards[row, b])
        assert float(loss[row].detach()) == pytest.approx(slow, rel=1e-9, abs=1e-12)
    loss.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_an_empty_cohort_fits_nothing_and_the_best_constant_hazard_is_the_life_table():
    rng = np.random.default_rng(4)
    times, events = rng.uniform(0, 6, 400), rng.integers(0, 2, 400)
    at_edge = np.array(EDGES)[np.minimum(interval_of(times, EDGES), 3)]
    t = np.where(times > 5, 6.0, np.where(events == 1, times, at_edge))  # last seen at the end of an interval: the life table counts the same
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12)

    def closure():
        optimiser.zero_grad()
        loss = hazard_loss(logits.expand(400, 4), torch.from_numpy(t), torch.from_numpy((events * (times <= 5)).astype(float)), EDGES).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    table = life_table(t, (events * (times <= 5)).astype(int), grid=EDGES)
    assert torch.sigmoid(logits).detach().numpy()[0] == pytest.approx(table.events[0] / table.at_risk, abs=1e-5)


def test_risks_rise_with_time_and_equal_the_product():
    hazards = np.random.default_rng(0).random((20, 4))
    risks = risks_at(hazards, EDGES, [1.0, 2.0, 3.0, 5.0])
    assert (np.diff(risks, axis=1) >= 0).all()
    assert risks[:, 3] == pytest.approx(1 - np.prod(1 - hazards, 1), abs=1e-12)
    assert (risks[:, 2] <= risks[:, 3]).all() and (risks[:, 2] >= risks[:, 1]).all()
    with pytest.raises(BadInput, match="horizon"):
        risks_at(hazards, EDGES, [6.0])
