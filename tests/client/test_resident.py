"""The worker as a process: it answers over its socket, only for approved work, ends on SIGTERM, and is one a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.app import over_socket
from client.approval import Approvals
from client.audit import AuditLog
from client.identity import make_site
from client.line import ask
from client.resident import is_listening, serve, socket_path
from shared_models.core.errors import BadInput, Refused
from shared_models.messages import Job, Update, signed_bytes
from shared_models.signing import public_half, signing_key, verifies
from tests.client.sites import table_experiment, table_site
from tests.client.test_worker import job_of

NOT_APPROVED = "E_NOT_APPROVED"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = table_site(tmp_path, "a").parent
    make_site(folder, "a")
    return folder


@pytest.fixture
def served(site: Path) -> Iterator[Path]:
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(site,), kwargs={"stop": stop})
    thread.start()
    _wait_for(site)
    yield site
    stop.set()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert not socket_path(site).exists()


def _wait_for(folder: Path) -> None:
    until = time.monotonic() + 60
    while not is_listening(socket_path(folder)):
        assert time.monotonic() < until, "the worker does not answer"
        time.sleep(0.05)


def test_only_approved_work_is_done(served: Path) -> None:
    experiment = table_experiment()
    job = job_of(experiment)
    assert ask(socket_path(served), Job(run="run", round=0, kind="hello")) == Update(run="run", round=0, site="a")
    refused = ask(socket_path(served), job)
    assert refused == Update(run="run", round=1, site="a", code=NOT_APPROVED)
    assert not (served / "workspace" / "what-left.jsonl").exists()
    Approvals(served).decide("approved", kind="experiment", name="table", digest=experiment.digest)
    done = ask(socket_path(served), job)
    assert done.code == ""
    assert done.state["n"] > 0
    judged = ask(socket_path(served), replace(job, kind="judge", round=3))
    assert judged.code == ""
    Approvals(served).decide("revoked", kind="experiment", name="table", digest=experiment.digest)
    assert ask(socket_path(served), job).code == NOT_APPROVED  # not even the answer that was given before
    events = [entry["event"] for entry in AuditLog(served).entries()]
    assert events == ["pending", "refused", "approved", "released", "released", "revoked", "refused"]
    assert AuditLog(served).verify() == len(events)


def test_what_leaves_is_signed(served: Path) -> None:
    experiment = table_experiment()
    Approvals(served).decide("approved", kind="experiment", name="table", digest=experiment.digest)
    update = ask(socket_path(served), job_of(experiment))
    public = public_half(signing_key(served / "secrets" / "signing.key"))
    assert verifies(public, signed_bytes(update), update.signature)
    changed = {**update.state, "n": update.state["n"] + 1}
    for other in (
        replace(update, state=changed),
        replace(update, round=2),
        replace(update, run="other"),
        replace(update, num_cases=999),
        replace(update, metrics={**update.metrics, "val_loss": 0.0}),
        replace(update, extra={"x": np.zeros(1)}),
    ):
        assert not verifies(public, signed_bytes(other), update.signature)


def test_names_from_the_server_that_are_no_plain_words_are_refused_and_written_nowhere(served: Path) -> None:
    lines = AuditLog(served).verify()
    job = replace(job_of(table_experiment()), run="Doe^Jonathan /data\n" * 3)
    with pytest.raises(Refused) as refused:
        ask(socket_path(served), job)
    assert refused.value.code.startswith("E_")
    assert not [path for path in served.rglob("*") if path.is_file() and b"Jonathan" in path.read_bytes()]
    assert AuditLog(served).verify() == lines


def test_one_worker_a_folder(served: Path) -> None:
    with pytest.raises(BadInput, match="once in a folder"):
        serve(served, stop=threading.Event())


@pytest.mark.parametrize("fault", ["open key", "no key", "approvals changed"])
def test_what_does_not_start(fault: str, site: Path) -> None:
    if fault == "open key":
        (site / "secrets" / "signing.key").chmod(0o644)
    elif fault == "no key":
        (site / "secrets" / "node.key").unlink()
    else:
        (site / "approvals.jsonl").write_text("{}\n")
    with pytest.raises(Refused) as refused:
        serve(site, stop=threading.Event())
    assert refused.value.code in ("E_KEY_FILE", "E_APPROVALS")
    assert not socket_path(site).exists()


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="bytes"):
        socket_path(tmp_path / ("x" * 120))


def test_sigterm_and_sigkill(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.app.PAUSES_S", (0.2,) * 300)
    monkeypatch.setenv("FEDILD_SOCKET", str(socket_path(site)))
    hello = Job(run="r", round=0, kind="hello")
    first = _process(site)
    assert socket_path(site).stat().st_mode & 0o777 == 0o600
    first.send_signal(signal.SIGKILL)
    first.wait()
    answers: list[Update] = []
    messenger = threading.Thread(target=lambda: answers.append(over_socket(hello, None)))  # type: ignore[arg-type]
    messenger.start()  # asks while nobody is there, and is answered by the next worker
    second = _process(site)
    messenger.join(timeout=60)
    assert answers == [Update(run="r", round=0, site="a")]
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=30) == 0
    assert not socket_path(site).exists()
    lines = [json.loads(line)["event"] for line in (site / "logs" / "worker.log").read_text().splitlines()]
    assert sum(line.startswith("worker up") for line in lines) == 2
    assert lines[-1] == "worker down"
    assert (site / "logs" / "worker.log").stat().st_mode & 0o777 == 0o600


def test_a_messenger_without_a_worker_gives_up(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.app.PAUSES_S", (0.01, 0.01))
    monkeypatch.setenv("FEDILD_SOCKET", str(socket_path(site)))
    with pytest.raises(Refused) as refused:
        over_socket(Job(run="r", round=0, kind="hello"), None)  # type: ignore[arg-type]
    assert refused.value.code == "E_NO_WORKER"


def _process(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-m", "client.resident", str(folder)], env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    _wait_for(folder)
    return process
