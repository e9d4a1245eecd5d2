"""Binary heads weighted for those who left, and weights of events: both state the planted risk, where the short cuts do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.cases.cohort import Case, Cohort, Visit
from client.site import Site
from client.statistics import seen_records
from client.training import PREDICTORS
from client.training.follow_up_weights import weighed
from client.training.gradient import fit_gradient, judge_objective
from client.training.hazards import risks
from client.training.records import Records
from client.training.rules import Plain
from client.worker import Worker
from shared_models.catalogue import initial_state, spec_in
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort, BadInput, BadState
from shared_models.experiment import Data, Evaluation, Experiment, Federation, Inputs, Train
from shared_models.metrics.horizons import auc_at
from shared_models.statistics.life_table import life_table as counted
from shared_models.statistics.life_table import told_table
from shared_models.survival.binary_heads import BinaryHeads
from shared_models.survival.hazards import HazardObjective
from shared_models.survival.life_table import LifeTable
from sim.check import faults
from sim.phantom.cohort import PlantedCohort, draw_cohort

HORIZONS = (1.0, 3.0, 5.0)
YEARS = tuple(0.5 * number for number in range(1, 13))


def experiment_of(*, heads: str | None = "binary", how: str = "none", epochs: int = 5) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "heads",
            "data": {"target": "survival", "horizons": HORIZONS, **({"heads": heads} if heads else {})},
            "inputs": Inputs(columns=("fibrosis", "age", "male")),
            "model": {"name": "multimodal", "width": 8, "hidden": 16, "dropout": 0.0, "modality_dropout": 0.0},
            "train": Train(epochs=epochs, batch=64, optimiser=Choice.model_validate({"name": "adamw", "lr": 0.01}), class_weights=how),  # type: ignore[arg-type]
            "evaluation": Evaluation(validation=0.3, bootstrap=0, headline="harrell_c"),
        }
    )


def records_of(cohort: PlantedCohort, table: LifeTable | None = None) -> Records:
    x = (cohort.columns - [14.0, 66.0, 0.6]) / [11.0, 9.0, 0.5]
    names = tuple(map(str, range(len(x))))
    return Records(x, cohort.outcomes[:, 1].astype(np.int64), names, times=cohort.outcomes[:, 0], federation=table)


def fit_of_federation(cohort: PlantedCohort) -> State:
    """What the statistic of four sites leaves in the run's state."""
    fit = counted((), times=YEARS)
    state = fit.start(seed=0)
    return fit.combine(state, [fit.contribution(state, x[:, :0], y, seed=0) for x, y in cohort.sites()], [])


def federated_table(cohort: PlantedCohort) -> LifeTable:
    return told_table(fit_of_federation(cohort))


def stated(experiment: Experiment, records: Records, others: Records) -> np.ndarray:
    state = initial_state(experiment.model, inputs=3, outputs=experiment.data.outputs, seed=0)
    for number, factor in enumerate((1.0, 0.3, 0.03)):  # a falling rate: at a steady one the last steps move the mean risk by some hundredths
        state = fit_gradient(experiment, state, records, rule=Plain(), factor=factor, seed=number).state
    return PREDICTORS["gradient"](experiment, state, others)


@pytest.fixture(scope="module")
def cohorts() -> tuple[PlantedCohort, PlantedCohort]:
    return draw_cohort(3000, 11), draw_cohort(1500, 12)


@pytest.fixture(scope="module")
def by_heads(cohorts: tuple[PlantedCohort, PlantedCohort]) -> np.ndarray:
    return stated(experiment_of(), records_of(cohorts[0]), records_of(cohorts[1]))


def test_weighted_heads_state_the_planted_risk_and_the_short_cuts_do_not(cohorts: tuple[PlantedCohort, PlantedCohort], by_heads: np.ndarray) -> None:
    learnt, others = records_of(cohorts[0]), records_of(cohorts[1])
    truth = cohorts[1].risks(HORIZONS)
    assert truth.mean(0)[2] == pytest.approx(0.49, abs=0.03)  # the design's truth; its short cuts give 0.35 and 0.70 before any network
    np.testing.assert_allclose(by_heads.mean(0), truth.mean(0), atol=0.03)
    of_table = stated(experiment_of(), replace(learnt, federation=federated_table(cohorts[0])), others)
    np.testing.assert_allclose(of_table.mean(0), truth.mean(0), atol=0.03)
    assert np.abs(by_heads[:, 2] - truth[:, 2]).mean() < 0.05  # not the mean alone: patient by patient
    lost = (learnt.labels == 0) & (np.asarray(learnt.times) < 5)
    excluding = stated(experiment_of(), learnt.take(np.flatnonzero(~lost)), others).mean(0)[2]
    alive = replace(learnt, times=np.where(lost, 99.0, np.asarray(learnt.times)))
    naive = stated(experiment_of(), alive, others).mean(0)[2]
    assert excluding - truth.mean(0)[2] > 0.08 and truth.mean(0)[2] - naive > 0.08
    outcomes, one = np.column_stack([cohorts[1].outcomes[:, :2], np.zeros(1500)]), np.ones((1, 1500))
    assert auc_at(outcomes, by_heads[:, 1], one, horizon=3.0)[0] > auc_at(outcomes, cohorts[1].log_hazard, one, horizon=3.0)[0] - 0.03


