"""A server and three sites as real processes on loopback, with keys and TLS: undisturbed, and killed four times in one run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.chaos import HASTE, chaos


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own folder: a worker's socket needs a short path.
    out = Path(tempfile.mkdtemp(prefix="fl-"))
    yield out
    shutil.rmtree(out)


@pytest.mark.timeout(2400)
def test_four_kills_in_one_run(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    held = chaos(folder, runs=1, kills=4, seed=4, victims=["worker", "server app", "server", "daemon"], pace=HASTE)
    assert held, capfd.readouterr().out
