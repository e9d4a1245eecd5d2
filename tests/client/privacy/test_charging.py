"""Worker, meter, ledger and server together: private rounds are paid before they are trained, and a ledger that was put back is noticed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.approval import Approvals
from client.audit import AuditLog
from client.guards import Guards
from client.identity import make_site
from client.privacy.accountant import epsilon
from client.privacy.ledger import Ledger
from client.privacy.spending import Spend
from client.site import Site
from client.training import FITTERS, PRIVATE_FITTERS
from client.training.fitter import Fitted
from client.worker import Worker
from server.app import run_experiment
from server.runs.receipts import Receipts
from shared_models.core.arrays import State
from shared_models.core.errors import Interrupted
from shared_models.core.files import read_json
from shared_models.experiment import Experiment, Privacy
from shared_models.messages import Job, Update
from shared_models.signing import public_half, signing_key
from tests.client.sites import table_experiment, table_site
from tests.client.test_worker import job_of
from tests.server.loop_grid import LoopGrid

ONE = epsilon([(1.5, 0.25, 10)], 1e-5)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for a private trainer: it asks the meter, then takes its steps. The list tells which rounds it trained."""
    plain, taken = FITTERS["sums"], []

    def private(
        experiment: Experiment, state: State, records: Any, *, spend: Callable[[Spend], None], summed: bool, seed: int, **options: Any
    ) -> Fitted:
        del summed
        if experiment.privacy.noise_multiplier != 9.0:  # 9: a trainer that forgets
            people = len(set(records.names))
            spend(
                Spend(experiment.privacy.noise_multiplier or 0.0, 0.25, 10, people, "patient", 1.0, experiment.privacy.delta, secrets.token_hex(16))
            )
        taken.append("a round")
        return plain(experiment, state, records, seed=seed, **options)

    monkeypatch.setitem(PRIVATE_FITTERS, "sums", private)
    return taken


def private_experiment(noise: float = 1.5, **federation: Any) -> Experiment:
    return table_experiment(**federation).model_copy(update={"privacy": Privacy(unit="patient", noise_multiplier=noise)})


def site_of(tmp_path: Path, name: str, experiment: Experiment, *, patients: int = 100, privacy: str = "") -> Path:
    folder = table_site(tmp_path, name, patients=patients, toml=f"[policy.privacy]\n{privacy}\n").parent
    make_site(folder, name)
    Approvals(folder).decide("approved", kind="experiment", name=experiment.name, digest=experiment.digest)
    return folder


def worker_of(folder: Path) -> Worker:
    site = Site.load(folder / "site.toml")
    return Worker(site, guards=Guards.of(folder, site.workspace))


def test_a_private_round_is_charged_first_and_sends_no_other_number(tmp_path: Path, trained: list[str]) -> None:
    folder = site_of(tmp_path, "a", experiment := private_experiment())
    update = worker_of(folder).handle(job_of(experiment))
    assert (update.code, update.metrics, trained) == ("", {}, ["a round"])
    (entry,) = Ledger(folder).entries()
    assert (entry.run, entry.round, entry.sigma, entry.q, entry.steps, entry.unit) == ("run", 1, 1.5, 0.25, 10, "patient")
    assert entry.patients == update.num_cases
    assert update.receipt == Ledger(folder).receipt()
    assert [one["event"] for one in AuditLog(folder).entries()][-2:] == ["charged", "released"]


def test_the_budget_ends_before_the_step(tmp_path: Path, trained: list[str]) -> None:
    limit = epsilon([(1.5, 0.25, 20)], 1e-5)
    folder = site_of(tmp_path, "a", experiment := private_experiment(), privacy=f"epsilon_limit = {limit}")
    codes = [worker_of(folder).handle(job_of(experiment, round=number)).code for number in (1, 2, 3)]
    assert codes == ["", "", "E_BUDGET"]
    assert len(trained) == len(Ledger(folder).entries()) == 2


def test_the_same_question_is_not_paid_twice(tmp_path: Path, trained: list[str]) -> None:
    folder = site_of(tmp_path, "a", experiment := private_experiment())
    first = worker_of(folder).handle(job_of(experiment))
    job = Job(**{**job_of(experiment).__dict__, "receipts": {"a": first.receipt}})  # the server has learnt of the answer
    again = worker_of(folder).handle(job)
    assert again.signature == first.signature
    assert len(Ledger(folder).entries()) == len(trained) == 1


