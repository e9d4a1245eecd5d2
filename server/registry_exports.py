"""What a registry keeps of an export: which version it is of, in which form, its hash, and how far it was from the release when it was checked.

An export is made to be taken away: one that no longer lies where it was written is no fault, and a copy of it is known by its hash anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared_models.core.errors import BadInput
from shared_models.core.files import canonical_json, sha256, sha256_file

TABLE = """CREATE TABLE IF NOT EXISTS exports (
    number INTEGER PRIMARY KEY, time TEXT NOT NULL, model TEXT NOT NULL, version INTEGER NOT NULL, bundle TEXT NOT NULL, form TEXT NOT NULL,
    sha256 TEXT NOT NULL, difference REAL NOT NULL, path TEXT NOT NULL, software TEXT NOT NULL, by TEXT NOT NULL)"""


@dataclass(frozen=True)
class Export:
    """One export of a version.

    `difference` is the largest one from the release over random records, of probabilities or risks; `sha256` is that of `digest_of`; `path` is
    where it was written.
    """

    number: int
    time: str
    model: str
    version: int
    bundle: str
    form: str
    sha256: str
    difference: float
    path: str
    software: str
    by: str


def digest_of(path: Path) -> str:
    """Return the SHA-256 of an export: of the file, or of the names and hashes of the files of a folder as canonical JSON.

    Raises
    ------
    BadInput
        Nothing lies there.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a").write_bytes(b"one")
    >>> digest_of(folder) == sha256(canonical_json({"a": sha256(b"one")}).encode())
    True
    >>> digest_of(folder / "a") == sha256(b"one")
    True
    """
    if path.is_dir():
        files = {part.relative_to(path).as_posix(): sha256_file(part) for part in path.rglob("*") if part.is_file()}
        return sha256(canonical_json(files).encode())
    if not path.is_file():
        raise BadInput("an export is a file or a folder", value=str(path), remedy="check the path")
    return sha256_file(path)


def faults_of(exports: Sequence[Export], bundle: str) -> list[str]:
    """Return which exports of a release are not what was exported; of several that were written to one place, the last one counts.

    Parameters
    ----------
    exports : sequence of Export
        Of the whole registry, in order.
    bundle : str
        Digest of the release.
    """
    last = {one.path: one for one in exports}
    here = [(one, Path(one.path)) for one in last.values() if one.bundle == bundle and Path(one.path).exists()]
    return [f"export {one.number} ({one.form}, {path.name}) is not what was exported" for one, path in here if digest_of(path) != one.sha256]
