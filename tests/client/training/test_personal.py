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
from client.training.personal_models import KEPT, PERSONAL, beside, keep_beside
from client.training.stand import part_of
from client.worker import Worker
from shared_models.catalogue import initial_state
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice, BadInput, BadState
from shared_models.core.state import digest, distance
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
    "moon": {"name": "moon", "mu": 5.0, "tau": 0.5},
    "apfl": {"name": "apfl", "alpha": 0.5, "adapt": 0.1},
}
BESIDE = ("ditto", "apfl")
"""Rules with a second model, under which the network trains as in FedAvg."""


def ask(worker: Worker, rule: dict[str, Any], *, round: int = 1, state: State = START, kind: Any = "fit", extra: State | None = None) -> Update:
    update = worker.handle(Job("run", round, kind, state, EXPERIMENT.to_json(), rule=rule, extra=extra or {}))
    assert update.code == ""
    return update


def memory(worker: Worker, *, after: int = 1) -> State:
    return Memory(worker.site.workspace / "strategy", worker.site.site.name, "run", after + 1, EXPERIMENT.digest).before()


def own(worker: Worker, *, after: int = 1) -> State:
    return part_of(memory(worker, after=after), PERSONAL)


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(Site.load(patch_site(tmp_path, "alpha")))


@pytest.mark.parametrize("name", ["fedper", "fedbn", "fedrep"])
def test_personal_parts_come_back_as_they_went_and_the_rest_is_trained(name: str, worker: Worker) -> None:
    update, kept = ask(worker, RULES[name]), own(worker)
    assert kept
    for key, value in START.items():
        sent = update.state[key].tobytes() == value.tobytes()
        assert sent == (key in kept) or not value.size
    assert all(kept[key].tobytes() != START[key].tobytes() for key in kept)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_restarted_site_goes_on_to_the_same_bits(name: str, worker: Worker) -> None:
    extra = {"counted/alpha": np.array(1)}
    first = ask(worker, RULES[name])
    going, known = ask(worker, RULES[name], round=2, state=first.state, extra=extra), digest(memory(worker, after=2))
    again = ask(Worker(worker.site), RULES[name], round=2, state=first.state, extra=extra)
    assert digest(memory(worker, after=2)) == known != digest(memory(worker))
    forgetful = ask(worker, {"name": "plain"}, round=2, state=first.state)
    assert digest(going.state) == digest(again.state)
    assert (digest(going.state) == digest(forgetful.state)) == (name in BESIDE)
    assert {path.stat().st_mode & 0o777 for path in (worker.site.workspace / "strategy").glob("*")} == {0o600}


@pytest.mark.parametrize("name", BESIDE)
def test_a_site_is_judged_with_what_is_its_own(name: str, worker: Worker) -> None:
    for number in (1, 2, 3):
        update = ask(worker, RULES[name], round=number)
    assert update.metrics["val_loss"] != ask(worker, {"name": "plain"}, round=4).metrics["val_loss"]
    mine, plain = (ask(worker, rule, round=3, kind="judge").metrics["val_loss"] for rule in (RULES[name], {}))
    assert mine != plain


@pytest.mark.parametrize("name", [*BESIDE, "fedper", "fedbn", "fedrep", "scaffold", "moon"])
def test_the_personal_model_stays_beside_the_released_one(name: str, worker: Worker) -> None:
    update = ask(worker, RULES[name])
    ask(worker, RULES[name], state=update.state, kind="judge")
    if name in ("scaffold", "moon"):
        assert not (worker.site.workspace / "personal").exists()
        return
    found = beside(worker.site.workspace, update.state)
    kept = own(worker)
    for key, value in update.state.items():
        expected = value + 0.5 * (kept[key] - value) if name == "apfl" else kept.get(key, value)  # round 1 begins with v = w: alpha stays
        np.testing.assert_allclose(found[key], expected, rtol=1e-6)
    assert {path.stat().st_mode & 0o777 for path in (worker.site.workspace / "personal").glob("*")} == {0o600}
    with pytest.raises(BadInput, match="use the release itself"):
        beside(worker.site.workspace, START)


def test_personal_models_of_the_last_releases_stay(tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        keep_beside(tmp_path, {"w": np.array([float(number)])}, {"personal/w": np.array([-1.0])})
    assert len(list((tmp_path / "personal").glob("*"))) == KEPT
    assert beside(tmp_path, {"w": np.array([KEPT + 2.0])})["w"] == [-1.0]
    with pytest.raises(BadState):
        keep_beside(tmp_path, {"w": np.zeros(2)}, {"personal/w": np.zeros(3)})


def test_apfl_sends_what_fedavg_sends_and_a_mixture_of_nothing_is_the_global_model(worker: Worker) -> None:
    update = ask(worker, {"name": "apfl", "alpha": 0.0, "adapt": 0.0})
    assert digest(update.state) == digest(ask(worker, {"name": "plain"}).state)
    mine, plain = (ask(worker, rule, kind="judge", state=update.state).metrics for rule in ({"name": "apfl", "alpha": 0.0, "adapt": 0.0}, {}))
    assert mine == plain


def test_apfl_with_a_share_of_one_is_a_site_that_trains_alone(worker: Worker, tmp_path: Path) -> None:
    alone = Worker(Site.load(patch_site(tmp_path / "other", "alpha")))
    state = START
    for number in (1, 2):
        ask(worker, {"name": "apfl", "alpha": 1.0, "adapt": 0.0}, round=number)
        state = ask(alone, {"name": "plain"}, round=number, state=state).state
    for key, value in own(worker, after=2).items():
        np.testing.assert_allclose(value, state[key], atol=1e-6)


def test_ditto_sends_what_fedavg_sends_and_its_own_model_feels_the_pull(worker: Worker, tmp_path: Path) -> None:
    lengths = []
    for number, pull in enumerate((0.01, 50.0)):
        one = Worker(Site.load(patch_site(tmp_path / str(number), "alpha")))
        update = ask(one, {"name": "ditto", "pull": pull})
        assert digest(update.state) == digest(ask(worker, {"name": "plain"}).state)
        ask(one, {"name": "ditto", "pull": pull}, round=2)
        lengths.append(distance(own(one, after=2), START))
    assert lengths[1] < lengths[0]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_fedrep_trains_one_part_at_a_time(share: float, worker: Worker) -> None:
    update, kept = ask(worker, {"name": "fedrep", "keep": ["head"], "head_share": share}), own(worker)
    assert (digest(update.state) == digest(START)) == (share == 1.0)
    assert all((kept[key].tobytes() == START[key].tobytes()) == (share == 0.0) for key in kept)


@pytest.mark.parametrize("keep", [("nothing.*",), ("*",)])
def test_parts_that_are_none_or_all(keep: tuple[str, ...]) -> None:
    with pytest.raises(BadChoice, match="some of the network"):
        kept_keys(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), keep)


def test_the_memory_is_written_where_training_may_write(worker: Worker) -> None:
    with quiet(worker._places):
        Memory(worker.site.workspace / "strategy", "alpha", "run", 1, EXPERIMENT.digest).keep({"own": np.zeros(3)})
        Memory(worker.site.workspace / "strategy", "alpha", "run", 3, EXPERIMENT.digest).keep({"own": np.ones(3)})
    assert memory(worker, after=3)["own"].tolist() == [1.0, 1.0, 1.0]
