"""Trees of survival: splits and leaves against their formulas, leaves of enough patients, risks that rise, and what no patients can have made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.privacy.policy import breaches
from client.site import Policy
from shared_models.blocks.survival_tree import log_rank_by_cut, nelson_aalen
from shared_models.catalogue import build
from shared_models.classical.cox import cox
from shared_models.classical.random_survival_forest import SurvivalForest, random_survival_forest
from shared_models.classical.survival_boosting import survival_boosting
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadState, FedILDError
from shared_models.experiment import Data, Experiment, Inputs
from shared_models.metrics.log_rank import log_rank
from shared_models.metrics.survival import harrell_rows
from shared_models.survival.hazards import hazard_loss
from shared_models.survival.person_intervals import person_intervals

TIMES = (1.0, 2.0, 3.0, 5.0)
DRAWS = st.tuples(st.integers(0, 10_000), st.integers(2, 25))


def drawn(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 5, count).astype(float), rng.integers(1, 7, count).astype(float), rng.integers(0, 2, count).astype(float)


@settings(max_examples=20, deadline=None)
@given(DRAWS)
def test_the_split_is_the_log_rank_test_of_each_cut_and_the_leaf_a_sum_of_shares(draw: tuple[int, int]) -> None:
    column, times, events = drawn(*draw)
    order, found = log_rank_by_cut(column, times, events)
    outcomes = np.column_stack([times, events, np.zeros(len(times))])[order]
    for cut, statistic in enumerate(found):
        theirs = log_rank(outcomes, np.arange(len(times)) > cut)["chi2"]
        assert statistic == pytest.approx(theirs or 0.0, abs=1e-9)
    for at, hazard in zip((0.5, 2.0, 6.5), nelson_aalen(times, events, np.array([0.5, 2.0, 6.5])), strict=True):
        seen = sorted({t for t, e in zip(times, events, strict=True) if e and t <= at})
        assert hazard == pytest.approx(sum(events[times == t].sum() / (times >= t).sum() for t in seen), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(DRAWS)
def test_intervals_of_patients_have_the_likelihood_of_the_hazard_loss(draw: tuple[int, int]) -> None:
    _, times, events = drawn(*draw)
    times = np.asarray(times - (np.arange(len(times)) % 2) * 0.5, np.float64)  # half of them inside an interval
    logits = np.random.default_rng(draw[0]).normal(0, 1, (len(times), len(TIMES)))
    patient, interval, event = person_intervals(times, events, TIMES)
    hazard = 1 / (1 + np.exp(-logits[patient, interval]))
    slow = np.bincount(patient, -np.where(event == 1, np.log(hazard), np.log(1 - hazard)), minlength=len(times))
    found = hazard_loss(torch.from_numpy(logits), torch.from_numpy(times), torch.from_numpy(events), TIMES)
    np.testing.assert_allclose(found.numpy(), slow, atol=1e-12)


def cohort(seed: int, count: int, *, shape: str = "linear") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (count, 3))
    effect = {"linear": 1.2 * x[:, 0], "bowl": 1.5 * np.abs(x[:, 0]), "none": np.zeros(count)}[shape]
    death, left = 2.5 * rng.exponential(np.exp(-effect)), rng.uniform(0.5, 8, count)
    return x, np.column_stack([np.minimum(death, left), death <= left, np.zeros(count)]).astype(float)


def fitted(model: Any, sites: list[tuple[np.ndarray, np.ndarray]], rounds: int) -> State:
    state = model.start(seed=0)
    for _ in range(rounds):
        parts = [model.contribution(state, x, y, seed=7 + number) for number, (x, y) in enumerate(sites)]
        for part in parts:
            model.check(part, state)
        state = model.combine(state, parts, [float(len(x)) for x, _ in sites])
    return state


def ordering(model: Any, state: State, held: tuple[np.ndarray, np.ndarray]) -> float:
    return float(harrell_rows(held[1], model.predict(state, held[0])[:, 0], np.ones((1, len(held[0]))))[0])


FOREST = random_survival_forest(3, 2, times=TIMES, trees=12, min_leaf=8)
BOOSTED = survival_boosting(3, 2, times=TIMES, trees=10, depth=2, rate=0.4)
MODELS = {"forest": (FOREST, 1), "boosting": (BOOSTED, 22)}


@pytest.mark.parametrize("name", MODELS)
def test_they_order_patients_whom_they_never_saw(name: str) -> None:
    model, rounds = MODELS[name]
    sites = [cohort(seed, 90) for seed in range(3)]
    held, bowl = cohort(9, 300), cohort(9, 300, shape="bowl")
    linear = fitted(model, sites, rounds)
    cox_c = ordering(cox(3, 2), fitted(cox(3, 2), sites, 7), held)
    assert ordering(model, linear, held) > max(0.68, cox_c - 0.05)
    assert ordering(model, fitted(model, [cohort(seed, 90, shape="bowl") for seed in range(3)], rounds), bowl) > 0.6  # no line orders a bowl
    null = cohort(9, 300, shape="none")
    assert abs(ordering(model, fitted(model, [cohort(seed, 90, shape="none") for seed in range(3)], rounds), null) - 0.5) < 0.07
    risks = model.risks(linear, held[0], (1.0, 3.0, 5.0))
    assert risks.shape == (300, 3) and (np.diff(risks, axis=1) >= 0).all() and (risks >= 0).all() and (risks <= 1).all()
    with pytest.raises(FedILDError, match="horizon"):
        model.risks(linear, held[0], (9.0,))


def test_a_leaf_holds_enough_patients_and_a_site_its_share_of_trees() -> None:
    sites = [cohort(0, 120), cohort(1, 40)]
    parts = [FOREST.contribution({}, x, y, seed=number) for number, (x, y) in enumerate(sites)]
    for part, (x, _) in zip(parts, sites, strict=True):
        counts = [np.unique(ends, return_counts=True)[1] for ends in FOREST.groups(part, x)]
        assert len(counts) == 12 and min(count.min() for count in counts) >= 8
        inner = part["feature"] >= 0
        assert not part["value"][inner].any()  # who came by says nothing
    united = FOREST.combine({}, parts, [120.0, 40.0])
    assert len(united["first"]) == 12 and (united["feature"][: len(parts[0]["feature"][: parts[0]["first"][9]])] >= -1).all()
    assert not FOREST.predict(FOREST.start(seed=0), sites[0][0]).any() or FOREST.predict(FOREST.start(seed=0), sites[0][0]).std() == 0


def test_without_columns_that_tell_it_is_nelson_aalen_of_those_drawn() -> None:
    x, y = np.zeros((30, 3)), cohort(3, 30)[1]
    one = random_survival_forest(3, 2, times=TIMES, trees=1, min_leaf=2)
    assert isinstance(one, SurvivalForest)
    drawn = np.random.default_rng(5).choice(30, 19, replace=False)
    state = one.contribution({}, x, y, seed=5)
    np.testing.assert_allclose(one.cumulative_hazards(state, x)[0], nelson_aalen(y[drawn, 0], y[drawn, 1], np.array(TIMES)), rtol=1e-6)


WRONG: dict[str, tuple[str, Any]] = {
    "a hazard that falls": ("forest", lambda s: s | {"value": s["value"][:, ::-1].copy()}),
    "a negative hazard": ("forest", lambda s: s | {"value": s["value"] - 1}),
    "a hazard without end": ("forest", lambda s: s | {"value": s["value"] + np.float32(1000)}),
    "a threshold that is NaN": ("forest", lambda s: s | {"threshold": s["threshold"] * np.nan}),
    "events of nobody": ("boosting", lambda s: s | {"events": s["at_risk"] + 1}),
    "patients who come back": ("boosting", lambda s: s | {"at_risk": s["at_risk"][::-1].copy(), "events": s["events"] * 0}),
    "more at risk than there are": ("boosting", lambda s: s | {"at_risk": s["at_risk"] + 1e3}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_patients_can_have_made_is_refused(name: str) -> None:
    kind, change = WRONG[name]
    model, (x, y) = MODELS[kind][0], cohort(0, 40)
    state = fitted(model, [(x, y)], 1)
    good = model.contribution(state, x, y, seed=0)
    model.check(good, state)
    with pytest.raises(BadState):
        model.check(change(good), state)


def test_a_site_wants_leaves_of_enough_patients_and_histograms_through_the_secure_sum() -> None:
    def asked(**knobs: Any) -> list[str]:
        data = Data.model_validate({"kind": "table", "target": "survival"})
        experiment = Experiment(name="x", data=data, inputs=Inputs(columns=("a",)), model=Choice.model_validate(knobs))
        return [one.code for one in breaches(experiment, Policy())]

    assert asked(name="random_survival_forest") == [] and asked(name="random_survival_forest", min_leaf=2) == ["E_POLICY_LEAF"]
    assert asked(name="survival_boosting") == ["E_POLICY_SUM"]
    for name in ("random_survival_forest", "survival_boosting"):
        with pytest.raises(BadChoice, match=r"model\.times rise"):
            build(Choice.model_validate({"name": name, "times": [2.0, 1.0]}), inputs=1, outputs=2)
