"""What the commands of `fedild site` show and do, as plain values: decisions, standing, logs, departures, preparation."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from client.approval import Approval, Approvals, Decision, code_digest
from client.audit import AuditLog
from client.expiry import days_left, warning
from client.intake.queue import Queue
from client.site import Site
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import read_json
from shared_models.core.locks import is_locked
from shared_models.experiment import Experiment

REFUSED_S = 90.0
"""Seconds that a refusal is shown: a site that is still refused has dialled again, and written it anew, by then."""

LOGS = ("up", "worker", "prepare", "inbox", "receive", "receiver", "resident", "supernode", "superexec")


def decide(folder: Path, word: str, decision: str, reason: str = "") -> list[Approval]:
    """Decide on what `word` means and return the entries that were signed; refusing what was approved revokes it. The reason stays here."""
    approvals = Approvals(folder)
    kind, name, digest = approvals.find(word)
    approved = any(one.digest == digest and one.decision == "approved" for one in approvals.standing())
    verdict: Decision = "approved" if decision == "approved" else "revoked" if approved else "rejected"
    return [approvals.decide(verdict, kind=kind, name=name, digest=digest, reason=reason)]


def decisions(folder: Path) -> list[dict[str, Any]]:
    """Return what waits, then what stands: digest, decision, kind, name, and what it is about in words."""
    approvals = Approvals(folder)
    standing = approvals.standing()
    decided = {one.digest for one in standing if one.kind != "experiment" or one.decision != "approved" or one.code == code_digest()}
    rows = [
        {"digest": one.digest, "decision": "waiting", "kind": "experiment", "name": one.name, "about": _about(one), "reason": ""}
        for one in approvals.pending()
        if one.digest not in decided
    ]
    waiting = {row["digest"] for row in rows}
    return rows + [
        {"digest": one.digest, "decision": one.decision, "kind": one.kind, "name": one.name, "about": one.time, "reason": one.reason}
        for one in standing
        if one.digest not in waiting
    ]


def settings_of(folder: Path, word: str) -> str:
    """Return all settings of the experiment that `word` means, as TOML: with every default written out.

    Raises
    ------
    BadInput
        An app, or an experiment that was approved from a file and never asked for: that file holds its settings.
    """
    import tomli_w

    approvals = Approvals(folder)
    _, name, digest = approvals.find(word)
    experiment = Experiment.load(word).for_sites() if Path(word).suffix == ".toml" else approvals.settings(digest)
    if experiment is None:
        raise BadInput("only what the server has asked for can be shown", value=f"{name} {digest[:12]}", remedy="read the file it was approved from")
    return f"# {digest}\n{tomli_w.dumps(experiment.model_dump(mode='json', exclude_none=True))}".rstrip()


def standing(folder: Path) -> dict[str, Any]:
    """Return what runs at the site and how it stands with the server."""
    site = Site.load(folder / "site.toml")
    up = is_locked(folder / "up.lock")
    programs = _json(folder / "up.json").get("programs", {}) if up else {}
    events = AuditLog(folder).entries()
    last = next((one for one in reversed(events) if one["event"] in ("released", "refused")), {})
    departed = departures(folder)
    return {
        "site": site.site.name,
        "server": site.server.address if site.server else "not joined",
        "up": up,
        **{name: "running" if state.get("ready") else "starting" for name, state in programs.items()},
        "restarts": sum(state.get("restarts", 0) for state in programs.values()),
        "refused": _refused(folder / "link.json") if up else "",
        **{f"{name} days": round(days) for name, days in days_left(folder).items()},
        "warnings": "; ".join(filter(None, (warning(name, days) for name, days in days_left(folder).items()))),
        "waiting": sum(row["decision"] == "waiting" for row in decisions(folder)),
        "last": " ".join(str(last.get(key, "")) for key in ("time", "event", "run", "round", "reason")).strip(),
        "messages left": len(departed),
        "bytes left": sum(row["bytes"] for row in departed),
    }


def departures(folder: Path) -> list[dict[str, Any]]:
    """Return every message that left, oldest first; times in UTC."""
    path = Site.load(folder / "site.toml").workspace / "what-left.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [{**row, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row["time"]))} for row in rows]


def log_tail(folder: Path, lines: int) -> list[str]:
    """Return the last lines of each of the site's logs, each under its name."""
    out = []
    for name in LOGS:
        path = folder / "logs" / f"{name}.log"
        if path.exists():
            with open(path, encoding="utf-8", errors="replace") as file:
                out += [f"--- {name}", *(line.rstrip("\n") for line in deque(file, lines))]
    return out


