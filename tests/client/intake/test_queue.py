"""The queue outlives whoever works on it, and holds nothing but keyed names and fixed words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.intake.queue import MAX_ATTEMPTS, Queue
from shared_models.core.errors import BadInput

WORK = """
import sys, time
from pathlib import Path
from client.intake.queue import Queue
queue = Queue(Path(sys.argv[1]))
with queue.work("fetch"):
    for item in queue.items("fetch", "waiting"):
        queue.begin("fetch", item.name)
        if item.name == "poison":
            print("working", flush=True)
            time.sleep(60)
        queue.end("fetch", item.name, state="done")
"""


def test_states_and_stamps(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    assert queue.add("fetch", {"a": "1", "b": "1"}) == 2
    queue.begin("fetch", "a")
    queue.end("fetch", "a", state="done")
    queue.end("fetch", "b", state="failed", reason="NOT_FOUND")
    assert queue.add("fetch", {"a": "1", "b": "1"}) == 0  # the same work stays done and failed
    assert queue.add("fetch", {"a": "2"}) == 1  # other content is other work
    assert queue.counts()["fetch"] == {"waiting": 1, "working": 0, "done": 0, "failed": 1}
    assert [(item.name, item.reason) for item in Queue(tmp_path).items(state="failed")] == [("b", "NOT_FOUND")]
    assert queue.retry(["b"]) == 1
    assert queue.counts()["fetch"]["waiting"] == 2
    queue.forget("fetch", ["a", "b"])
    assert queue.items() == []
    with pytest.raises(BadInput):
        queue.add("cook", {"a": ""})
    with pytest.raises(BadInput, match="only what failed"):
        queue.retry(["zz"])


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    with Queue(tmp_path / "w").work("fetch"):
        Queue(tmp_path / "w").add("fetch", {"a": ""})
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "w").iterdir()}
    assert modes == {0o600}
    assert (tmp_path / "w").stat().st_mode & 0o777 == 0o700


def test_a_killed_workers_item_is_taken_up_again_but_not_for_ever(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.add("fetch", {"good": "", "poison": ""})
    for attempt in range(1, MAX_ATTEMPTS + 1):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORK, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
        )
        assert worker.stdout is not None and worker.stdout.readline() == b"working\n"
        with pytest.raises(BadInput, match="once in a folder"), queue.work("fetch"):
            pass
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        (left,) = queue.items("fetch", "working")
        assert (left.name, left.attempts) == ("poison", attempt)
    with queue.work("fetch"):
        assert [(item.name, item.state, item.reason) for item in queue.items()] == [("good", "done", ""), ("poison", "failed", "FAILED")]


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from client.intake.queue import Queue\nq = Queue(Path(sys.argv[1]))\n"
    code += "for n in range(100): q.add('fetch', {f'{sys.argv[2]}{n}': ''})"
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    began = time.monotonic()
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], env=env) for name in "ab"]
    assert [one.wait(timeout=60) for one in both] == [0, 0]
    assert Queue(tmp_path).counts()["fetch"]["waiting"] == 200
    assert time.monotonic() - began < 30
