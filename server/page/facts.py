"""What the page shows of a server folder, as plain values: everything is read anew from the files that the server itself goes by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server.folder import ServerFolder
from server.identity import days_left, expiry_warnings, read_certificate
from server.page.curves import curves_of, hue_of, presence
from server.page.epsilon import epsilon_words
from server.page.events import is_plain, log_tail, note_code
from server.page.sites import STATES, site_standings
from server.queue import Entry, Queue
from server.runs.log import patients_of, read_rounds
from server.runs.standing import read_standing
from server.sites import consortium_fingerprint, read_sites
from server.status import site_rows
from shared_models.core.files import read_json
from shared_models.core.locks import is_locked
from shared_models.experiment import Experiment

RUN_STATES = {
    "queued": ("idle", "…"),
    "running": ("good", "▶"),
    "interrupted": ("warn-state", "!"),
    "stopped": ("warn-state", "■"),
    "finished": ("good", "✓"),
    "failed": ("bad", "✗"),
}
"""Tone and mark of a run's state."""
REPORTS = {
    "report": ("report.html", "Report"),
    "checklists": ("checklists.html", "Checklists"),
    "evaluation": ("evaluation/evaluation.html", "Evaluation"),
}
"""Pages that a run's folder may hold: name in the address, file, title."""
ONLINE_S = 60.0
"""Seconds between two questions to Flower who is connected: each starts a program that imports for seconds."""


class Connections:
    """Who is connected now, asked in the background while somebody looks."""

    def __init__(self, server: ServerFolder, ask: Callable[[ServerFolder], list[dict[str, Any]]] = site_rows) -> None:
        self.server, self.ask = server, ask
        self.known: dict[str, str] = {}
        self._next, self._lock = 0.0, threading.Lock()

    def look(self) -> dict[str, str]:
        """Return what is known, and ask anew when that is old; never waits."""
        with self._lock:
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + ONLINE_S
                if is_locked(self.server.path / "up.lock"):
                    threading.Thread(target=self._ask, daemon=True).start()
                else:
                    self.known = {}
            return self.known

    def _ask(self) -> None:
        self.known = {row["name"]: row["online"] for row in self.ask(self.server)}


def server_facts(server: ServerFolder, entries: list[Entry], online: dict[str, str]) -> dict[str, Any]:
    """Return how the server stands, its sites, its runs (newest first) and its last events."""
    up = is_locked(server.path / "up.lock")
    note = _read(server.path / "up.json") if up else {}
    return {
        "up": up,
        "address": server.settings.server.address,
        "consortium": consortium_fingerprint(server),
        "certificate_days": round(days_left(read_certificate(server.secrets / "server.crt"))),
        "warnings": expiry_warnings(server.secrets),
        "programs": note.get("programs", {}),
        "sites": [
            {"name": name, "state": entry.state, "online": online.get(name, ""), "fingerprint": entry.fingerprint, "approved": entry.approved}
            for name, entry in read_sites(server).items()
        ],
        "runs": [_row(server, entry) for entry in reversed(entries)],
        "events": log_tail(server.path, 15),
        "states": RUN_STATES,
    }


def run_facts(server: ServerFolder, entry: Entry) -> dict[str, Any]:
    """Return all that the page of a run shows."""
    folder = server.run_folder(entry.run)
    experiment = Experiment.from_json((folder / "experiment.json").read_text(encoding="utf-8"))
    lines, standing = read_rounds(folder / "rounds.jsonl"), read_standing(folder)
    over = entry.state not in ("running", "queued", "interrupted")
    register = {name: site.state for name, site in read_sites(server).items()}
    sites = site_standings(entry.sites, lines, standing=standing, register=register, over=over)
    rounds = [int(line["round"]) for line in lines]
    row = _row(server, entry)
    waiting = [one.name for one in sites if one.state in ("waiting", "to approve")]
    return {
        **row,
        "title": experiment.title,
        "digest": experiment.digest,
        "model": experiment.model.name,
        "strategy": experiment.strategy.name if experiment.strategy else "default",
        "quorum": experiment.federation.quorum,
        "deadline_s": experiment.federation.deadline_s,
        "code": str(standing["code"]) if is_plain(standing.get("code")) else "",
        "start": str(standing.get("start") or ""),
        "sites": sites,
        "site_states": STATES,
        "waiting": waiting,
        "hues": {one.name: hue_of(place) for place, one in enumerate(one for one in sites if any(one.name in line["sites"] for line in lines))},
        "presence": presence(sites, rounds),
        "curves": curves_of(lines, entry.sites),
        "lines": [_line(line) for line in reversed(lines)],
        "bytes_up": sum(int(line.get("bytes") or 0) for line in lines),
        "bytes_down": sum(int(line.get("bytes_down") or 0) for line in lines),
        "wall_s": sum(float(line.get("wall_s") or 0.0) for line in lines),
        "patients": patients_of(lines[-1]) if lines else None,
        "epsilon": epsilon_words(experiment.privacy, sum(str(line.get("phase", "training")).startswith(("training", "stage ")) for line in lines)),
        "events": log_tail(server.path, run=entry.run),
        "states": RUN_STATES,
        "news": _news(row, lines, waiting),
    }


def reports_of(folder: Path) -> list[tuple[str, str]]:
    """Return the pages that a run has: name and title."""
    return [(name, title) for name, (file, title) in REPORTS.items() if (folder / file).is_file()]


def _row(server: ServerFolder, entry: Entry) -> dict[str, Any]:
    folder = server.run_folder(entry.run)
    standing = read_standing(folder)
    return {
        "run": entry.run,
        "experiment": entry.experiment,
        "state": entry.state,
        "round": int(standing.get("round", 0)),
        "rounds": int(standing.get("rounds") or 0),
        "degraded": bool(standing.get("degraded")),
        "note": note_code(entry.note),
        "created": _utc(entry.created),
        "changed": _utc(entry.changed),
        "reports": reports_of(folder),
    }


def _line(line: dict[str, Any]) -> dict[str, Any]:
    refused = {site: str(record["refused"]) for site, record in line["sites"].items() if record.get("refused") and record["refused"] != "E_NO_REPLY"}
    return {
        "round": int(line["round"]),
        "phase": str(line.get("phase", "training")),
        "wall_s": line.get("wall_s"),
        "took": sum(not record.get("refused") for record in line["sites"].values()),
        "missing": line["missing"],
        "late": line.get("late") or [],
        "refused": refused,
        "patients": patients_of(line),
        "bytes": line.get("bytes"),
        "bytes_down": line.get("bytes_down"),
        "norm": line.get("norm"),
        "attempt": int(line.get("attempt", 1)),
    }


def _news(row: dict[str, Any], lines: list[dict[str, Any]], waiting: list[str]) -> str:
    """What a listener hears when it changes: one sentence."""
    of = f" of {row['rounds']}" if row["rounds"] else ""
    said = (
        f"Run {row['state']}"
        + (f", {row['note']}" if row["note"] else "")
        + (f". Round {row['round']}{of} done" if lines else ". No round is done yet")
    )
    if lines and lines[-1]["missing"]:
        said += f", without {', '.join(lines[-1]['missing'])}"
    return f"{said}{'. Waiting for ' + ', '.join(waiting) if waiting else ''}."


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) if seconds else ""


def entries_of(server: ServerFolder) -> list[Entry]:
    """Return all runs of the queue, oldest first; none where the server has had none."""
    path = server.path / "queue.db"
    return Queue(path).all() if path.exists() else []
