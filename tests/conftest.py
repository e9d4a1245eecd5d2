"""What every test stands on: one thread, no network habits, real data by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.update(
    {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",  # read when torch is first imported, which no test has done yet
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
)

# Some images forbid bytecode. Without it each worker, and each of the hundred programs that deployments start, compiles everything again:
# half of the collection's time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data made by others; unset skips by name, set but missing fails."""
    folder = os.environ.get("FEDILD_REAL_DATA")
    if not folder:
        pytest.skip("FEDILD_REAL_DATA is not set: no real data on this machine")
    if not Path(folder).is_dir():
        pytest.fail("FEDILD_REAL_DATA names no folder")
    return Path(folder)
