"""The one deployment that all tests of faults share: an hour of set-ups would be spent otherwise."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.stage import Stage
from tests.soak.chaos import leftovers


@pytest.fixture(scope="session")
def whole_stage() -> Iterator[Stage]:
    # Not pytest's own folder: a worker's socket needs a short path.
    out = Path(tempfile.mkdtemp(prefix="fl-"))
    stage = Stage(out)
    try:
        stage.found()
        yield stage
    finally:
        stage.close()
    left = leftovers(out)
    assert not left, left
    shutil.rmtree(out)


@pytest.fixture
def stage(whole_stage: Stage) -> Iterator[Stage]:
    """The shared deployment, whole before and after."""
    whole_stage.arm()
    try:
        yield whole_stage
        whole_stage.restore()
    finally:
        whole_stage.disarm()
