"""A forest tells the classes of those who ended in each leaf: of as many patients as the hospital asks for, or nothing leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import client.worker
from client.cases.cohort import Cohort
from client.privacy.policy import breaches
from client.site import Policy, Site
from client.training.fitter import Fitted
from client.worker import Worker
from shared_models.classical.forest import forest
from shared_models.core.choices import Choice
from shared_models.experiment import Experiment
from tests.client.sites import table_experiment, table_site
from tests.client.test_worker import job_of


def experiment_of(**knobs: int) -> Experiment:
    return table_experiment(Choice.model_validate({"name": "forest", "trees": 8, **knobs}))


@pytest.mark.parametrize(
    ("knobs", "k", "codes"), [({}, 5, []), ({"min_leaf": 4}, 5, ["E_POLICY_LEAF"]), ({"min_leaf": 4}, 4, []), ({}, 8, ["E_POLICY_LEAF"])]
)
def test_the_policy_asks_for_large_leaves(knobs: dict[str, int], k: int, codes: list[str]) -> None:
    assert [one.code for one in breaches(experiment_of(**knobs), Policy(min_per_class=k))] == codes


def test_large_leaves_leave(tmp_path: Path) -> None:
    update = Worker(Site.load(table_site(tmp_path, "alpha", patients=80))).handle(job_of(experiment_of()))
    assert update.code == ""
    assert len(update.state["first"]) == 8


def small_leaves(experiment: Experiment, state: dict, records: client.worker.Records, *, seed: int, **_: object) -> Fitted:
    model = forest(records.inputs.shape[1], 2, trees=8, min_leaf=1)
    return Fitted(model.contribution(state, records.inputs, records.labels, seed=seed), 1)


def endless(experiment: Experiment, state: dict, records: client.worker.Records, *, seed: int, **_: object) -> Fitted:
    fitted = small_leaves(experiment, state, records, seed=seed)
    fitted.state["left"][:] = 0
    return fitted


@pytest.mark.parametrize(("trainer", "code"), [(small_leaves, "E_FEW_CASES"), (endless, "E_STATE")])
def test_the_gate_does_not_take_the_trainers_word(trainer: object, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(client.worker.FITTERS, "trees", trainer)
    worker = Worker(Site.load(table_site(tmp_path, "alpha", patients=80)))
    assert worker.handle(job_of(experiment_of())).code == code
    assert not (tmp_path / "alpha" / "workspace" / "what-left.jsonl").exists()


def test_patients_are_counted_not_visits(tmp_path: Path) -> None:
    toml = table_site(tmp_path, "alpha", patients=24)
    path = tmp_path / "alpha" / "workspace" / "cohort.json"
    cohort = Cohort.load(path)
    cases = tuple(type(case)(case.pseudonym, case.visits * 6, case.label) for case in cohort.cases)
    Cohort(cases, cohort.classes).save(path)
    document = experiment_of().model_dump(exclude_none=True)
    often = Experiment.model_validate({**document, "inputs": {**document["inputs"], "visits": "all"}})
    assert Worker(Site.load(toml)).handle(job_of(often)).code == "E_FEW_CASES"  # five records in a leaf, of one patient


def test_groups_are_the_leaves_of_scikit_learn() -> None:
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (60, 3)), rng.integers(0, 2, 60)
    model = forest(3, 2, trees=5, min_leaf=4)
    state = model.contribution({}, x, y, seed=7)
    fitted = RandomForestClassifier(5, min_samples_leaf=4, max_features="sqrt", class_weight="balanced", random_state=7).fit(x, y)
    np.testing.assert_array_equal(model.groups(state, x) - state["first"][:, None], fitted.apply(x).T)
