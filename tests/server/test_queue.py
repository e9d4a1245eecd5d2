"""The queue: order, survival of every death, stops, resumes, and what ends a run for good. Flower is a few lines here."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.dispatcher import AGAIN_S, MOST_DEATHS, START_S, Dispatcher, Flower
from server.flower import FlowerFailed, environment
from server.folder import ServerFolder, init_folder
from server.orders import order_run, pull_run, seconds_of
from server.queue import Entry, Queue
from server.runs.place import HOME, folder_of
from server.runs.standing import Standing, degradation, read_standing
from server.sites import SiteEntry
from shared_models.core.errors import BadInput, FedILDError, Interrupted
from shared_models.core.files import read_json, write_json
from shared_models.experiment import Experiment


class Runs:
    """Flower's runs: number to status."""

    def __init__(self) -> None:
        self.status: dict[int, str] = {}
        self.stopped: list[int] = []
        self.away = False

    def start(self, server: ServerFolder, bundle: Path) -> int:
        if self.away:
            raise FlowerFailed("away")
        assert (bundle / "pyproject.toml").exists()
        number = 10**18 + len(self.status)
        self.status[number] = "running"
        return number

    def ask(self, server: ServerFolder, number: int) -> tuple[str, str]:
        if self.away:
            raise FlowerFailed("away")
        return self.status[number], ""

    def stop(self, server: ServerFolder, number: int) -> None:
        self.stopped.append(number)
        self.status[number] = "finished:stopped"


TOML = """
name = "tiny"
[data]
classes = ["a", "b"]
[model]
name = "logistic"
[federation]
rounds = 4
quorum = 3
"""


