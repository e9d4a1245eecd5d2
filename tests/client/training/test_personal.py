"""What is a site's own: it trains with it, keeps it on its disk over restarts, and sends none of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from client.privacy.quiet import quiet
from client.site import Site
from client.training.memory import Memory
from client.training.personal import kept_keys
from client.worker import Worker
from shared_models.catalogue import initial_state
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice
from shared_models.core.state import digest, distance
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update
from tests.client.sites import patch_experiment, patch_site

EXPERIMENT = patch_experiment()
START = initial_state(EXPERIMENT.model, inputs=1, outputs=2, seed=0)
FEDPER = {"name": "personal", "keep": ["head"]}
FEDBN = {"name": "personal", "keep": ["normalisation"]}
RULES: dict[str, dict[str, Any]] = {
    "fedper": FEDPER,
    "fedbn": FEDBN,
    "fedrep": {"name": "fedrep", "keep": ["head"], "head_share": 0.5},
    "ditto": {"name": "ditto", "pull": 0.5},
    "scaffold": {"name": "scaffold"},
    "feddyn": {"name": "feddyn", "alpha": 0.1},
}


def ask(worker: Worker, rule: dict[str, Any], *, round: int = 1, state: State = START, kind: Any = "fit", extra: State | None = None) -> Update:
    update = worker.handle(Job("run", round, kind, state, EXPERIMENT.to_json(), rule=rule, extra=extra or {}))
    assert update.code == ""
    return update


def memory(worker: Worker, *, after: int = 1) -> State:
    return Memory(worker.site.workspace / "strategy", worker.site.site.name, "run", after + 1).before()


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(Site.load(patch_site(tmp_path, "alpha")))


@pytest.mark.parametrize("name", ["fedper", "fedbn", "fedrep"])
def test_personal_parts_come_back_as_they_went_and_the_rest_is_trained(name: str, worker: Worker) -> None:
    update, own = ask(worker, RULES[name]), memory(worker)
    assert own
    for key, value in START.items():
        sent = update.state[key].tobytes() == value.tobytes()
        assert sent == (key in own) or not value.size
    assert all(own[key].tobytes() != START[key].tobytes() for key in own)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_restarted_site_goes_on_to_the_same_bits(name: str, worker: Worker) -> None:
    extra = {"counted/alpha": np.array(1)}
    first = ask(worker, RULES[name])
    going = ask(worker, RULES[name], round=2, state=first.state, extra=extra)
    again = ask(Worker(worker.site), RULES[name], round=2, state=first.state, extra=extra)
    forgetful = ask(worker, {"name": "plain"}, round=2, state=first.state)
    assert digest(going.state) == digest(again.state)
    assert name == "ditto" or digest(going.state) != digest(forgetful.state)
    assert {path.stat().st_mode & 0o777 for path in (worker.site.workspace / "strategy").glob("*")} == {0o600}


def test_a_site_is_judged_with_what_is_its_own(worker: Worker) -> None:
    for number in (1, 2, 3):
        update = ask(worker, RULES["ditto"], round=number)
    assert update.metrics["val_loss"] != ask(worker, {"name": "plain"}, round=4).metrics["val_loss"]
    own, plain = (ask(worker, rule, round=3, kind="judge").metrics["val_loss"] for rule in (RULES["ditto"], {}))
    assert own != plain


def test_ditto_sends_what_fedavg_sends_and_its_own_model_feels_the_pull(worker: Worker, tmp_path: Path) -> None:
    lengths = []
    for number, pull in enumerate((0.01, 50.0)):
        one = Worker(Site.load(patch_site(tmp_path / str(number), "alpha")))
        update = ask(one, {"name": "ditto", "pull": pull})
        assert digest(update.state) == digest(ask(worker, {"name": "plain"}).state)
        ask(one, {"name": "ditto", "pull": pull}, round=2)
        lengths.append(distance(memory(one, after=2), START))
    assert lengths[1] < lengths[0]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_fedrep_trains_one_part_at_a_time(share: float, worker: Worker) -> None:
    update, own = ask(worker, {"name": "fedrep", "keep": ["head"], "head_share": share}), memory(worker)
    assert (digest(update.state) == digest(START)) == (share == 1.0)
    assert all((own[key].tobytes() == START[key].tobytes()) == (share == 0.0) for key in own)


@pytest.mark.parametrize("keep", [("nothing.*",), ("*",)])
def test_parts_that_are_none_or_all(keep: tuple[str, ...]) -> None:
    with pytest.raises(BadChoice, match="some of the network"):
        kept_keys(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), keep)


def test_a_private_experiment_trains_nothing_of_its_own(worker: Worker) -> None:
    private = Experiment.model_validate({**EXPERIMENT.model_dump(), "privacy": {"unit": "record", "noise_multiplier": 1.0, "delta": 1e-3}})
    update = worker.handle(Job("run", 1, "fit", START, private.to_json(), rule=FEDPER))
    assert update.code == "E_REFUSED"
    assert not (worker.site.workspace / "strategy").exists()


def test_the_memory_is_written_where_training_may_write(worker: Worker) -> None:
    with quiet(worker._places):
        Memory(worker.site.workspace / "strategy", "alpha", "run", 1).keep({"own": np.zeros(3)})
        Memory(worker.site.workspace / "strategy", "alpha", "run", 3).keep({"own": np.ones(3)})
    assert memory(worker, after=3)["own"].tolist() == [1.0, 1.0, 1.0]
