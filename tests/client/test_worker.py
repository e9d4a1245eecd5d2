"""The resident worker: what each job gives, and that whatever goes wrong leaves as a code, never as a text, a path or a name."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import client.worker
from client.site import Site
from client.training import PREDICTORS
from client.training.records import Records
from client.worker import Worker
from shared_models.catalogue import initial_state, inputs_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadExperiment
from shared_models.core.state import digest
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update, to_frame, update_content
from tests.client.sites import patch_experiment, patch_site, table_experiment, table_site

PATIENT = "Doe^Jonathan"


def job_of(experiment: Experiment, kind: str = "fit", round: int = 1) -> Job:
    state = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=2, seed=0)
    return Job(run="run", round=round, kind=kind, state=state, experiment=experiment.to_json(), rule={"name": "plain", "lr_factor": 1.0})  # type: ignore[arg-type]


def worker_of(toml: Path) -> Worker:
    return Worker(Site.load(toml))


def said(update: Update) -> str:
    """All that would leave, as text."""
    return repr(update) + repr(update_content(update)) + to_frame(update).decode("latin-1")


def test_hello_says_the_name_and_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('[site]\nname = "alpha"\ninbox = "none"\n')
    update = worker_of(tmp_path / "site.toml").handle(Job(run="r", round=0, kind="hello"))
    assert update == Update(run="r", round=0, site="alpha")
    assert not (tmp_path / "workspace").exists()


def test_fit_on_a_table(tmp_path: Path) -> None:
    worker = worker_of(table_site(tmp_path, "alpha", patients=60))
    update = worker.handle(job_of(table_experiment()))
    assert (update.code, update.run, update.round, update.site) == ("", "run", 1, "alpha")
    assert update.num_cases == 42  # 30 % of 30 and 30 patients are kept for validation
    assert update.state["n"][0] == 42
    assert update.metrics["val_cases"] == 18
    assert update.metrics["val_loss"] == pytest.approx(math.log(2), abs=1e-3)  # nothing is learnt yet
    lines = (tmp_path / "alpha" / "workspace" / "what-left.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["num_cases"] == 42


def test_fit_on_patches_and_judge(tmp_path: Path) -> None:
    worker = worker_of(patch_site(tmp_path, "alpha", patches=80))
    experiment = patch_experiment()
    job = job_of(experiment)
    update = worker.handle(job)
    assert update.code == ""
    assert update.steps == math.ceil(update.num_cases / 16)
    assert any((update.state[key] != job.state[key]).any() for key in job.state)
    assert set(update.metrics) == {"train_loss", "val_loss", "val_accuracy", "val_auroc_macro", "val_cases"}
    state = update.state
    for number in range(2, 8):
        state = worker.handle(replace(job, round=number, state=state)).state
    judged = worker.handle(replace(job, kind="judge", state=state))
    assert judged.state == {}
    assert judged.num_cases == 0
    assert judged.metrics["val_accuracy"] > update.metrics["val_accuracy"] or judged.metrics["val_accuracy"] == 1.0


def test_the_loss_of_the_received_state_goes_along_where_the_strategy_weighs_with_it(tmp_path: Path) -> None:
    worker = worker_of(patch_site(tmp_path, "alpha", patches=80))
    plain = job_of(patch_experiment())
    job = replace(plain, rule={"name": "received_loss", "lr_factor": 1.0})
    update = worker.handle(job)
    training, _ = worker.records(patch_experiment())
    probabilities = PREDICTORS["gradient"](patch_experiment(), job.state, training)
    obvious = -np.mean([math.log(row[label]) for row, label in zip(probabilities, training.labels, strict=True)])
    assert update.metrics["received_loss"] == pytest.approx(obvious, abs=1e-4)
    assert digest(worker.handle(plain).state) == digest(update.state)  # it is measured, and changes nothing
    silent = worker_of(patch_site(tmp_path / "b", "alpha", patches=80))
    silent.site = silent.site.model_copy(update={"policy": silent.site.policy.model_copy(update={"metrics": ("train_loss",)})})
    assert "received_loss" not in silent.handle(job).metrics


def test_one_job_one_answer(tmp_path: Path) -> None:
    answers = []
    for folder in ("a", "b"):
        worker = worker_of(patch_site(tmp_path / folder, "alpha", patches=40))
        worker.handle(job_of(patch_experiment(), round=9))  # what came before does not matter
        answers.append(to_frame(worker.handle(job_of(patch_experiment(), round=2))))
    assert answers[0] == answers[1]


def test_a_patient_is_on_one_side_of_the_split(tmp_path: Path) -> None:
    worker = worker_of(table_site(tmp_path, "alpha", patients=50))
    training, validation = worker.records(table_experiment())
    assert not set(training.names) & set(validation.names)
    assert len(training) + len(validation) == 50
    assert np.bincount(validation.labels).tolist() == [8, 8]


CASES = {
    "a model that is not allowed": ('[policy]\nmodels = ["forest"]\n', "E_POLICY_MODEL"),
    "a strategy that is not named": ('[policy]\nstrategies = ["fedavg"]\n', "E_POLICY_STRATEGY"),
    "too few patients": ("[policy]\nmin_cases = 1000\n", "E_FEW_CASES"),
    "too large an update": ("[policy]\nmax_payload_mb = 0.00001\n", "E_PAYLOAD"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_site_refuses(name: str, tmp_path: Path) -> None:
    toml, code = CASES[name]
    update = worker_of(table_site(tmp_path, "alpha", toml=toml)).handle(job_of(table_experiment()))
    assert update == Update(run="run", round=1, site="alpha", code=code)


def test_few_validation_patients_send_no_metrics(tmp_path: Path) -> None:
    update = worker_of(table_site(tmp_path, "alpha", patients=16)).handle(job_of(table_experiment()))
    assert update.code == ""
    assert update.metrics == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError(f"cannot read /data/{PATIENT}/ct.dcm"), "E_WORKER"),
        (KeyError(PATIENT), "E_WORKER"),
        (MemoryError(PATIENT), "E_MEMORY"),
        (BadExperiment(PATIENT, faults=[PATIENT]), "E_EXPERIMENT"),
        (OSError(28, "No space left on device", f"/data/{PATIENT}"), "E_WORKER"),
        (RecursionError(PATIENT), "E_WORKER"),
    ],
)
def test_exceptions_leave_as_codes(
    error: Exception, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*args: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(client.worker, "seen_records", failing)
    worker = worker_of(table_site(tmp_path, "alpha"))
    with caplog.at_level(logging.INFO, logger="fedild.worker"):
        update = worker.handle(job_of(table_experiment()))
    assert update == Update(run="run", round=1, site="alpha", code=code)
    assert "Jonathan" not in said(update)
    assert "Jonathan" in caplog.text  # the site's own log says what happened


def test_a_folder_named_after_a_patient_stays_inside(tmp_path: Path) -> None:
    toml = table_site(tmp_path / PATIENT, "alpha")
    good = worker_of(toml).handle(job_of(table_experiment()))
    (toml.parent / "workspace" / "cohort.json").write_text(f'{{"version": 1, "classes": [], "cases": [{{"patient": "{PATIENT}"}}]}}')
    bad = worker_of(toml).handle(job_of(table_experiment()))
    (toml.parent / "workspace" / "cohort.json").unlink()
    missing = worker_of(toml).handle(job_of(table_experiment()))
    assert (good.code, bad.code, missing.code) == ("", "E_COHORT", "E_COHORT")
    for update in (good, bad, missing):
        assert "Jonathan" not in said(update)
        assert "alpha0" not in said(update)  # nor does a pseudonym


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"experiment": ""}, "E_EXPERIMENT"),
        ({"experiment": "[" * 100_000}, "E_WORKER"),
        ({"rule": {"name": "steal"}}, "E_CHOICE"),
        ({"rule": {"name": "plain", "lr_factor": "x"}}, "E_WORKER"),
    ],
)
def test_jobs_that_cannot_be_done(change: dict, code: str, tmp_path: Path) -> None:
    update = worker_of(table_site(tmp_path, "alpha")).handle(replace(job_of(table_experiment()), **change))
    assert update == Update(run="run", round=1, site="alpha", code=code)


def test_a_state_of_another_model(tmp_path: Path) -> None:
    worker = worker_of(patch_site(tmp_path, "alpha"))
    update = worker.handle(replace(job_of(patch_experiment()), state={"w": np.zeros(3, np.float32)}))
    assert update == Update(run="run", round=1, site="alpha", code="E_STATE")


def test_a_site_whose_patients_are_all_of_other_classes(tmp_path: Path) -> None:
    worker = worker_of(table_site(tmp_path, "alpha"))
    experiment = table_experiment(Choice(name="logistic"))
    other = experiment.model_copy(update={"data": experiment.data.model_copy(update={"classes": ("OP", "HP")})})
    update = worker.handle(job_of(other))
    assert update == Update(run="run", round=1, site="alpha", code="E_FEW_CASES")


@pytest.mark.parametrize(("summed", "left"), [(False, 20), (True, 22)])
def test_a_class_of_two_is_not_told_by_the_sums_of_a_regression(summed: bool, left: int, tmp_path: Path) -> None:
    # The first gradient holds the sums by class, and their number with them; in a sum over hospitals nobody sees one of them.
    site = Site.load(table_site(tmp_path, "alpha", patients=30))
    labels = np.array([0] * 20 + [1] * 2)
    records = Records(np.zeros((22, 2)), labels, tuple(f"p{n}" for n in range(22)))
    kept = Worker(site)._supported(table_experiment(rounds=2), records, {"n": "all"}, summed=summed)
    assert len(kept) == left
