"""Which code is this? One digest over the source of packages as they lie on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def code_digest(packages: Sequence[str], *, root: Path = ROOT) -> str:
    """Return a SHA-256 over the names and contents of every ``*.py`` of `packages`, in the order of their paths.

    Parameters
    ----------
    packages : sequence of str
        Names of folders under `root`; one that is not there counts as empty.

    Examples
    --------
    >>> code_digest(("shared_models",)) == code_digest(("shared_models",)) != code_digest(("no_such_package",))
    True
    """
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            source = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}|{len(source)}|".encode() + source)
    return digest.hexdigest()
