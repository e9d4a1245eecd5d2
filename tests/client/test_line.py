"""The socket between messenger and worker, and the messenger over it."""

from __future__ import annotations

import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

import client.line
from client.app import app, make_app
from client.line import ask, listen
from shared_models.core.errors import BadInput, FedILDError, Refused
from shared_models.core.state import digest
from shared_models.messages import Job, Update, broadcast, read_update, to_frame

JOB = Job(run="r", round=1, kind="fit", state={"w": np.arange(100_000.0)})


def echo(job: Job) -> Update:
    return Update(run=job.run, round=job.round, site="alpha", state=job.state, num_cases=12, steps=1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "w.sock"


@contextmanager
def worker(path: Path, handle: Callable[[Job], Update] = echo) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=listen, args=(path, handle), kwargs={"stop": stop}, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
            break
        except OSError:
            time.sleep(0.005)
    try:
        yield thread
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def test_a_round_trip(place: Path) -> None:
    with worker(place):
        assert stat.S_ISSOCK(place.stat().st_mode)
        assert place.stat().st_mode & 0o777 == 0o600
        for number in range(3):
            answer = ask(place, Job(run="r", round=number, kind="fit", state=JOB.state))
            assert answer.round == number
            assert digest(answer.state) == digest(JOB.state)
    assert not place.exists()


def test_nobody_listens(place: Path) -> None:
    with pytest.raises(Refused) as refused:
        ask(place, JOB)
    assert refused.value.code == "E_NO_WORKER"


def test_a_second_worker_is_refused(place: Path) -> None:
    with worker(place), pytest.raises(Refused, match="one worker"):
        listen(place, echo, stop=threading.Event())


def test_a_socket_left_behind_is_taken_over(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place))
    assert place.exists()
    with worker(place):
        assert ask(place, JOB).site == "alpha"


def test_a_file_in_the_way_is_kept(place: Path) -> None:
    place.write_text("precious")
    with pytest.raises(Refused, match="free"):
        listen(place, echo, stop=threading.Event())
    assert place.read_text() == "precious"


FRAME = to_frame(JOB)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"FIL1",
        FRAME[:-100],
        b"GET / HTTP/1.1\r\n\r\n" * 4,
        to_frame(Update(run="r", round=1)),
        b"FIL1" + b"\xff" * 12,
        FRAME[:16] + b"[" * len(FRAME[16:]),
    ],
    ids=["nothing", "a start", "half", "http", "an update", "a claim", "deep"],
)
def test_a_broken_line_does_not_end_the_worker(place: Path, sent: bytes) -> None:
    with worker(place):
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(place))
            line.sendall(sent)
        assert ask(place, JOB).num_cases == 12


def test_a_messenger_killed_before_the_answer(place: Path) -> None:
    with worker(place, lambda job: (time.sleep(0.1), echo(job))[1]):
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(place))
            line.sendall(FRAME)
        assert ask(place, JOB).num_cases == 12


def test_a_messenger_that_hangs_does_not_keep_the_others_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.line, "PATIENCE_S", 0.2)
    with worker(place), socket.socket(socket.AF_UNIX) as hanging:
        hanging.connect(str(place))
        hanging.sendall(b"FIL1")
        assert ask(place, JOB, timeout_s=10).num_cases == 12


def test_a_worker_that_dies_while_it_works(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen(1)

        def die() -> None:
            line, _ = server.accept()
            line.recv(16)
            line.close()

        thread = threading.Thread(target=die)
        thread.start()
        with pytest.raises(Refused) as refused:
            ask(place, JOB)
        thread.join(10)
    assert refused.value.code == "E_NO_WORKER"


def through(messenger: Any, content: RecordDict, kind: str = "train") -> Update:
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
    message = Message(content, dst_node_id=1, message_type=kind)
    message.metadata.__dict__["_message_id"] = "m1"
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    reply = messenger(message=message, context=context)
    assert not reply.has_error()
    return read_update(reply.content)


class TestMessenger:
    @pytest.mark.parametrize("kind", ["train", "evaluate", "query.hello"])
    def test_over_the_socket(self, place: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FEDILD_SOCKET", str(place))
        with worker(place):
            update = through(app, broadcast(JOB), kind)
        assert update.site == "alpha"
        assert digest(update.state) == digest(JOB.state)

    def test_without_a_worker(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FEDILD_SOCKET", str(place))
        monkeypatch.setattr("client.app.PAUSES_S", (0.01,))
        assert through(app, broadcast(JOB)) == Update(run="r", round=1, code="E_NO_WORKER")

    @pytest.mark.parametrize(
        ("error", "code"),
        [(ValueError("/data/Doe^Jonathan"), "E_MESSENGER"), (BadInput("Doe^Jonathan"), "E_INPUT"), (FedILDError("Doe^Jonathan"), "E_FAILED")],
    )
    def test_no_text_of_an_error_leaves(self, error: Exception, code: str) -> None:
        def failing(job: Job, context: Context) -> Update:
            raise error

        assert through(make_app(failing), broadcast(JOB)) == Update(run="r", round=1, code=code)

    def test_an_answer_that_cannot_be_written_leaves_as_a_code(self) -> None:
        update = through(make_app(lambda job, context: Update(run="r", round=1, metrics={"a": float("nan")})), broadcast(JOB))
        assert update == Update(run="r", round=1, code="E_MESSENGER")

    @pytest.mark.parametrize("text", ["", "{}", "[" * 200_000])
    def test_a_message_that_is_no_job(self, text: str) -> None:
        content = broadcast(JOB)
        content["head"] = ConfigRecord({"json": text})
        assert through(make_app(lambda job, context: echo(job)), content) == Update(run="", round=0, code="E_INPUT")
