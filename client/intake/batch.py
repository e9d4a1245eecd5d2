"""Work worked off: each item begun, ended and named in the queue, while workers do it in whatever order and give it back in ours."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from client.cases.identity import Pseudonyms
from client.cluster import Workers
from client.dicom.scan import list_files
from client.dicom.slices import Dismissed
from client.intake.archive import BadArchive, is_archive, unpack
from client.intake.queue import MAX_ATTEMPTS, Queue
from client.processes import Lost
from shared_models.core.files import canonical_json, sha256

A = TypeVar("A")
R = TypeVar("R")

GIVEN_UP = ("FAILED", "TOO_LARGE", "TOO_SLOW")
"""Reasons with which an item has failed: nothing is known of it. With any other it is done: it was looked at and set aside."""


def worked_off(
    queue: Queue,
    kind: str,
    workers: Workers,
    work: Callable[[A], R],
    items: Sequence[A],
    *,
    names: Sequence[str],
    stamps: Sequence[str],
    lost: Callable[[A, Lost], R],
    reason_of: Callable[[R], str],
) -> Iterator[R]:
    """Yield the result of each item in order, with the queue told of each.

    What has failed for its memory or its time, or failed `MAX_ATTEMPTS` times, is not tried again while its stamp is the same: a study that
    takes its process down would otherwise do so whenever another one arrives. `Queue.retry` lets it try again.

    Parameters
    ----------
    work, items, lost
        As of `client.processes.Processes.map`.
    names, stamps : sequence of str
        Keyed name of each item, and what its content and settings come to.
    reason_of : callable
        From a result the reason why the item was set aside; empty when it was not.
    """
    queue.add(kind, dict(zip(names, stamps, strict=True)))
    given_up = {
        item.name: item.reason
        for item in queue.items(kind, "failed")
        if item.reason != "FAILED" or item.attempts >= MAX_ATTEMPTS  # a failure may pass: a disk was away, another program took the memory
    }
    todo = [index for index, name in enumerate(names) if name not in given_up]

    def ended(place: int, result: R) -> None:
        reason = reason_of(result)
        queue.end(kind, names[todo[place]], state="failed" if reason in GIVEN_UP else "done", reason=reason)

    results = workers.map(work, [items[index] for index in todo], lost=lost, begun=lambda place: queue.begin(kind, names[todo[place]]), ended=ended)
    for item, name in zip(items, names, strict=True):
        if (reason := given_up.get(name)) is None:
            yield next(results)
        else:
            yield lost(item, "TOO_LARGE" if reason == "TOO_LARGE" else "TOO_SLOW" if reason == "TOO_SLOW" else "FAILED")


def take_in(
    folder: Path, paths: Sequence[str], workspace: Path, names: Pseudonyms, queue: Queue, workers: Workers
) -> tuple[list[str], list[Dismissed]]:
    """Unpack the archives among `paths` into ``unpacked/`` of the workspace; return the paths to read instead, and what became of each archive.

    An archive that lies there unchanged is not unpacked again; what was unpacked from one that is gone, or was replaced, is removed.
    """
    archives = [path for path in paths if is_archive(path) and stat.S_ISREG(Path(path).lstat().st_mode)]
    place = workspace / "unpacked"
    if not archives and not place.exists():
        return list(paths), []
    items = [names.item("archive", os.path.relpath(path, folder)) for path in archives]
    stamps = [_stamp_of_files([path]) for path in archives]
    targets = [place / f"{item}-{stamp[:8]}" for item, stamp in zip(items, stamps, strict=True)]
    place.mkdir(exist_ok=True, mode=0o700)
    for old in set(place.iterdir()) - set(targets):
        shutil.rmtree(old, ignore_errors=True)
    jobs = list(zip(archives, targets, strict=True))
    reasons = worked_off(
        queue, "unpack", workers, _unpacked, jobs, names=items, stamps=stamps, lost=lambda job, reason: str(reason), reason_of=lambda reason: reason
    )
    found, dismissed = [path for path in paths if path not in set(archives)], []
    for path, target, reason in zip(archives, targets, reasons, strict=True):
        dismissed.append(Dismissed(reason or "UNPACKED", (path,)))
        found += list_files(target) if target.exists() else []
    return found, dismissed


def stamp_of(settings: object, paths: Sequence[str]) -> str:
    """Return a word for settings and files: another size, time or number of files, or other settings, and it is another word."""
    return sha256(canonical_json([settings, _stamp_of_files(paths)]).encode())[:16]


def _stamp_of_files(paths: Sequence[str]) -> str:
    status = [Path(path).stat() for path in paths]
    return sha256(canonical_json([(one.st_size, one.st_mtime_ns) for one in status]).encode())[:16]


def _unpacked(job: tuple[str, Path]) -> str:
    path, target = job
    if target.exists():
        return ""
    try:
        unpack(Path(path), target)
    except BadArchive as error:
        return error.reason
    return ""
