"""Signed updates: what a site did not sign, or signed for another round, run or model, touches nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.runs.checkpoint import RoundState
from server.runs.roster import SigningKeys
from server.runs.rounds import RoundRecord, judge, run_rounds
from server.strategies.fedavg import fedavg
from shared_models.core.choices import Choice
from shared_models.core.state import digest
from shared_models.experiment import Data, Experiment, Federation
from shared_models.messages import Job, Update, signed_bytes
from shared_models.signing import public_half, sign
from tests.server.loop_grid import LoopGrid

CURRENT = {"w": np.zeros((2, 3), np.float32)}
SECRETS = {name: name.encode().ljust(32, b".") for name in ("alpha", "beta", "gamma", "delta")}
KEYS = {name: public_half(secret) for name, secret in SECRETS.items()}
EXPERIMENT = Experiment(
    name="signed", data=Data(classes=("a", "b")), model=Choice(name="mil_cnn"), federation=Federation(rounds=2, quorum=3, deadline_s=5)
)


def plain(job: Job, site: str) -> Update:
    return Update(run=job.run, round=job.round, site=site, state={"w": job.state["w"] + len(site)}, num_cases=10, steps=1, metrics={"val_loss": 0.5})


def signed(update: Update, signer: str = "") -> Update:
    return replace(update, signature=sign(SECRETS[signer or update.site], signed_bytes(update)))


HONEST: dict[str, Callable[[Job], Update]] = {name: (lambda job, name=name: signed(plain(job, name))) for name in ("alpha", "beta", "gamma")}

BAD: dict[str, Callable[[Job], Update]] = {
    "unsigned": lambda job: plain(job, "delta"),
    "signed by another site": lambda job: signed(plain(job, "delta"), "alpha"),
    "weights changed": lambda job: replace(signed(plain(job, "delta")), state={"w": job.state["w"] + 1}),
    "patients changed": lambda job: replace(signed(plain(job, "delta")), num_cases=1000),
    "metrics changed": lambda job: replace(signed(plain(job, "delta")), metrics={"val_loss": 0.1}),
    "signature of another round": lambda job: replace(plain(job, "delta"), signature=signed(replace(plain(job, "delta"), round=7)).signature),
    "signature of another run": lambda job: replace(plain(job, "delta"), signature=signed(replace(plain(job, "delta"), run="other")).signature),
}


def run(folder: Path, sites: dict[str, Callable[[Job], Update]], keys: dict[str, str]) -> tuple[RoundState, list[RoundRecord], LoopGrid]:
    grid, records = LoopGrid(sites), []
    final = run_rounds(
        fedavg(None),
        grid,
        RoundState("0123", 0, CURRENT, {}, EXPERIMENT.digest),
        experiment=EXPERIMENT,
        roster=dict(grid.names),
        model=None,
        folder=folder,
        on_round=lambda record, at: records.append(record),
        durable=False,
        keys=keys,
    )
    return final, records, grid


@pytest.mark.parametrize("name", BAD)
def test_the_others_go_on_without_it(name: str, tmp_path: Path) -> None:
    without, _, _ = run(tmp_path / "a", HONEST, KEYS)
    final, records, grid = run(tmp_path / "b", {**HONEST, "delta": BAD[name]}, KEYS)
    assert digest(final.state) == digest(without.state)
    assert [record.sites["delta"].refused for record in records] == ["E_SIGNATURE"] * 2
    assert set(judge(grid, final, experiment=EXPERIMENT, roster=dict(grid.names), keys=KEYS)) == set(HONEST)


def test_a_signed_fourth_site_counts(tmp_path: Path) -> None:
    final, records, _ = run(tmp_path, {**HONEST, "delta": lambda job: signed(plain(job, "delta"))}, KEYS)
    assert [record.missing for record in records] == [[], []]
    assert final.state["w"][0, 0] != run(tmp_path / "without", HONEST, KEYS)[0].state["w"][0, 0]


def test_a_site_without_a_registered_key_is_refused(tmp_path: Path) -> None:
    for keys in ({**KEYS, "delta": ""}, {name: KEYS[name] for name in HONEST}):
        _, records, _ = run(tmp_path / str(len(keys)), {**HONEST, "delta": lambda job: signed(plain(job, "delta"))}, keys)
        assert {record.sites["delta"].refused for record in records} == {"E_SIGNATURE"}


def test_keys_come_from_the_register(tmp_path: Path) -> None:
    register = tmp_path / "sites.json"
    keys = SigningKeys(register, ["alpha", "beta", "gamma"])
    assert dict(keys) == {"alpha": "", "beta": "", "gamma": ""}
    entries = {"alpha": {"state": "approved", "signing_key": "aa"}, "beta": {"state": "revoked", "signing_key": "bb"}}
    register.write_text(json.dumps(entries))
    assert dict(keys) == {"alpha": "aa", "beta": "", "gamma": ""}
    entries["alpha"]["signing_key"] = "cc"  # rotated while a run is on its way
    register.write_text(json.dumps(entries))
    assert keys["alpha"] == "cc"
    entries["alpha"]["state"] = "revoked"
    register.write_text(json.dumps(entries))
    assert keys["alpha"] == ""
    assert keys.get("omega", "") == ""
