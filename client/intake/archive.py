"""Archives (zip, tar, tar.gz) opened safely: nothing is ever written under a name that stands in the archive.

Entries become ``d0001/000001`` and so on: folders keep their entries together, names (often those of patients) stay behind. An archive that
tries anything (a way out of its folder, a link, a device, a bomb) is refused whole, by name, and leaves nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from shared_models.core.errors import BadInput

SUFFIXES: dict[str, str] = {".zip": "zip", ".tar": "tar", ".tar.gz": "tar", ".tgz": "tar"}
"""Ending of a file's name, in any case, to its format."""
BLOCK = 1 << 20
MIN_RATIO_BYTES = 64 << 20
"""Below this the ratio is not looked at: a few blank images shrink a thousandfold."""
LEAVE_FREE_BYTES = 1 << 30
"""Room that is left on the disk."""


class BadArchive(BadInput):
    """An archive that is refused. `reason` is a key of `client.dicom.tags.QUARANTINED`, safe to report."""

    code = "E_ARCHIVE"

    def __init__(self, reason: str, rule: str) -> None:
        self.reason = reason
        super().__init__(rule)


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may hold, those inside it counted in.

    Parameters
    ----------
    total_bytes : int
        Of all entries, unpacked.
    entries : int
        Files and folders.
    ratio : float
        Unpacked bytes per packed byte; chest CT packs two to four times.
    depth : int
        Archives inside archives: 1 is an archive in an archive, 0 none.
    """

    total_bytes: int = 64 << 30
    entries: int = 200_000
    ratio: float = 100.0
    depth: int = 1


def is_archive(path: str) -> bool:
    """Say whether a file is an archive by its name.

    Examples
    --------
    >>> is_archive("a/Export 4.ZIP"), is_archive("b.tar.gz"), is_archive("IM0001.dcm")
    (True, True, False)
    """
    return path.lower().endswith(tuple(SUFFIXES))


def unpack(path: Path, into: Path, limits: ArchiveLimits = ArchiveLimits()) -> int:
    """Unpack an archive into the folder `into`, which must not exist, and return the number of files; a refused one leaves nothing there.

    Files are 0600, folders 0700.

    Raises
    ------
    BadArchive
        ``ARCHIVE_DAMAGED``, ``ARCHIVE_ENCRYPTED``, ``ARCHIVE_UNSAFE``, ``ARCHIVE_LIMITS`` or ``NO_ROOM``.
    """
    part = into.with_name(into.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    try:
        out = _Out(part, limits, Path(path).stat().st_size)
        _entries_into(out, path, path.name, 0)
        part.rename(into)
    except (BadArchive, MemoryError):
        raise
    except Exception as error:  # unpackers raise whatever they like on damaged data
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise BadArchive("NO_ROOM", "an archive needs room on the disk") from None
        raise BadArchive("ARCHIVE_DAMAGED", f"an archive must be whole ({type(error).__name__})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out.files


@dataclass
class _Out:
    """Where entries go, and what they have come to so far."""

    folder: Path
    limits: ArchiveLimits
    packed_bytes: int
    files: int = 0
    entries: int = 0
    total_bytes: int = 0
    checked_bytes: int = -1
    folders: dict[str, Path] = field(default_factory=dict)

    def place(self, folder: str) -> Path:
        """Return a path for the next file out of `folder` of the archive."""
        if folder not in self.folders:
            self.folders[folder] = self.folder / f"d{len(self.folders) + 1:04d}"
            self.folders[folder].mkdir(mode=0o700)
        self.files += 1
        return self.folders[folder] / f"{self.files:06d}"

    def count(self) -> None:
        """Count one more entry."""
        self.entries += 1
        if self.entries > self.limits.entries:
            raise BadArchive("ARCHIVE_LIMITS", f"an archive may hold {self.limits.entries} entries")

    def copy(self, source: IO[bytes], target: Path) -> None:
        """Write a file, block by block, looking at the limits before each block."""
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            while block := source.read(BLOCK):
                self.total_bytes += len(block)
                if self.total_bytes > self.limits.total_bytes:
                    raise BadArchive("ARCHIVE_LIMITS", f"an archive may hold {self.limits.total_bytes} bytes")
                if self.total_bytes > max(MIN_RATIO_BYTES, self.limits.ratio * self.packed_bytes):
                    raise BadArchive("ARCHIVE_LIMITS", f"an archive may shrink its content {self.limits.ratio:g} times")
                if self.total_bytes - self.checked_bytes > MIN_RATIO_BYTES or self.checked_bytes < 0:
                    self.checked_bytes = self.total_bytes
                    if shutil.disk_usage(self.folder).free < LEAVE_FREE_BYTES:
                        raise BadArchive("NO_ROOM", "an archive needs room on the disk")
                file.write(block)


def _entries_into(out: _Out, path: Path, name: str, depth: int) -> None:
    kind = next(kind for suffix, kind in SUFFIXES.items() if name.lower().endswith(suffix))
    for entry, source in _zip(path, out) if kind == "zip" else _tar(path, out):
        inner = PurePosixPath(entry)
        target = out.place(f"{depth}/{name}/{inner.parent}")
        out.copy(source, target)
        if is_archive(entry):
            if depth >= out.limits.depth:
                raise BadArchive("ARCHIVE_LIMITS", f"archives may lie {out.limits.depth} deep in archives")
            _entries_into(out, target, f"{out.files}/{inner.name}", depth + 1)
            target.unlink()
            out.files -= 1


def _zip(path: Path, out: _Out) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            out.count()
            mode = info.external_attr >> 16
            _check_name(info.filename)
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise BadArchive("ARCHIVE_UNSAFE", "an archive must hold plain files and folders alone")
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise BadArchive("ARCHIVE_ENCRYPTED", "an archive must not be encrypted")
            with archive.open(info) as source:
                yield info.filename, source


def _tar(path: Path, out: _Out) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path, "r|*") as archive:  # as a stream: nothing is looked for in an index
        for member in archive:
            out.count()
            archive.members = []  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  (a stream never goes back)
            _check_name(member.name)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise BadArchive("ARCHIVE_UNSAFE", "an archive must hold plain files and folders alone")
            source = archive.extractfile(member)
            if source is not None:
                with closing(source):
                    yield member.name, source


def _check_name(name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise BadArchive("ARCHIVE_UNSAFE", "names in an archive must stay inside it")
