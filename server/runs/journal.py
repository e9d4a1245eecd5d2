"""The round journal: replies that a round has already received outlive a ``kill -9`` of the server app.

Beside each spooled reply lies its note, written after it and made of what the round's record says of the site, the SHA-256 of the spooled
file, and what was asked: run, round and the digest of the model that was sent out. After a crash the next process takes up every reply
whose note is whole and answers the same question, and asks only the other sites again. What fits none of these is removed.

    spool/round-000003/alpha.safetensors      the update, as it will be summed
    spool/round-000003/alpha.json             its note: without it the reply does not exist

Nothing else of a round needs a journal: strategies are pure functions of checkpoint and replies, and every random draw of a run is derived
from the experiment's seed, the round and the site's name, so no generator outlives a round.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from server.strategies.replies import Spool
from shared_models.core.files import read_json, sha256_file, write_json


def write_note(spool: Spool, site: str, record: dict[str, Any], *, asked: dict[str, Any]) -> None:
    """Note that the reply of `site` is spooled: from now on it survives a crash.

    Parameters
    ----------
    spool : Spool
        Durable; already holds the reply.
    record : dict
        The site's part of the round's record, as plain JSON values.
    asked : dict
        Run, round and digest of the model that was sent out.
    """
    reply = next(reply for reply in spool.replies if reply.site == site)
    write_json(_note(spool.folder, site), {"asked": asked, "sha256": sha256_file(reply.path), "record": record})


def take_up(spool: Spool, *, asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Put the replies that an earlier process received into `spool` and return the sites' records by name.

    Only whole replies to the very same question count; every other file of the folder is removed.
    """
    records: dict[str, dict[str, Any]] = {}
    for note in sorted(spool.folder.glob("*.json")):
        path = note.with_suffix(".safetensors")
        try:
            entry = read_json(note)
            if entry["asked"] != asked or entry["sha256"] != sha256_file(path):
                continue
            record = dict(entry["record"])
            spool.take_up(note.stem, path, num_cases=int(record["num_cases"]), steps=int(record["steps"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        records[note.stem] = record
    keep = {name for site in records for name in (f"{site}.json", f"{site}.safetensors")}
    for path in spool.folder.glob("*") if spool.folder.exists() else ():
        if path.name not in keep:
            path.unlink()
    return records


def sweep(folder: Path, *, next_round: int) -> None:
    """Remove what a killed process left in a run folder: unfinished temporary files, and spools of any round but `next_round`."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)
    for old in (folder / "spool").glob("round-*"):
        if old.name != f"round-{next_round:06d}":
            shutil.rmtree(old)


def _note(folder: Path, site: str) -> Path:
    return folder / f"{site}.json"
