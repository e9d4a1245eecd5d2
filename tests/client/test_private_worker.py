"""The worker under ``[privacy]``: who is one patient, what still leaves, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cases.cohort import Case, Cohort, Visit
from client.privacy.meter import Meter
from client.privacy.spending import Spend
from client.training.records import Records
from client.training.units import units_of
from client.worker import Worker
from shared_models.experiment import Experiment
from shared_models.messages import Job
from tests.client.sites import CLASSES, patch_experiment, patch_site, table_experiment, table_site
from tests.client.test_worker import job_of, worker_of

PRIVATE = {"unit": "patient", "noise_multiplier": 1.0}


def private(experiment: Experiment, **privacy: Any) -> Experiment:
    return Experiment.model_validate(experiment.model_dump(exclude_none=True) | {"privacy": {**PRIVATE, **privacy}})


def patches_of(folder: Path, spellings: list[str] | None, *, patients: int = 80, each: int = 8) -> Path:
    """A site whose patients have `each` patches, filed under different spellings of one id."""
    rng = np.random.default_rng(0)
    count = patients * each
    label = np.array(CLASSES)[np.repeat(np.arange(patients) % 2, each)]
    hu = rng.normal(-850, 40, (count, 15, 15)).astype(np.int16)
    folder.mkdir(parents=True)
    names = {} if spellings is None else {"patient": np.array([spellings[i % len(spellings)].format(i // each) for i in range(count)])}
    np.savez(folder / "patches.npz", hu=hu, label=label, **names)
    (folder / "site.toml").write_text('[site]\nname = "alpha"\npatches = "patches.npz"\n')
    return folder / "site.toml"


class Told(Worker):
    """A worker that keeps what it was told of spending."""

    spends: list[Spend]

    def _meter(self, job: Job, experiment: Experiment, training: Records) -> Meter:
        meter = super()._meter(job, experiment, training)
        self.spends = meter.spent
        return meter


def told(toml: Path) -> Told:
    return Told(worker_of(toml).site)


def test_weights_leave_and_no_number_about_patients(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    worker = told(patch_site(tmp_path, "alpha", patches=120))
    experiment = private(patch_experiment())
    with caplog.at_level(logging.INFO, logger="fedild.worker"):
        update = worker.handle(job_of(experiment))
    assert update.code == ""
    assert update.metrics == {}
    assert update.num_cases == worker.spends[0].patients
    assert worker.spends[0].steps == update.steps
    for word in ("epsilon", "delta 1e-05", "unit patient", "added or removed", "accountant rdp", "sigma 1", "clip 1", "sampling Poisson", " steps"):
        assert word in caplog.text
    judged = worker.handle(job_of(experiment, kind="judge"))
    assert (judged.code, judged.metrics) == ("", {})


def test_nobody_s_side_hangs_on_who_else_is_there(tmp_path: Path) -> None:
    experiment = private(table_experiment(), noise_multiplier=2.0)
    toml = table_site(tmp_path, "alpha", patients=60)
    whole = worker_of(toml).records(experiment)[0].names
    cohort = Cohort.load(toml.parent / "workspace" / "cohort.json")
    for gone in ("alpha000", "alpha031"):
        cohort.only(case.pseudonym for case in cohort.cases if case.pseudonym != gone).save(toml.parent / "workspace" / "cohort.json")
        assert set(whole) - set(worker_of(toml).records(experiment)[0].names) <= {gone}


def test_two_answers_to_one_question_differ_in_their_noise(tmp_path: Path) -> None:
    toml = patch_site(tmp_path, "alpha", patches=80)
    one, two = (worker_of(toml).handle(job_of(private(patch_experiment()))) for _ in range(2))
    assert one.code == two.code == ""
    assert any((one.state[key] != two.state[key]).any() for key in one.state)


@pytest.mark.parametrize("spellings", [["P-{0}"], ["P-{0}", " p{0} ", "p_{0}", "Ｐ{0}"]])
def test_eight_patches_under_several_spellings_are_one_patient(spellings: list[str], tmp_path: Path) -> None:
    worker = told(patches_of(tmp_path / "alpha", spellings))
    experiment = private(patch_experiment())
    update = worker.handle(job_of(experiment))
    training, validation = worker.records(experiment)
    assert update.code == ""
    assert worker.spends[0].patients == training.patients == update.num_cases == len(training) // 8
    assert not set(training.names) & set(validation.names)
    assert {len(unit) for unit in units_of(training, "patient")} == {8}


def test_patches_without_patients_are_protected_one_by_one_or_not_at_all(tmp_path: Path) -> None:
    worker = told(patches_of(tmp_path / "alpha", None))
    assert worker.handle(job_of(private(patch_experiment()))).code == "E_COHORT"
    assert worker.handle(job_of(private(patch_experiment(), unit="record"))).code == ""
    assert [spent.unit for spent in worker.spends] == ["record"]


def test_all_visits_of_a_patient_are_one_unit_on_one_side(tmp_path: Path) -> None:
    toml = table_site(tmp_path, "alpha", patients=90)
    rng = np.random.default_rng(0)

    def visit(number: int, when: int) -> Visit:
        return Visit(
            f"v{number}-{when}", 100 * when, f"s{number}-{when}", Path("cache/x"), {"whole_haa_percent": float(rng.normal())}, {"age": 60.0 + when}
        )

    cases = tuple(Case(f"a{n:03d}", tuple(visit(n, when) for when in range(1 + n % 3)), CLASSES[n % 2]) for n in range(90))
    Cohort(cases, CLASSES).save(toml.parent / "workspace" / "cohort.json")
    plain = table_experiment(None)
    model = {"name": "logistic", "centre": [0.0, 60.0], "spread": [1.0, 5.0]}
    several = Experiment.model_validate(
        plain.model_dump(exclude_none=True) | {"model": model, "inputs": {**plain.inputs.model_dump(), "visits": "all"}}
    )
    worker = told(toml)
    training, validation = worker.records(several)
    assert not set(training.names) & set(validation.names)
    assert training.patients + validation.patients == 90
    assert len(validation) == validation.patients  # judged by the first visit
    assert len(training) > 1.7 * training.patients
    assert {len(unit) for unit in units_of(training, "patient")} == {1, 2, 3}
    for unit in units_of(training, "patient"):
        assert len(set(training.labels[unit])) == 1
        assert training.inputs[unit, 1].tolist() == [60.0 + when for when in range(len(unit))]
    assert len(worker.records(plain)[0]) == training.patients
    hidden = private(several)
    update = worker.handle(job_of(hidden))
    assert (update.code, update.num_cases) == ("", worker.records(hidden)[0].patients)
    assert update.num_cases == worker.spends[0].patients


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ({"name": "logistic"}, "E_STATE"),
        ({"name": "forest"}, "E_CHOICE"),
    ],
)
def test_models_that_cannot_be_private_send_nothing(model: dict[str, Any], code: str, tmp_path: Path) -> None:
    experiment = Experiment.model_validate(private(table_experiment()).model_dump(exclude_none=True) | {"model": model})
    update = worker_of(table_site(tmp_path, "alpha", patients=90)).handle(job_of(experiment))
    assert (update.code, update.state) == (code, {})


def test_too_few_patients_for_a_claim(tmp_path: Path) -> None:
    update = worker_of(patch_site(tmp_path, "alpha", patches=50)).handle(job_of(private(patch_experiment())))
    assert (update.code, update.state) == ("E_FEW_CASES", {})