@pytest.mark.parametrize(
    ("noise", "privacy", "patients", "code"),
    [
        (9.0, "", 100, "E_UNCHARGED"),
        (1.5, "least_noise = 2.0", 100, "E_POLICY_NOISE"),
        (1.5, "units = ['record']\nrequired = true", 100, "E_POLICY_PRIVACY"),
        (1.5, f"epsilon_per_run = {ONE / 2}", 100, "E_BUDGET_RUN"),
        (1.5, "", 60, "E_FEW_CASES"),  # 42 of them train
    ],
)
def test_what_a_site_refuses(noise: float, privacy: str, patients: int, code: str, tmp_path: Path, trained: list[str]) -> None:
    folder = site_of(tmp_path, "a", experiment := private_experiment(noise), patients=patients, privacy=privacy)
    update = worker_of(folder).handle(job_of(experiment))
    assert update == Update(run="run", round=1, site="a", code=code)
    assert Ledger(folder).entries() == []
    assert not (folder / "workspace" / "what-left.jsonl").exists()


def test_a_plain_experiment_where_privacy_is_required(tmp_path: Path, trained: list[str]) -> None:
    folder = site_of(tmp_path, "a", experiment := table_experiment(), privacy="epsilon_limit = 8")
    assert worker_of(folder).handle(job_of(experiment)).code == "E_POLICY_PRIVACY"
    assert trained == []


def test_a_trainer_that_says_less_than_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = site_of(tmp_path, "a", experiment := private_experiment())

    def lying(*_: Any, spend: Callable[[Spend], None], **__: Any) -> Fitted:
        spend(Spend(1.5, 0.25, 10, 1, "patient", 1.0, 1e-5, "1"))  # one patient, it says
        return Fitted({}, 1)

    monkeypatch.setitem(PRIVATE_FITTERS, "sums", lying)
    assert worker_of(folder).handle(job_of(experiment)).code == "E_SPEND"


def test_a_judgement_of_a_private_run_sends_no_number(tmp_path: Path, trained: list[str]) -> None:
    folder = site_of(tmp_path, "a", experiment := private_experiment())
    update = worker_of(folder).handle(job_of(experiment, kind="judge"))
    assert (update.code, update.metrics, update.state) == ("", {}, {})


def test_a_ledger_put_back_is_noticed_by_the_servers_receipt(tmp_path: Path, trained: list[str]) -> None:
    experiment = private_experiment(rounds=2, quorum=3, retries=0)
    folders = {name: site_of(tmp_path / "sites", name, experiment) for name in ("alpha", "beta", "gamma")}
    keys = {name: public_half(signing_key(folder / "secrets" / "signing.key")) for name, folder in folders.items()}
    receipts = Receipts(tmp_path / "receipts.json")
    shutil.copytree(folders["beta"], tmp_path / "backup")

    def run(number: int) -> Any:
        grid = LoopGrid({name: (lambda job, folder=folder: worker_of(folder).handle(job)) for name, folder in folders.items()})
        return run_experiment(grid, experiment, tmp_path / f"run{number}", keys=keys, receipts=receipts, durable=False)

    run(1)
    assert read_json(tmp_path / "receipts.json") == {name: Ledger(folder).receipt() for name, folder in folders.items()}
    shutil.rmtree(folders["beta"])
    shutil.copytree(tmp_path / "backup", folders["beta"])  # a whole, older site folder
    with pytest.raises(Interrupted) as interrupted:
        run(2)
    assert interrupted.value.value["refused"] == {"beta": "E_LEDGER"}
    Ledger(folders["beta"]).accept_loss(4.0)
    run(3)
    assert Ledger(folders["beta"]).spent(delta=1e-5) > 4.0


def test_receipts_of_a_server(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path / "receipts.json")
    new, old = f"12-{'a' * 64}-{'b' * 128}", f"9-{'c' * 64}-{'d' * 128}"
    for receipt in ("", new, old, ""):
        receipts.keep("alpha", receipt)
    assert Receipts(tmp_path / "receipts.json").of(["alpha", "beta"]) == {"alpha": new}
    assert (tmp_path / "receipts.json").stat().st_mode & 0o077 == 0


def test_counts_of_classes_do_not_leave_from_few_patients(tmp_path: Path) -> None:
    from shared_models.core.choices import Choice
    from tests.client.sites import patch_experiment, patch_site

    toml = patch_site(tmp_path, "a", patches=60)
    with np.load(toml.parent / "patches.npz") as file:
        arrays = dict(file)
    keep = np.concatenate([np.flatnonzero(arrays["label"] == "normal"), np.flatnonzero(arrays["label"] == "UIP")[:4]])
    np.savez(toml.parent / "patches.npz", **{name: value[keep] for name, value in arrays.items()})
    experiment = patch_experiment().model_copy(update={"model": Choice.model_validate({"name": "texture_kernel", "features": 32})})
    update = Worker(Site.load(toml)).handle(job_of(experiment))
    assert update.code == ""
    assert update.state["counts"][1] == 0  # four patients of a class say nothing
    assert update.state["counts"][0] == update.num_cases >= 10
