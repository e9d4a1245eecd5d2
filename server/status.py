"""What the administrator sees: the server, its sites, its runs. Plain values, so that text and JSON say the same."""

from __future__ import annotations

from typing import Any

from server.flower import FlowerFailed, list_nodes
from server.folder import ServerFolder
from server.identity import days_left, expiry_warnings, read_certificate
from server.queue import Entry, Queue
from server.runs.gathering import ALL_SITES
from server.runs.log import patients_of, read_rounds
from server.runs.standing import read_standing
from server.sites import consortium_fingerprint, read_sites
from shared_models.core.files import read_json
from shared_models.core.locks import is_locked
from shared_models.experiment import Experiment


def server_status(server: ServerFolder) -> dict[str, Any]:
    """Return whether the server is up, its programs, its certificate's days, its sites and its queue."""
    up = is_locked(server.path / "up.lock")
    note = read_json(server.path / "up.json") if up and (server.path / "up.json").exists() else {}
    rows = run_rows(server)
    return {
        "up": up,
        "address": server.settings.server.address,
        "consortium": consortium_fingerprint(server),
        "certificate_days": round(days_left(read_certificate(server.secrets / "server.crt"))),
        "warnings": expiry_warnings(server.secrets),
        "programs": note.get("programs", {}),
        "sites": {row["name"]: f"{row['state']} {row['online']}".strip() for row in site_rows(server)},
        "runs": {row["run"]: row["state"] for row in rows if row["state"] not in ("finished", "failed", "stopped")},
    }


def site_rows(server: ServerFolder) -> list[dict[str, Any]]:
    """Return the register; ``online`` is Flower's word where the server is up."""
    try:
        states = {node["node-id"]: node["status"] for node in list_nodes(server)} if is_locked(server.path / "up.lock") else {}
    except FlowerFailed:
        states = {}
    return [
        {
            "name": name,
            "state": entry.state,
            "online": states.get(entry.node_id, "") if entry.state == "approved" else "",
            "fingerprint": entry.fingerprint,
            "approved": entry.approved,
            "revoked": entry.revoked,
        }
        for name, entry in read_sites(server).items()
    ]


def run_rows(server: ServerFolder) -> list[dict[str, Any]]:
    """Return all runs, oldest first."""
    return [_row(server, entry) for entry in Queue(server.path / "queue.db").all()]


def run_status(server: ServerFolder, run: str) -> dict[str, Any]:
    """Return all that is known of a run: how it stands, its last round, who was missing, what was refused.

    Raises
    ------
    BadInput
        No such run.
    """
    entry = Queue(server.path / "queue.db").get(run)
    folder = server.run_folder(run)
    standing = read_standing(folder)
    experiment = Experiment.from_json((folder / "experiment.json").read_text(encoding="utf-8"))
    rounds = read_rounds(folder / "rounds.jsonl")
    last = rounds[-1] if rounds else {}
    return {
        **_row(server, entry),
        "digest": experiment.digest,
        "sites": entry.sites,
        "quorum": experiment.federation.quorum,
        "deadline_s": experiment.federation.deadline_s,
        "waiting_for": standing.get("waiting_for", []),
        "missing": standing.get("missing", {}),
        "flower_runs": standing.get("flower_run_ids", []),
        "last_round": {
            "wall_s": round(last["wall_s"], 1),
            "patients": {ALL_SITES: patients_of(last)}
            if last.get("total")
            else {site: record["num_cases"] for site, record in last["sites"].items()},
            "refused": {site: record["refused"] for site, record in last["sites"].items() if record["refused"]},
        }
        if last
        else {},
        "report": str(folder / "report.html") if (folder / "report.html").exists() else "",
    }


def _row(server: ServerFolder, entry: Entry) -> dict[str, Any]:
    standing = read_standing(server.run_folder(entry.run))
    return {
        "run": entry.run,
        "experiment": entry.experiment,
        "state": entry.state,
        "round": standing.get("round", 0),
        "rounds": standing.get("rounds") or "?",
        "degraded": bool(standing.get("degraded")),
        "note": entry.note,
    }
