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
from shared_models.core.errors import FedILDError
from shared_models.core.files import read_json, read_state, sha256_file, write_json
from shared_models.core.state import digest


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


def take_up(spool: Spool, *, asked: dict[str, Any], chain: bool = False) -> dict[str, dict[str, Any]]:
    """Put the replies that an earlier process received into `spool` and return the sites' records by name.

    Only whole replies to the very same question count; every other file of the folder is removed. In a `chain` the first reply answers
    `asked`, and each further one the question with the state that the one before it gave.
    """
    records: dict[str, dict[str, Any]] = {}
    found = {note: entry for note in sorted(spool.folder.glob("*.json")) if (entry := _whole(note)) is not None}
    for note in sorted(found, key=lambda note: (found[note]["record"].get("place", 0), note.stem)):
        path, record = note.with_suffix(".safetensors"), found[note]["record"]
        try:
            if found[note]["asked"] != asked:
                continue
            more = {name: record[name] for name in ("staleness", "place", "metrics") if name in record}
            spool.take_up(note.stem, path, num_cases=int(record["num_cases"]), steps=int(record["steps"]), **more)
            if chain:
                asked = {**asked, "model": digest(read_state(path))}
        except (ValueError, KeyError, TypeError, FedILDError):
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


def _whole(note: Path) -> dict[str, Any] | None:
    """Return what a note says of a reply whose file is as it was written; None otherwise."""
    try:
        entry = read_json(note)
        whole = entry["sha256"] == sha256_file(note.with_suffix(".safetensors"))
        return {"asked": entry["asked"], "record": dict(entry["record"])} if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note(folder: Path, site: str) -> Path:
    return folder / f"{site}.json"
