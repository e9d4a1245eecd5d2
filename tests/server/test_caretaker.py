"""What a server does for itself over months: it warns again, and what Flower leaves of runs that are over goes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from server.caretaker import SWEEP_EVERY_S, WARN_EVERY_S, Caretaker, sweep_apps
from server.flower import write_bundle
from server.folder import ServerFolder, init_folder
from server.identity import make_server_certificate
from server.queue import Entry, Queue


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server(tmp_path: Path) -> ServerFolder:
    return init_folder(tmp_path / "server", name="c", address="a.example:1")


def unpacked(server: ServerFolder, run: str) -> Path:
    """What Flower leaves of a run: its app, under a name that says nothing of the run."""
    folder = server.flower_home / "apps" / f"fedild.fedild-run.0.1.0.{run[::-1][:8]}"
    write_bundle(folder, experiment="{}", run=run, sites=["a"], quorum=3)
    return folder


def test_apps_of_runs_that_are_over_go_and_the_others_stay(server: ServerFolder) -> None:
    queue, clock = Queue(server.path / "queue.db"), Clock()
    states = ("queued", "running", "interrupted", "stopped", "finished", "failed")
    folders = {}
    for number, state in enumerate(states):
        run = f"{number:016x}"
        queue.add(Entry(run, "e", ["a"], state))  # type: ignore[arg-type]
        folders[state] = unpacked(server, run)
    other = server.flower_home / "apps" / "someone.else.1.0.0.12345678"
    other.mkdir()
    odd = server.flower_home / "apps" / "fedild.fedild-run.0.1.0.odd"
    odd.mkdir()
    caretaker = Caretaker(server, queue, logging.getLogger("test-caretaker"), clock=clock)
    caretaker.step()
    assert [state for state, folder in folders.items() if folder.exists()] == ["queued", "running", "interrupted"]
    assert other.exists()
    assert odd.exists()
    queue.change(f"{1:016x}", state="finished")
    caretaker.step()
    assert folders["running"].exists(), "not at every step"
    clock.now += SWEEP_EVERY_S
    caretaker.step()
    assert not folders["running"].exists()


def test_nothing_to_sweep(tmp_path: Path) -> None:
    assert sweep_apps(tmp_path / "none", needed=set()) == 0


def test_a_certificate_is_warned_of_every_day(server: ServerFolder, caplog: pytest.LogCaptureFixture) -> None:
    make_server_certificate(server.secrets, hosts=["a.example"], days=20)
    clock, log = Clock(), logging.getLogger("test-caretaker")
    caretaker = Caretaker(server, Queue(server.path / "queue.db"), log, clock=clock)
    with caplog.at_level(logging.WARNING, log.name):
        for _ in range(3):
            for _ in range(10):
                caretaker.step()
                clock.now += WARN_EVERY_S / 10
    assert [record.__dict__["more"]["warning"] for record in caplog.records] == ["server.crt expires in 20 days: run `fedild server renew`"] * 3