def verify_audit(folder: Path) -> int:
    """Check the audit log, and that the list of approvals holds every decision that the log knows of; return the number of lines.

    Raises
    ------
    Refused
        E_AUDIT or E_APPROVALS.
    """
    audit = AuditLog(folder)
    count = audit.verify()
    decided = max((one.get("counter", 0) for one in audit.entries() if one["event"] in get_args(Decision)), default=0)
    if len(Approvals(folder).entries()) < decided:
        raise Refused("the list of approvals must hold every decision of the audit log", remedy="restore approvals.jsonl", code="E_APPROVALS")
    return count


def prepare_site(
    folder: Path,
    experiment: str | None,
    *,
    processes: int | None,
    backend: str = "pool",
    ray_address: str | None = None,
    only: Callable[[str], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Prepare the site's inbox, or those of its files that `only` says yes to, into its workspace and return the report's path.

    Without `experiment` the one of `prepare_for` in the site TOML says how; without that, the defaults do. Studies that are still being
    retrieved are left alone.
    """
    from client.prepare import prepare_folder
    from client.processes import Limits
    from shared_models.experiment import Preparation

    site = Site.load(folder / "site.toml")
    clinical = site.path(site.site.clinical)
    if experiment is None and site.site.prepare_for is not None:
        experiment = str(site.path(site.site.prepare_for))
    inbox, limits = site.path(site.site.inbox), site.limits
    arriving = unfinished(site.workspace)

    def is_whole(path: str) -> bool:
        return Path(path).relative_to(inbox).parts[0] not in arriving and (only is None or only(path))

    report = prepare_folder(
        inbox,
        site.workspace,
        _experiment(folder, experiment).preparation if experiment else Preparation(),
        clinical=clinical if clinical.exists() else None,
        processes=processes or len(os.sched_getaffinity(0)),
        limits=Limits(memory_mb=limits.memory_mb or None, seconds=limits.seconds or None),
        backend=backend,
        ray_address=ray_address,
        retain_characteristics=site.deidentification.characteristics == "keep",
        shift_dates=site.deidentification.dates == "shift",
        only=is_whole if arriving or only else None,
        annotations=None if site.site.annotations is None else site.path(site.site.annotations),
        progress=progress,
    )
    AuditLog(folder).note("prepared", accepted=len(report.accepted), skipped=len(report.skipped), quarantined=len(report.quarantined))
    return site.workspace / "report.json"


def unfinished(workspace: Path) -> set[str]:
    """Return the folders of the inbox in which half a study may lie: those that are to be retrieved and have not been, all of them."""
    return {item.name for item in Queue(workspace).items("fetch") if item.state != "done"} if (workspace / "queue.sqlite").exists() else set()


def _experiment(folder: Path, word: str) -> Experiment:
    if Path(word).suffix == ".toml":
        return Experiment.load(word)
    approvals = Approvals(folder)
    _, name, digest = approvals.find(word)
    experiment = approvals.settings(digest)
    if experiment is None:
        raise BadInput("only what the server has asked for is known by its digest", value=name, remedy="give the path of its TOML")
    return experiment


def _about(experiment: Experiment) -> str:
    strategies = [stage.strategy or experiment.strategy for stage in experiment.stages or ()] or [experiment.strategy]
    strategy = ", then ".join(dict.fromkeys(choice.name if choice else "default" for choice in strategies))
    before = "".join(f"{choice.name}, then " for choice in experiment.statistics or ())
    after = "".join(f", then {choice.name}" for choice in experiment.calibration or ())
    data = experiment.data
    horizons = f" at {', '.join(f'{horizon:g}' for horizon in data.horizons)}" if data.horizons else ""
    what = f"survival{horizons}" if data.target == "survival" else f"classes {', '.join(data.classes)}"
    return f"{before}{experiment.model.name}, {strategy}, {experiment.federation.rounds} rounds{after}, {what}"


def _refused(path: Path) -> str:
    fresh = path.exists() and time.time() - path.stat().st_mtime < REFUSED_S
    return str(_json(path).get("refused", "")) if fresh else ""


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