class World:
    def __init__(self, folder: Path) -> None:
        self.server = init_folder(folder / "server", name="c", address="a.example:1")
        entries = {name: {**SiteEntry(state="approved", node_id="1").__dict__} for name in ("alpha", "beta", "gamma", "delta")}
        write_json(self.server.path / "sites.json", entries)
        self.toml = folder / "tiny.toml"
        self.toml.write_text(TOML)
        self.runs, self.finished, self.now = Runs(), [], 1000.0
        self.queue = Queue(self.server.path / "queue.db")
        self.dispatcher = self.new_dispatcher()

    def new_dispatcher(self) -> Dispatcher:
        flower = Flower(self.runs.start, self.runs.ask, self.runs.stop)
        log = logging.getLogger("test-queue")
        return Dispatcher(self.server, self.queue, finish=self.finished.append, log=log, flower=flower, clock=lambda: self.now)

    def order(self, **more: Any) -> str:
        return order_run(self.server, str(self.toml), roster=["gamma", "alpha", "beta"], settings=[], **more)

    def step(self, seconds: float = 4.0, times: int = 1) -> None:
        for _ in range(times):
            self.now += seconds
            with contextlib.suppress(FlowerFailed):
                self.dispatcher.step()

    def number(self, run: str) -> str:
        return self.queue.get(run).flower_run

    def stands(self, run: str, status: str, *, round: int = 0, code: str = "") -> None:
        """What the server app of the present Flower run has written."""
        before = read_standing(self.server.run_folder(run)).get("flower_run_ids", [])
        ids = list(dict.fromkeys([*before, self.number(run)]))
        write_json(self.server.run_folder(run) / "run.json", {"status": status, "code": code, "reason": "why", "round": round, "flower_run_ids": ids})

    @contextlib.contextmanager
    def held(self, run: str) -> Iterator[None]:
        """A server app that is alive."""
        handle = os.open(self.server.run_folder(run) / "run.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(handle)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_order_makes_a_bundle_without_code(world: World) -> None:
    run = world.order(deadline="2h")
    folder = world.server.run_folder(run)
    assert sorted(path.name for path in (folder / "app").iterdir()) == ["README.md", "pyproject.toml"]
    text = (folder / "app" / "pyproject.toml").read_text()
    assert 'serverapp = "server.app:app"' in text
    assert 'sites = "alpha,beta,gamma"' in text
    assert f'run = "{run}"' in text
    experiment = Experiment.from_json((folder / "experiment.json").read_text())
    assert experiment.federation.deadline_s == 7200.0
    assert world.queue.get(run).sites == ["alpha", "beta", "gamma"]


def test_no_path_of_the_server_travels_to_the_sites(world: World) -> None:
    world.toml.write_text(TOML.replace("[data]", 'title = "hospitals of 2026"\n[data]'))
    run = world.order()
    for path in (world.server.run_folder(run) / "app").iterdir():
        for part in [str(world.server.path), str(Path.home()), "server.toml", *world.server.path.parts[1:-1]]:
            assert part not in path.read_text(), f"{path.name} names {part}"
    configuration = tomllib.loads((world.server.run_folder(run) / "app" / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert sorted(configuration) == ["experiment", "quorum", "run", "sites"]


def test_the_server_app_finds_the_folder_of_its_run_by_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.order()
    monkeypatch.setenv(HOME, environment(world.server)[HOME])
    assert folder_of(run) == world.server.run_folder(run)
    for bad in ("", ".", "..", "../runs", f"{run}/", f"{run}\n", run.upper() + "x", "0" * 16, f"../../{world.server.path.name}/runs/{run}"):
        with pytest.raises(BadInput):
            folder_of(bad)
    for home in ("", "relative"):
        monkeypatch.setenv(HOME, home)
        with pytest.raises(BadInput, match=HOME):
            folder_of(run)


@pytest.mark.parametrize("quorum", [1, 2, 4])
def test_a_quorum_is_at_least_three_and_at_most_the_roster(world: World, quorum: int) -> None:
    with pytest.raises(BadInput):
        world.order(quorum=quorum)
    assert world.queue.all() == []


@pytest.mark.parametrize("text", ["", "x", "-1s", "0", "1w", "1 h 2"])
def test_a_deadline_is_a_duration(text: str) -> None:
    with pytest.raises(BadInput):
        seconds_of(text)


def test_runs_go_one_after_another_in_order(world: World) -> None:
    first, second = world.order(), world.order()
    world.step()
    assert [world.queue.get(run).state for run in (first, second)] == ["running", "queued"]
    with world.held(first):
        world.stands(first, "running")
        world.step(times=30)
    assert len(world.runs.status) == 1
    world.stands(first, "finished", round=4)
    world.step(times=2)
    assert world.queue.get(first).state == "finished"
    assert world.finished == [world.server.run_folder(first)]
    assert world.queue.get(second).state == "running"


def test_a_dead_server_app_is_started_again_under_the_same_identifier(world: World) -> None:
    run = world.order()
    world.step()
    numbers = [world.number(run)]
    for death in range(3):
        world.stands(run, "running", round=death + 1)
        with world.held(run):
            world.step(times=3)
            assert world.number(run) == numbers[-1]
        world.step(times=3)  # the lock is free: it is dead; one look more, then a new start
        numbers.append(world.number(run))
        assert world.queue.get(run).state == "running"
    assert len(set(numbers)) == 4
    assert world.runs.stopped == [int(number) for number in numbers[:3]]
    assert world.queue.get(run).deaths == 1, "a death after progress counts anew"


def test_a_short_look_between_two_holders_is_no_death(world: World) -> None:
    run = world.order()
    world.step()
    world.stands(run, "running")
    world.step(0.5)
    with world.held(run):
        world.step(0.5)
    world.step(0.5)
    assert len(world.runs.status) == 1


def test_what_dies_at_the_same_place_again_and_again_has_failed(world: World) -> None:
    run = world.order()
    for _ in range(MOST_DEATHS + 5):
        world.step()
        if world.queue.get(run).state == "failed":
            break
        world.stands(run, "running", round=0)
        world.step(times=2)
    entry = world.queue.get(run)
    assert entry.state == "failed"
    assert "E_DIES" in entry.note
    assert len(world.runs.status) == MOST_DEATHS + 1


@pytest.mark.parametrize("status", ["finished:failed", "finished:stopped", "finished:completed"])
def test_flowers_word_counts_when_the_server_app_never_began(world: World, status: str) -> None:
    run = world.order()
    world.step()
    first = world.number(run)
    world.runs.status[int(first)] = status
    world.step(6.0, times=3)
    assert world.number(run) not in ("", first)


def test_a_server_app_that_never_starts_is_started_again(world: World) -> None:
    run = world.order()
    world.step()
    first = world.number(run)
    world.queue.path.touch()
    world.now = world.queue.get(run).changed + START_S / 2
    world.step(6.0)
    assert world.number(run) == first
    world.now += START_S
    world.step(6.0, times=2)
    assert world.number(run) != first


def test_an_interrupted_run_is_tried_again_with_growing_pauses(world: World) -> None:
    run = world.order()
    world.step()
    waited = []
    for _ in range(3):
        world.stands(run, "interrupted", code="E_QUORUM")
        world.step()
        entry = world.queue.get(run)
        assert entry.state == "interrupted"
        assert "E_QUORUM" in entry.note
        waited.append(entry.not_before - world.now)
        world.step(waited[-1] - 1)
        assert world.queue.get(run).state == "interrupted"
        world.step(2)
        assert world.queue.get(run).state == "running"
    assert waited == list(AGAIN_S[:3])


def test_an_interrupted_run_holds_nobody_up(world: World) -> None:
    first = world.order()
    world.step()
    second = world.order()
    world.stands(first, "interrupted")
    world.step(times=2)
    assert world.queue.get(second).state == "running"


def test_a_fault_that_would_come_again_ends_the_run(world: World) -> None:
    run = world.order()
    world.step()
    world.stands(run, "failed", code="E_LAYOUT")
    world.step()
    assert (world.queue.get(run).state, world.queue.get(run).note) == ("failed", "E_LAYOUT why")
    world.step(times=5)
    assert len(world.runs.status) == 1


def test_a_report_that_cannot_be_written_is_said_once_and_the_run_can_be_resumed(world: World) -> None:
    run, calls = world.order(), []

    def finish(folder: Path) -> None:
        calls.append(folder)
        raise OSError(28, "no space left")

    world.dispatcher.finish = finish
    world.step()
    world.stands(run, "finished", round=4)
    world.step(times=5)
    assert len(calls) == 1
    assert (world.queue.get(run).state, world.queue.get(run).note[:8]) == ("failed", "E_REPORT")
    world.dispatcher.finish = world.finished.append
    world.queue.resume(run)
    world.step()
    world.stands(run, "finished", round=4)
    world.step()
    assert world.queue.get(run).state == "finished"
    assert len(world.finished) == 1


def test_stop_and_resume(world: World) -> None:
    run = world.order()
    world.step()
    world.queue.stop(run)
    with world.held(run):
        world.step()
    assert world.queue.get(run).state == "stopped"
    assert len(world.runs.stopped) == 1
    world.step(times=5)
    assert len(world.runs.status) == 1
    world.queue.resume(run)
    world.step()
    assert world.queue.get(run).state == "running"
    with pytest.raises(BadInput):
        world.queue.resume(run)


def test_a_queued_run_is_stopped_at_once_and_a_finished_one_not_at_all(world: World) -> None:
    run = world.order()
    world.queue.stop(run)
    assert world.queue.get(run).state == "stopped"
    world.queue.change(run, state="finished")
    for do in (world.queue.stop, world.queue.resume):
        with pytest.raises(BadInput):
            do(run)


def test_a_superlink_that_is_away_costs_nothing_but_time(world: World) -> None:
    run = world.order()
    world.runs.away = True
    world.step(times=3)
    assert world.queue.get(run).state == "running"
    assert world.number(run) == ""
    world.runs.away = False
    world.step(200.0)
    assert len(world.runs.status) == 1
    world.stands(run, "running")
    world.runs.away = True
    with world.held(run):
        world.step(30.0, times=5)
    world.runs.away = False
    assert world.queue.get(run).state == "running"
    assert world.queue.get(run).deaths == 0


def test_a_supervisor_that_was_killed_is_followed_by_one_that_knows_as_much(world: World) -> None:
    run = world.order()
    world.step()
    number = world.number(run)
    world.dispatcher = world.new_dispatcher()
    world.stands(run, "running")
    with world.held(run):
        world.step(times=5)
    assert world.number(run) == number
    world.queue.change(run, flower_run="")  # killed between the two halves of a start
    world.dispatcher = world.new_dispatcher()
    world.step()
    assert world.number(run) not in ("", number)


def test_unknown_runs_are_named(world: World) -> None:
    for do in (world.queue.get, world.queue.stop, world.queue.resume, world.server.run_folder):
        with pytest.raises(BadInput):
            do("nosuchrun")


def test_the_table_keeps_every_field(world: World) -> None:
    entry = Entry("r1", "e", ["a", "b"], "interrupted", "stop", "12345678901234567890", 3, 2, 7, "note", 0.0, 0.0, 5.5)
    world.queue.add(entry)
    assert world.queue.get("r1") == entry


def test_nothing_is_pulled_before_the_end_and_all_of_it_after(world: World, tmp_path: Path) -> None:
    run = world.order()
    with pytest.raises(BadInput):
        pull_run(world.server, run, tmp_path / "out")
    folder = world.server.run_folder(run)
    write_json(folder / "bundle" / "manifest.json", {})
    write_json(folder / "metrics.json", {})
    (folder / "checkpoints").mkdir()
    out = pull_run(world.server, run, tmp_path / "out")
    assert sorted(path.name for path in out.iterdir()) == ["bundle", "experiment.json", "metrics.json"]
    with pytest.raises(BadInput):
        pull_run(world.server, run, out)


# --- run.json ---


def _experiment() -> Experiment:
    return Experiment.from_json('{"name":"tiny","data":{"classes":["a","b"]},"model":{"name":"logistic"},"federation":{"rounds":4}}')


def _stand(folder: Path, number: int = 1) -> Standing:
    return Standing(folder, experiment=_experiment(), sites=["b", "a"], flower_run=number)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (None, "finished", ""),
        (Interrupted("few", code="E_QUORUM"), "interrupted", "E_QUORUM"),
        (BadInput("bad"), "failed", "E_INPUT"),
        (FedILDError("x"), "failed", "E_FAILED"),
        (OSError(28, "no space"), "interrupted", "E_SYSTEM"),
        (ValueError("bug"), "failed", "E_SERVER_APP"),
        (SystemExit(1), "running", ""),
        (KeyboardInterrupt(), "running", ""),
    ],
)
def test_the_outcome_is_written(tmp_path: Path, error: BaseException | None, status: str, code: str) -> None:
    with contextlib.suppress(BaseException), _stand(tmp_path):
        if error is not None:
            raise error
    found = read_json(tmp_path / "run.json")
    assert (found["status"], found["code"]) == (status, code)
    assert found["sites"] == [{"name": "a", "role": "training"}, {"name": "b", "role": "training"}]


def test_a_second_start_keeps_the_first_ones_number_and_date(tmp_path: Path) -> None:
    with _stand(tmp_path, 11) as standing:
        standing.waiting(["b"])
        start = read_standing(tmp_path)["start"]
        assert read_standing(tmp_path)["waiting_for"] == ["b"]
    with _stand(tmp_path, 12):
        found = read_standing(tmp_path)
    assert found["flower_run_ids"] == ["11", "12"]
    assert found["start"] == start


def test_degradation_names_sites_rounds_and_shares() -> None:
    full = {"round": 1, "missing": [], "sites": {"a": {"num_cases": 60}, "b": {"num_cases": 30}, "c": {"num_cases": 10}}}
    short = {"round": 2, "missing": ["c"], "sites": {"a": {"num_cases": 60}, "b": {"num_cases": 30}, "c": {"num_cases": 0}}}
    never = {"round": 3, "missing": ["c", "d"], "sites": {"a": {"num_cases": 60}, "b": {"num_cases": 30}}}
    assert degradation([full]) == {"degraded": False, "missing": {}}
    found = degradation([full, short, never])
    assert found == {"degraded": True, "missing": {"c": {"rounds": [2, 3], "share": 0.1}, "d": {"rounds": [3], "share": None}}}
