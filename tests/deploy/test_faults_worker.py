"""The worker of a site as a process of its own: sites with hardly any data, a disk that is full."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from client.approval import Approvals
from client.audit import AuditLog
from client.identity import make_site
from client.line import ask
from client.resident import is_listening, socket_path
from shared_models.core.errors import Refused
from tests.client.sites import CLASSES, patch_experiment, patch_site
from tests.client.test_worker import job_of

ROOT = Path(__file__).parents[2]
EXPERIMENT = patch_experiment()


@pytest.fixture
def site() -> Iterator[Path]:
    out = Path(tempfile.mkdtemp(prefix="fl-"))  # a worker's socket needs a short path
    folder = patch_site(out, "alpha").parent
    make_site(folder, "alpha")
    Approvals(folder).decide("approved", kind="experiment", name=EXPERIMENT.name, digest=EXPERIMENT.digest)
    yield folder
    shutil.rmtree(out)


@pytest.fixture
def started(site: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    processes: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        processes.append(subprocess.Popen([sys.executable, "-m", "client.resident", str(site)], cwd=site, env=environment))
        until = time.monotonic() + 120
        while not is_listening(socket_path(site)):
            assert time.monotonic() < until, "the worker does not answer"
            time.sleep(0.05)
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def rewrite(site: Path, keep: Callable[[np.ndarray], np.ndarray]) -> None:
    """Leave the patches for whose numbered labels `keep` says yes."""
    with np.load(site / "patches.npz") as file:
        arrays = {name: file[name] for name in file.files}
    chosen = keep(arrays["label"])
    np.savez(site / "patches.npz", **{name: values[chosen] for name, values in arrays.items()})


FEW = {
    "no sample": (lambda label: np.zeros(len(label), bool), "E_FEW_CASES"),
    "one patient": (lambda label: np.arange(len(label)) == 0, "E_FEW_CASES"),
    "nine patients": (lambda label: np.arange(len(label)) < 9, "E_FEW_CASES"),
    "one class": (lambda label: label == CLASSES[0], ""),
}


@pytest.mark.parametrize("case", FEW)
def test_a_site_with_hardly_any_data_sends_a_code_or_a_finite_update(case: str, site: Path, started: Callable[[], subprocess.Popen]) -> None:
    keep, code = FEW[case]
    rewrite(site, keep)
    process = started()
    for kind in ("fit", "judge"):
        update = ask(socket_path(site), job_of(EXPERIMENT, kind=kind))
        assert process.poll() is None, "the worker must outlive it"
        if kind == "fit":
            assert update.code == code
        assert all(np.isfinite(value).all() for value in update.state.values())
        assert bool(update.state) == (kind == "fit" and not code)
        assert "val_auroc_macro" not in update.metrics, "with one class, or with few patients, it is not defined"
        assert code == "" or update.metrics == {}


def test_a_full_disk_lets_nothing_out_and_what_was_written_stays(site: Path, started: Callable[[], subprocess.Popen]) -> None:
    """Every write beyond RLIMIT_FSIZE fails in the kernel, as on a full disk; the limit is lifted again while the worker lives."""
    process = started()
    first = ask(socket_path(site), job_of(EXPERIMENT))
    record, answers = site / "workspace" / "what-left.jsonl", site / "workspace" / "steps"
    before = record.read_bytes(), {path.name: path.read_bytes() for path in answers.iterdir()}
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        refused = ask(socket_path(site), job_of(EXPERIMENT, round=2)).code
    except Refused as error:  # the audit log could not be written either: the line breaks, and the messenger asks again
        refused = error.code
    assert refused in ("E_WORKER", "E_NO_WORKER")
    assert process.poll() is None
    assert record.read_bytes() == before[0]
    assert not list(site.rglob("*.part"))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    again = ask(socket_path(site), job_of(EXPERIMENT, round=2))
    assert again.code == ""
    assert (again.round, first.round) == (2, 1)
    assert AuditLog(site).verify() > 0, "the audit log is whole"
    assert [json.loads(line)["round"] for line in record.read_text().splitlines()] == [1, 2]