def test_weights_of_events_leave_the_risks_calibrated_and_without_the_shift_they_would_not(
    cohorts: tuple[PlantedCohort, PlantedCohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt, others = records_of(cohorts[0]), records_of(cohorts[1])
    truth = cohorts[1].risks(HORIZONS)
    for heads in (None, "binary"):
        found = stated(experiment_of(heads=heads, how="balanced"), learnt, others)
        np.testing.assert_allclose(found.mean(0), truth.mean(0), atol=0.035)
        assert np.abs(found[:, 2] - truth[:, 2]).mean() < 0.06
        order = np.argsort(found[:, 2])  # calibrated in every fifth, not on average alone
        for members in np.array_split(order, 5):
            assert found[members, 2].mean() == pytest.approx(truth[members, 2].mean(), abs=0.08)
    monkeypatch.setattr("shared_models.survival.hazards.math.log", lambda ratio: 0.0)
    raw = stated(experiment_of(heads=None, how="balanced"), learnt, others)
    assert raw.mean(0)[2] - truth.mean(0)[2] > 0.3


def test_an_event_counts_as_much_as_all_that_was_survived() -> None:
    experiment = experiment_of(heads=None, how="balanced")
    records = records_of(draw_cohort(400, 3))
    for table in (None, federated_table(draw_cohort(400, 3))):
        objective = weighed(spec_in(experiment), experiment, replace(records, federation=table)).objective
        assert isinstance(objective, HazardObjective) and 8 < objective.factors[1] / objective.factors[0] < 20
        judged = weighed(spec_in(experiment), experiment, replace(records, federation=table), judged=True).objective
        assert isinstance(judged, HazardObjective) and judged.factors == (1.0, 1.0)
    # at the true hazard h = n1 / (n0 + n1), where the shifted logit is 0, events and survived intervals pull equally
    objective = HazardObjective((1.0,), factors=(0.6, 3.0))
    output = torch.full((6, 1), -np.log(5.0) + 3.0, dtype=torch.float64, requires_grad=True)
    outcome = torch.tensor([[0.5, 1.0]] + [[9.0, 0.0]] * 5, dtype=torch.float64)
    objective(output, torch.zeros(6), outcome).sum().backward()
    assert output.grad is not None and float(output.grad.sum()) == pytest.approx(0, abs=1e-12)
    assert -float(output.grad[0]) == pytest.approx(float(output.grad[1:].sum())) and float(output.grad[1]) > 0


@given(st.lists(st.lists(st.floats(-30, 30), min_size=3, max_size=3), min_size=1, max_size=8))
@settings(max_examples=60)
def test_risks_of_heads_never_fall(rows: list[list[float]]) -> None:
    found = risks(torch.tensor(rows, dtype=torch.float64), data=experiment_of().data).numpy()
    assert (np.diff(found, axis=1) >= 0).all() and ((found >= 0) & (found <= 1)).all()
    objective = BinaryHeads(HORIZONS)
    with pytest.raises(BadInput, match="who is followed how long"):
        objective(torch.tensor(rows), torch.zeros(1), torch.zeros(len(rows), 2))


@given(st.lists(st.floats(-40, 40), min_size=3, max_size=3), st.sampled_from([(0.5, 1.0), (2.0, 0.0), (4.0, 1.0), (9.0, 0.0)]))
@settings(max_examples=60)
def test_the_loss_and_its_slope_are_finite_however_sure_a_network_is(row: list[float], outcome: tuple[float, float]) -> None:
    experiment, cohort = experiment_of(how="balanced"), records_of(draw_cohort(60, 4))
    objective = weighed(spec_in(experiment), experiment, cohort).objective
    assert objective is not None
    output = torch.tensor([row], dtype=torch.float32, requires_grad=True)
    loss = objective(output, torch.zeros(1), torch.tensor([outcome], dtype=torch.float64)).sum()
    loss.backward()
    assert output.grad is not None and torch.isfinite(loss) and torch.isfinite(output.grad).all()


def test_the_loss_is_the_weighted_cross_entropy_of_the_stated_risk() -> None:
    experiment, cohort = experiment_of(), records_of(draw_cohort(60, 5))
    objective = weighed(spec_in(experiment), experiment, cohort).objective
    assert isinstance(objective, BinaryHeads) and objective.staying is not None
    output, outcome = torch.randn(60, 3, dtype=torch.float64), torch.from_numpy(cohort.outcome[:, :2])
    said = risks(output, data=experiment.data).numpy()
    times, events = outcome.numpy().T
    expected = np.zeros(60)
    for place, horizon in enumerate(HORIZONS):
        died, alive = (times <= horizon) & (events == 1), times >= horizon
        stay = np.where(died, objective.staying.at(times, before=True), objective.staying.at(np.full(60, horizon)))
        entropy = np.where(died, -np.log(said[:, place]), -np.log1p(-said[:, place]))
        expected += np.where(died | alive, entropy / stay, 0) / 3
    np.testing.assert_allclose(objective(output, torch.zeros(60), outcome).numpy(), expected, rtol=1e-6)


def test_what_heads_ask_for() -> None:
    data = experiment_of().data
    assert data.intervals == HORIZONS and data.outputs == 3 and Data.model_validate(data.model_dump()) == data
    for wrong in ({"horizons": [1, 3], "intervals": [1, 2, 3]}, {}):
        with pytest.raises(ValueError, match="one question a horizon"):
            Data.model_validate({"target": "survival", "heads": "binary", **wrong})
    with pytest.raises(ValueError, match="one question a horizon"):
        Data.model_validate({"classes": ["a", "b"], "heads": "binary"})
    assert faults(experiment_of(how="balanced")) == [] and faults(experiment_of(heads=None, how="effective")) == []
    assert [fault.partition(":")[0] for fault in faults(experiment_of(how="prior"))] == ["train.class_weights"]


def test_nobody_is_weighed_by_what_is_not_known() -> None:
    experiment, cohort = experiment_of(), draw_cohort(300, 6)
    brief = records_of(cohort).take(np.flatnonzero((cohort.outcomes[:, 0] < 0.9) & (cohort.outcomes[:, 1] == 0)))
    with pytest.raises(BadCohort, match="followed to a horizon"):
        weighed(spec_in(experiment), experiment, brief)
    assert np.isnan(judge_objective(experiment, initial_state(experiment.model, inputs=3, outputs=3, seed=0), brief))
    table = federated_table(cohort)
    cut = LifeTable(table.times[:4], table.at_risk[:4], table.events[:, :4])
    with pytest.raises(BadState, match="of 5"):
        weighed(spec_in(experiment), experiment, replace(records_of(cohort), federation=cut))


def test_a_site_weighs_by_the_table_that_the_federation_has_summed(tmp_path: Path) -> None:
    cohort, cases = draw_cohort(60, 7), []
    for number, (column, outcome) in enumerate(zip(cohort.columns, cohort.outcomes, strict=True)):
        known: dict[str, float | str] = {"age": float(column[1]), "time_years": float(outcome[0]), "event": float(outcome[1])}
        cases.append(Case(f"p{number:02d}", (Visit(f"v{number}", 0, "s", Path("x"), {"whole_haa_percent": float(column[0])}, known),)))
    Cohort(tuple(cases)).save(tmp_path / "workspace" / "cohort.json")
    (tmp_path / "site.toml").write_text('[site]\nname = "alpha"\n')
    site, statistic = Site.load(tmp_path / "site.toml"), Choice.model_validate({"name": "life_table", "times": YEARS})
    update = {"inputs": Inputs(columns=("whole_haa_percent", "age")), "statistics": (statistic,), "federation": Federation.model_validate(SUMMED)}
    experiment = experiment_of().model_copy(update=update)
    assert faults(experiment) == []
    fits = {f"statistics/life_table/{name}": value for name, value in fit_of_federation(cohort).items()}
    for part in seen_records(site, experiment, fits):
        assert part.federation is not None and np.array_equal(part.federation.times, federated_table(cohort).times)
        assert part.take([0]).federation is part.federation and Records.join([part, part]).federation is part.federation
    assert seen_records(site, experiment, fits, fitting=0)[0].federation is None
    worker, start = Worker(site), initial_state(experiment.model, inputs=2, outputs=3, seed=0)
    training, _ = worker.records(experiment, start | fits)
    objective = weighed(spec_in(experiment), experiment, training).objective
    assert isinstance(objective, BinaryHeads) and objective.staying is not None and objective.staying.grid


SUMMED = {"quorum": 3, "secure_sum": True}
