"""Real data made by others: found through FEDILD_REAL_DATA. Unset, its tests skip by name; set, a missing file is a failure."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

needs_real_data = pytest.mark.skipif(not os.environ.get("FEDILD_REAL_DATA"), reason="FEDILD_REAL_DATA is not set: no real data on this machine")


def real(*parts: str) -> Path:
    """A path in the folder of real data; it must exist."""
    path = Path(os.environ["FEDILD_REAL_DATA"], *parts)
    assert path.exists(), f"real data set is incomplete: {'/'.join(parts)}"
    return path


def read_nrrd(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """A detached-free NRRD (raw or gzip, 16 bit) as an array of shape (z, y, x) with its header."""
    head, body = path.read_bytes().split(b"\n\n", 1)
    header = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line and not line.startswith("#"))
    if header["encoding"] == "gzip":
        body = gzip.decompress(body)
    kind = {"short": "<i2", "unsigned short": "<u2"}[header["type"]]
    return np.frombuffer(body, kind).reshape([int(n) for n in header["sizes"].split()][::-1]), header


def vector(text: str) -> np.ndarray:
    """``(a,b,c)`` as an array."""
    return np.array([float(v) for v in text.strip("()").split(",")])
