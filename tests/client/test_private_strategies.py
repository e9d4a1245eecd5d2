"""Strategies under the privacy of patients, over real messages and a real ledger: what they change at a site spends nothing more.

Every strategy of COMBINES that claims it, so that a new line is tested the moment it says yes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.approval import Approvals
from client.guards import Guards
from client.identity import make_site
from client.privacy.ledger import Ledger
from client.site import Site
from client.training.memory import Memory
from client.training.private import fit_private
from client.training.records import Records
from client.training.rules import rule_of
from client.training.steps import Stopped
from client.worker import Worker
from server.app import run_experiment, strategy_of
from server.combines import COMBINES
from server.runs.receipts import Receipts
from server.strategies import STRATEGIES
from shared_models.catalogue import initial_state
from shared_models.core.arrays import State
from shared_models.core.files import read_state
from shared_models.core.randomness import SecretRandom
from shared_models.core.state import digest, subtract
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update
from shared_models.signing import public_half, signing_key
from tests.client.sites import patch_experiment, patch_site
from tests.server.loop_grid import LoopGrid

PRIVATE = sorted(name for name, line in COMBINES.items() if line.patient_privacy and STRATEGIES[name].fit == "gradient")
LOCAL = ("fedprox", "scaffold", "feddyn", "fedbn", "fedper", "fedrep", "ditto", "apfl", "moon")
"""Those that change something at a site; the others act at the server alone, on what has been released."""
START = initial_state(patch_experiment().model, inputs=1, outputs=2, seed=0)


def experiment_of(name: str, *, quorum: int = 2, rounds: int = 2, optimiser: str = "adamw", **train: Any) -> Experiment:
    document = patch_experiment(rounds=rounds, quorum=quorum, retries=0).model_dump(exclude_none=True)
    steps = {"batch": 16, "steps": 2, "schedule": "constant", "optimiser": {"name": optimiser, "lr": 0.01}, **train}
    privacy = {"unit": "patient", "noise_multiplier": 2.0, "delta": 1e-4}
    return Experiment.model_validate({**document, "strategy": {"name": name}, "train": steps, "privacy": privacy})


def site_of(folder: Path, name: str, experiment: Experiment, seed: int = 0) -> Path:
    place = patch_site(folder, name, patches=80, seed=seed).parent
    make_site(place, name)
    Approvals(place).decide("approved", kind="experiment", name=experiment.name, digest=experiment.digest)
    return place


def worker_of(place: Path, **more: Any) -> Worker:
    site = Site.load(place / "site.toml")
    return Worker(site, guards=Guards.of(place, site.workspace, **more))


def job_of(experiment: Experiment, *, round: int = 1, state: State = START, extra: State | None = None, kind: Any = "fit") -> Job:
    return Job("run", round, kind, state, experiment.to_json(), rule=strategy_of(experiment, None).rule, extra=extra or {})


def test_the_rules_that_claim_it_are_those_tested_here() -> None:
    rounds = {"one_shot": 1}  # of a strategy that has just so many
    rules = {strategy_of(experiment_of(name, quorum=9, rounds=rounds.get(name, 2)), None).rule["name"] for name in PRIVATE}
    assert rules == {strategy_of(experiment_of(name), None).rule["name"] for name in LOCAL} | {"plain"}


@pytest.mark.parametrize("name", LOCAL)
def test_a_private_run_of_each_strategy_spends_what_fedavg_spends(name: str, tmp_path: Path) -> None:
    experiment = experiment_of(name)
    places = {site: site_of(tmp_path, site, experiment, seed) for seed, site in enumerate(("alpha", "beta"))}
    keys = {site: public_half(signing_key(place / "secrets" / "signing.key")) for site, place in places.items()}
    left: list[Update] = []

    def handler(place: Path) -> Any:
        def handle(job: Job) -> Update:
            left.append(worker_of(place).handle(job))  # a new process every time: what a site knows lies on its disk
            return left[-1]

        return handle

    grid = LoopGrid({site: handler(place) for site, place in places.items()})
    final = run_experiment(grid, experiment, tmp_path / "run", keys=keys, receipts=Receipts(tmp_path / "receipts.json"))
    assert not any(update.code or update.metrics or update.extra for update in left)
    assert digest(final.state) != digest(START)
    for place in places.values():
        entries = Ledger(place).entries()
        trained = next(update for update in left if update.site == place.name and update.state)
        assert [(one.sigma, one.steps, one.patients, one.q) for one in entries] == [(2.0, 2, trained.num_cases, 16 / trained.num_cases)] * 2
        # what is judged at home stays there
        assert (place / "workspace" / "personal").exists() == (name in ("fedbn", "fedper", "fedrep", "ditto", "apfl"))


@pytest.mark.parametrize("name", ["ditto", "apfl"])
def test_nothing_of_a_second_model_is_in_what_leaves(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.training.private.SecretRandom", lambda: SecretRandom(b"k" * 32))
    sent: dict[str, list[str]] = {}
    for which in ("fedavg", name):
        experiment = experiment_of(which, augment=[{"name": "flip"}])
        place = site_of(tmp_path / which, "alpha", experiment)
        answers = [worker_of(place).handle(job_of(experiment, round=number)) for number in (1, 2)]
        assert not any(answer.code for answer in answers)
        sent[which] = [digest(answer.state) for answer in answers]
    assert sent[name] == sent["fedavg"]
    kept = read_state(max((tmp_path / name / "alpha" / "workspace" / "strategy").glob("*")))
    assert max(float(np.abs(value - START[key.removeprefix("personal/")]).max()) for key, value in kept.items() if key != "alpha") > 1e-3


def test_what_was_learnt_without_noise_is_not_taken_up_under_noise(tmp_path: Path) -> None:
    # a server that gives a private run the name of one that was not
    document = experiment_of("fedper").model_dump(exclude_none=True)
    document["federation"]["compression"] = {"name": "int8"}
    plain, private = (Experiment.model_validate({key: value for key, value in document.items() if key != gone}) for gone in ("privacy", "title"))
    worker = Worker(Site.load(patch_site(tmp_path, "alpha", patches=80)))
    assert worker.handle(job_of(plain)).code == ""
    seen = worker._personal(
        rule_of(job_of(private).rule, {})[0], private, Memory(worker.site.workspace / "strategy", "alpha", "run", 2, private.digest)
    )
    assert seen is not None
    assert digest(seen.seen(START)) == digest(START)
    left = {path.name for path in (worker.site.workspace / "residual").glob("*")}
    assert worker.handle(job_of(private, round=2)).code == ""
    assert not left & {path.name for path in (worker.site.workspace / "residual").glob("*")}  # what compression still owes is of one experiment


def records_of(count: int) -> Records:
    rng = np.random.default_rng(0)
    hu = rng.normal(-850, 40, (count, 1, 15, 15)).astype(np.float32)
    return Records(hu, np.arange(count) % 2, tuple(f"p{number}" for number in range(count)))


@pytest.mark.parametrize("name", ["scaffold", "feddyn", "fedprox"])
def test_a_correction_enters_after_the_noise_whole(name: str, tmp_path: Path) -> None:
    # two steps of plain SGD with known noise: what the rule adds is neither clipped nor covered, for it is nobody's
    experiment, records, spends = experiment_of(name, optimiser="sgd"), records_of(60), []
    size = sum(value.size for value in START.values())
    own = np.full(size, 30.0, np.float32)  # far longer than the clip of 1
    Memory(tmp_path, "alpha", "run", 1).keep({"own": own})
    rule, _ = rule_of(strategy_of(experiment, None).rule, {"counted/alpha": np.array(1)}, Memory(tmp_path, "alpha", "run", 2))
    found = []
    for one in (rule, rule_of({}, {})[0]):
        secret = SecretRandom(b"k" * 32)
        short = experiment.model_copy(update={"train": experiment.train.model_copy(update={"steps": 1})})
        fitted = fit_private(short, START, records, rule=one, factor=1.0, seed=1, spend=spends.append, secret=secret)
        found.append(fitted.state)
    moved = np.concatenate([value.reshape(-1) for value in subtract(*found).values()])
    # w += s_i - s, g -= lambda_i, g += mu (w - w) = 0
    np.testing.assert_allclose(moved, {"scaffold": 30.0, "feddyn": 0.01 * 30.0, "fedprox": 0.0}[name], rtol=1e-4, atol=1e-5)
    assert [spent.steps for spent in spends] == [1, 1]


@pytest.mark.parametrize("name", ["scaffold", "apfl", "fedrep"])
def test_a_stopped_private_round_goes_on_to_the_same_memory_and_pays_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.training.private.SecretRandom", lambda: SecretRandom(b"k" * 32))
    found = []
    for stops in (False, True):
        experiment = experiment_of(name, steps=4)
        place = site_of(tmp_path / str(stops), "alpha", experiment)
        worker_of(place).handle(job_of(experiment))
        extra = {"counted/alpha": np.array(1)}
        if stops:
            looks = iter([False, True])
            with pytest.raises(Stopped):
                worker_of(place, stopping=lambda looks=looks: next(looks)).handle(job_of(experiment, round=2, extra=extra))
        update = worker_of(place).handle(job_of(experiment, round=2, extra=extra))
        assert update.code == ""
        assert len(Ledger(place).entries()) == 2
        found.append((digest(update.state), digest(read_state(max((place / "workspace" / "strategy").glob("*"))))))
    assert found[0] == found[1]
