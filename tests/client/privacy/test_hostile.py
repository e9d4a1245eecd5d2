"""A researcher's training code that tries to carry data out: through the real worker, gate, socket and messenger, every way is refused."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.worker
from client.approval import Approvals
from client.audit import AuditLog
from client.identity import make_site
from client.line import ask
from client.privacy.gate import Measured
from client.resident import is_listening, serve, socket_path
from client.training import FITTERS
from client.training.fitter import Fitted
from client.training.records import Records
from server.runs.exchange import exchange
from shared_models.blocks.spec import ModelSpec
from shared_models.catalogue import MODELS
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.errors import Refused
from shared_models.messages import Update, read_update, to_frame
from tests.client.sites import patch_experiment, patch_site, table_experiment, table_site
from tests.client.test_worker import job_of
from tests.server.loop_grid import LoopGrid

PATIENT = "Doe_Jonathan"
BORN = 19570612

Way = Callable[[Callable[..., Fitted], State, Records, Path], Fitted]


def _raise(error: Exception) -> Fitted:
    raise error


def _after(act: Callable[[], object], fit: Callable[..., Fitted]) -> Fitted:
    act()
    return fit()


def _dial() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as line:
        line.connect(("127.0.0.1", 9))


def _from_a_thread(site: Path) -> None:
    thread = threading.Thread(target=_ignoring, args=(lambda: (site / f"{PATIENT}.txt").write_text("x"),))
    thread.start()
    thread.join()


def _ignoring(act: Callable[[], object]) -> None:
    with contextlib.suppress(OSError):
        act()


def _unused(fit: Callable[..., Fitted]) -> Fitted:
    fitted = fit()
    spare = fitted.state["spare.weight"].copy()
    spare.flat[0] = BORN
    return replace(fitted, state={**fitted.state, "spare.weight": spare})


def _huge(fit: Callable[..., Fitted]) -> Fitted:
    fitted = fit()
    return replace(fitted, state={key: np.concatenate([value] * 400) for key, value in fitted.state.items()})


WAYS: dict[str, tuple[str, str, Way]] = {
    "metric values": ("logistic", "E_METRIC", lambda fit, state, records, site: replace(fit(), loss=float(BORN))),
    "metric names": ("logistic", "E_METRIC", lambda fit, state, records, site: fit()),  # `measure` is hostile too
    "extra keys": ("logistic", "E_KEYS", lambda fit, state, records, site: replace(fit(), state={**fit().state, PATIENT: np.ones(1)})),
    "huge payload": ("forest", "E_PAYLOAD", lambda fit, state, records, site: _huge(fit)),
    "exception text": ("logistic", "E_WORKER", lambda fit, state, records, site: _raise(ValueError(f"/data/{PATIENT}/{BORN}.dcm"))),
    "log lines": ("logistic", "E_OUTPUT", lambda fit, state, records, site: _after(lambda: logging.getLogger("upload").error(PATIENT), fit)),
    "file names": (
        "logistic",
        "E_OUTPUT",
        lambda fit, state, records, site: _after(lambda: _ignoring(lambda: (site / f"{PATIENT}.txt").write_text("")), fit),
    ),
    "weights of an unused layer": ("hoarder", "E_UNUSED", lambda fit, state, records, site: _unused(fit)),
    "statistics of one patient": ("logistic", "E_FEW_CASES", lambda fit, state, records, site: fit(records=records.take([0]))),
    "a config echo": (
        "logistic",
        "E_KEYS",
        lambda fit, state, records, site: replace(fit(), extra={"config": np.frombuffer((site / "site.toml").read_bytes(), np.uint8)}),
    ),
}
"""The ten ways of the issue."""

MORE: dict[str, tuple[str, str, Way]] = {
    "print": ("logistic", "E_OUTPUT", lambda fit, state, records, site: _after(lambda: print(PATIENT), fit)),
    "print to standard error": ("logistic", "E_OUTPUT", lambda fit, state, records, site: _after(lambda: print(PATIENT, file=sys.stderr), fit)),
    "a file from a thread": ("logistic", "E_OUTPUT", lambda fit, state, records, site: _after(lambda: _from_a_thread(site), fit)),
    "a folder's name": ("logistic", "E_OUTPUT", lambda fit, state, records, site: _after(lambda: _ignoring((site / PATIENT).mkdir), fit)),
    "a connection": ("logistic", "E_OUTPUT", lambda fit, state, records, site: _after(lambda: _ignoring(_dial), fit)),
    "a process": ("logistic", "E_OUTPUT", lambda fit, state, records, site: _after(lambda: subprocess.run(["true"], check=False), fit)),
    "the word of an error code": ("logistic", "E_WORKER", lambda fit, state, records, site: _raise(Refused(PATIENT, code="E_DOE_JONATHAN"))),
    "the number of steps": ("logistic", "E_VALUES", lambda fit, state, records, site: replace(fit(), steps=BORN)),
    "a false count": ("logistic", "E_VALUES", lambda fit, state, records, site: replace(fit(), state={**fit().state, "n": np.array([59.0])})),
    "another type": ("logistic", "E_KEYS", lambda fit, state, records, site: replace(fit(), state={**fit().state, "n": np.array([BORN])})),
    "no number": ("logistic", "E_VALUES", lambda fit, state, records, site: replace(fit(), state={**fit().state, "sum": np.full(2, np.nan)})),
}


def _hoarder() -> ModelSpec:
    import torch
    from torch import nn

    class Hoarder(nn.Module):
        """A network with a layer that nothing uses."""

        def __init__(self, outputs: int) -> None:
            super().__init__()
            self.head = nn.Linear(225, outputs)
            self.spare = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.flatten(1))

    def build(inputs: int, outputs: int) -> Hoarder:
        del inputs
        return Hoarder(outputs)

    return ModelSpec(
        build=build, takes="patch", fit="gradient", source="a test", loss=lambda a, b: nn.functional.cross_entropy(a, b, reduction="none")
    )


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Any]]:
    """A deployed site whose worker listens, and a job that it has approved."""
    model = request.param
    if model == "hoarder":
        monkeypatch.setitem(MODELS, "hoarder", _hoarder())
        folder = patch_site(tmp_path, "a", patches=60).parent
        experiment = patch_experiment().model_copy(update={"model": Choice(name="hoarder")})
        experiment = experiment.model_copy(
            update={"train": experiment.train.model_copy(update={"optimiser": Choice.model_validate({"name": "sgd"})})}
        )
    else:
        folder = table_site(tmp_path, "a", patients=60, toml="[policy]\nmax_payload_mb = 0.5\n").parent
        experiment = table_experiment(Choice(name=model))
    make_site(folder, "a")
    Approvals(folder).decide("approved", kind="experiment", name=experiment.name, digest=experiment.digest)
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(folder,), kwargs={"stop": stop})
    thread.start()
    until = time.monotonic() + 60
    while not is_listening(socket_path(folder)):
        assert time.monotonic() < until, "the worker does not answer"
        time.sleep(0.05)
    yield folder, job_of(experiment)
    stop.set()
    thread.join(timeout=30)
    assert not thread.is_alive()


def asked(folder: Path, job: Any) -> Update:
    """Ask through the real messenger: Flower's message in, over the socket to the worker, Flower's message out."""
    grid = LoopGrid({"a": lambda job: ask(socket_path(folder), job)})
    (message,) = exchange(grid, {1: job}, timeout_s=120)
    assert not message.has_error()
    return read_update(message.content)


CASES = [pytest.param(way[0], name, id=name) for name, way in (WAYS | MORE).items()]


def test_ten_ways() -> None:
    assert len(WAYS) == 10


@pytest.mark.parametrize(("served", "name"), CASES, indirect=["served"])
def test_every_way_is_refused_and_audited(served: tuple[Path, Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, job = served
    _, code, way = (WAYS | MORE)[name]
    kind = "gradient" if name == "weights of an unused layer" else "trees" if name == "huge payload" else "sums"
    plain = FITTERS[kind]

    def hostile(experiment: Any, state: State, records: Records, **options: Any) -> Fitted:
        def fit(records: Records = records) -> Fitted:
            return plain(experiment, state, records, **options)

        return way(fit, state, records, folder)

    if name == "metric names":
        monkeypatch.setattr(client.worker, "measure", lambda *_: {PATIENT: Measured(0.5, 99)})
    monkeypatch.setitem(FITTERS, kind, hostile)
    before = len(AuditLog(folder).entries())
    update = asked(folder, job)
    assert update == Update(run="run", round=1, site="a", code=code)
    for planted in (PATIENT, "JONATHAN", str(BORN), str(folder)):
        assert planted.encode() not in to_frame(update)
    events = AuditLog(folder).entries()[before:]
    assert [(event["event"], event["reason"]) for event in events] == [("refused", code)]
    assert PATIENT not in (folder / "audit.jsonl").read_text()
    assert not (folder / "workspace" / "what-left.jsonl").exists()
    assert not [path for path in folder.rglob("*") if PATIENT in path.name]


@pytest.mark.parametrize("served", ["logistic", "hoarder"], indirect=True)
def test_honest_code_goes_through_the_same_worker(served: tuple[Path, Any]) -> None:
    folder, job = served
    update = asked(folder, job)
    assert update.code == ""
    assert update.state
    assert [event["event"] for event in AuditLog(folder).entries()][-1] == "released"
    with open(folder / "after.txt", "w") as file:  # the silence is over
        file.write("x")
