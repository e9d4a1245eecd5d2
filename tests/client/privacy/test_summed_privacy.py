"""Differential privacy, tiny hospitals and ledgers under the secure sum: through deployed workers and the server's own loop over rounds."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.approval import Approvals
from client.guards import Guards
from client.identity import make_site
from client.privacy.foresight import foreseen
from client.privacy.ledger import Ledger
from client.site import Site
from client.training.private_sums import clipped_sums, fit_private_sums
from client.training.rules import Plain
from client.training.units import units_of
from client.worker import Worker
from server.app import run_experiment
from server.runs.log import read_rounds
from server.runs.receipts import Receipts
from shared_models.core.choices import Choice
from shared_models.core.errors import Interrupted, Refused
from shared_models.core.files import read_json
from shared_models.core.randomness import SecretRandom
from shared_models.experiment import Experiment
from shared_models.secure_sum.roster import certify
from shared_models.secure_sum.vector import Part, decode, encode
from shared_models.signing import public_half, signing_key
from sim.check import faults
from tests.client.papers import CONSORTIUM, write_kit
from tests.client.sites import table_experiment, table_site
from tests.client.training.test_private_sums import STATES, model_of, records_of, state_of
from tests.client.training.test_private_sums import experiment_of as sums_of
from tests.server.loop_grid import LoopGrid, begin_here

SITES, CLIP, SIGMA = 4, 0.5, 3.0
NAMES = ("alpha", "beta", "gamma", "delta")
PUBLIC = {"name": "logistic", "centre": [10.0, 60.0], "spread": [4.0, 8.0]}


@pytest.mark.parametrize(("name", "rounds"), STATES)
def test_the_shares_of_the_sites_add_up_to_the_whole_noise(name: str, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.training.private_sums.build", lambda *_, **__: model)
    model, state = model_of(name), state_of(name, rounds)
    document = sums_of(name, noise_multiplier=SIGMA, clip=CLIP).model_dump(exclude_none=True)
    federation = {**document["federation"], "quorum": SITES, "secure_sum": True}
    experiment = Experiment.model_validate({**document, "privacy": {**document["privacy"], "noise_share": SITES}, "federation": federation})
    records = [records_of(name, patients, 1) for patients in (4, 5, 6, 7)]  # far fewer than would be claimed for alone
    parts, spends, noise = model.parts(state), [], []
    still = [clipped_sums(model, state, one, units_of(one, "patient"), clip=CLIP) for one in records]
    for trial in range(150 if len(still[0][parts[0]]) < 9 else 4):
        words = []
        for number, one in enumerate(records):
            secret = SecretRandom(bytes([trial, number]) * 16)
            fitted = fit_private_sums(experiment, state, one, rule=Plain(), factor=1.0, seed=0, spend=spends.append, summed=True, secret=secret)
            words.append(encode(Part(fitted.state, one.patients, {}), None, experiment, sites=SITES))
        total = decode(
            {key: np.asarray(np.sum([one[key] for one in words], axis=0, dtype=np.uint64)) for key in words[0]}, None, experiment, sites=SITES
        )
        noise.append(np.concatenate([(total.state[key] - np.sum([one[key] for one in still], axis=0)).ravel() for key in parts]))
    found = np.concatenate(noise)
    assert np.std(found) == pytest.approx(SIGMA * CLIP, rel=0.1)
    assert abs(found.mean()) < 5 * SIGMA * CLIP / math.sqrt(found.size)  # parts made possible one by one would lean to one side
    assert {(spent.sigma, spent.q, spent.steps) for spent in spends} == {(SIGMA, 1.0, 1)}


def experiment_of(*, private: bool = True, **more: Any) -> Experiment:
    document = table_experiment(Choice.model_validate(PUBLIC), rounds=2, quorum=3, retries=0).model_dump(exclude_none=True)
    document["federation"] |= {"secure_sum": True}
    if private:
        document["privacy"] = {"unit": "patient", "noise_multiplier": 4.0, "clip": 1.0, "noise_share": 3}
    return Experiment.model_validate({**document, **more})


class Hospitals:
    """Deployed workers on disk, and a server that asks them."""

    def __init__(self, folder: Path, experiment: Experiment, *, patients: dict[str, int], policy: str = "") -> None:
        self.experiment, self.folders = experiment, {}
        for seed, (name, count) in enumerate(patients.items()):
            home = table_site(folder, name, patients=count, seed=seed, toml=policy).parent
            write_kit(home / "kit.json", make_site(home, name))
            Approvals(home).decide("approved", kind="experiment", name=experiment.name, digest=experiment.digest)
            self.folders[name] = home
        self.keys = {name: public_half(signing_key(home / "secrets" / "signing.key")) for name, home in self.folders.items()}
        self.receipts = Receipts(folder / "receipts.json")
        self.told: list[list[str]] = []

    def worker(self, name: str) -> Worker:
        site = Site.load(self.folders[name] / "site.toml")
        return Worker(site, guards=Guards.of(site.folder, site.workspace))

    def run(self, out: Path, *, broken: set[str] | None = None) -> list[dict[str, Any]]:
        grid = LoopGrid({name: (lambda job, name=name: self.worker(name).handle(job)) for name in self.folders})
        grid.broken = broken or set()
        certificate = certify(out.name, self.keys, CONSORTIUM)
        given = {"keys": self.keys, "certificate": certificate, "receipts": self.receipts}
        run_experiment(grid, self.experiment, out, durable=False, sites=list(self.folders), waiting=self.told.append, **given)
        return read_rounds(out / "rounds.jsonl")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    begin_here(monkeypatch)


@pytest.fixture
def hospitals(tmp_path: Path) -> Hospitals:
    return Hospitals(tmp_path / "sites", experiment_of(), patients=dict.fromkeys(NAMES[:3], 100))


def test_private_sums_are_charged_for_the_noise_of_all(hospitals: Hospitals, tmp_path: Path) -> None:
    assert faults(hospitals.experiment) == []
    assert foreseen(hospitals.experiment, Site.load(hospitals.folders["alpha"] / "site.toml")) == []
    lines = hospitals.run(tmp_path / "run")
    assert [line["degraded"] for line in lines] == [False, False]
    for folder in hospitals.folders.values():
        entries = Ledger(folder).entries()
        assert [(one.round, one.sigma, one.q, one.steps, one.unit) for one in entries] == [(1, 4.0, 1.0, 1, "patient"), (2, 4.0, 1.0, 1, "patient")]


def test_a_ledger_put_back_is_noticed_under_the_secure_sum(hospitals: Hospitals, tmp_path: Path) -> None:
    beta = hospitals.folders["beta"]
    shutil.copytree(beta, tmp_path / "backup")
    hospitals.run(tmp_path / "run1")
    assert read_json(hospitals.receipts.path) == {name: Ledger(folder).receipt() for name, folder in hospitals.folders.items()}
    shutil.rmtree(beta)
    shutil.copytree(tmp_path / "backup", beta)
    with pytest.raises(Interrupted) as interrupted:
        hospitals.run(tmp_path / "run2")
    assert interrupted.value.value["refused"]["beta"] == "E_LEDGER"


def test_who_is_waited_for_is_said_under_the_secure_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.runs.exchange.ASK_AGAIN_S", ())
    hospitals = Hospitals(tmp_path / "sites", experiment_of(private=False), patients=dict.fromkeys(NAMES, 40))
    lines = hospitals.run(tmp_path / "run", broken={"gamma"})
    assert any("gamma" in sites for sites in hospitals.told)
    assert hospitals.told[-1] == []
    assert {tuple(line["missing"]) for line in lines} == {("gamma",)}


TINY: dict[str, int] = {"alpha": 4, "beta": 6, "gamma": 5}


@pytest.mark.parametrize(
    ("policy", "code"), [("[policy]\nmin_cases_in_sum = 2\n", None), ("", "E_FEW_CASES"), ("[policy]\nmin_cases_in_sum = 9\n", "E_FEW_CASES")]
)
def test_tiny_hospitals_take_part_through_the_sum(policy: str, code: str | None, tmp_path: Path) -> None:
    hospitals = Hospitals(tmp_path / "sites", experiment_of(private=False), patients=TINY, policy=policy)
    if code is not None:
        with pytest.raises(Interrupted) as interrupted:
            hospitals.run(tmp_path / "run")
        assert set(interrupted.value.value["refused"].values()) == {code}
        return
    lines = hospitals.run(tmp_path / "run")
    assert 3 <= lines[-1]["total"]["num_cases"] <= sum(TINY.values())
    assert all(site["num_cases"] == 0 and site["metrics"] == {} for site in lines[-1]["sites"].values())


def test_tiny_hospitals_send_nothing_in_clear(tmp_path: Path) -> None:
    plain = experiment_of(private=False)
    plain = plain.model_copy(update={"federation": plain.federation.model_copy(update={"secure_sum": None})})
    hospitals = Hospitals(tmp_path / "sites", plain, patients=TINY, policy="[policy]\nmin_cases_in_sum = 2\n")
    with pytest.raises(Interrupted) as interrupted:
        hospitals.run(tmp_path / "run")
    assert set(interrupted.value.value["refused"].values()) == {"E_FEW_CASES"}


def test_tiny_hospitals_can_be_private_together(tmp_path: Path) -> None:
    policy = "[policy]\nmin_cases_in_sum = 2\n[policy.privacy]\nleast_patients = 2\n"
    patients: dict[str, int] = dict.fromkeys(NAMES[:3], 9)  # some are kept for validation, by a hash of their names
    hospitals = Hospitals(tmp_path / "sites", experiment_of(), patients=patients, policy=policy)
    assert [line["degraded"] for line in hospitals.run(tmp_path / "run")] == [False, False]
    assert {entry.sigma for folder in hospitals.folders.values() for entry in Ledger(folder).entries()} == {4.0}


def test_alone_no_privacy_is_claimed_for_few(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        records = records_of("logistic", 10, 1)
        fit_private_sums(sums_of("logistic"), state_of("logistic", 1), records, rule=Plain(), factor=1.0, seed=0, spend=lambda spent: None)
    assert refused.value.code == "E_FEW_CASES"


NETWORK = {"model": {"name": "linear"}, "strategy": {"name": "fedavg", "weighting": "equal"}}
ONE_STEP = {"steps": 1, "optimiser": {"name": "sgd", "lr": 0.1}}
CHECKS: dict[str, tuple[dict[str, Any], str]] = {
    "exact sums": ({}, ""),
    "one step": ({**NETWORK, "train": ONE_STEP}, ""),
    "two steps": ({**NETWORK, "train": {**ONE_STEP, "steps": 2}}, "privacy.noise_share: the noise of several sites adds up"),
    "adam": ({**NETWORK, "train": {"steps": 1}}, "privacy.noise_share: the noise of several sites adds up"),
    "weights": ({**NETWORK, "strategy": {"name": "fedavg"}, "train": ONE_STEP}, "privacy.noise_share: the noise of several sites adds up"),
    "no secure sum": ({"federation": {"rounds": 2, "quorum": 3}}, "privacy.noise_share: without federation.secure_sum"),
    "no public scale": ({"model": {"name": "logistic"}}, "public scale"),
    "trees": ({"model": {"name": "forest"}, "federation": {"rounds": 2, "quorum": 3}}, "which no noise can hide"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_check_refuses_by_name_what_cannot_be_shared(name: str) -> None:
    settings, words = CHECKS[name]
    found = faults(experiment_of(**settings))
    assert found == [] if not words else any(words in fault for fault in found)
