"""What the page shows of a site folder, as plain values: the same that `fedild site status`, `approvals`, `what-left` and `ledger` say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client.approval import Approvals, code_digest
from client.audit import AuditLog
from client.privacy.account import TITLE, account, course_of
from client.station import decisions, departures, settings_of, standing, verify_audit
from shared_models.core.errors import BadInput, FedILDError
from shared_models.experiment import Experiment

MOST_ROWS = 200
"""Messages and events that are shown; the totals count all of them."""
DECISIONS = {"approved": ("good", "✓"), "rejected": ("bad", "✗"), "revoked": ("bad", "✗"), "waiting": ("warn-state", "!")}
"""Tone and mark of a decision."""


def site_facts(folder: Path) -> dict[str, Any]:
    """Return all that the page shows; what cannot be read is named by its code."""
    faults: list[str] = []
    rows = _attempt(lambda: decisions(folder), faults, [])
    left = _attempt(lambda: departures(folder), faults, [])
    waiting = [row for row in rows if row["decision"] == "waiting"]
    return {
        "standing": _attempt(lambda: standing(folder), faults, {}),
        "waiting": [{**row, **_plan(folder, row["digest"])} for row in waiting],
        "decided": [row for row in reversed(rows) if row["decision"] != "waiting"],
        "code": code_digest(),
        "left": left[: -MOST_ROWS - 1 : -1],
        "left_messages": len(left),
        "left_bytes": sum(row["bytes"] for row in left),
        "audit_lines": _attempt(lambda: verify_audit(folder), faults, None),
        "audit": [_event(one) for one in AuditLog(folder).entries()[: -MOST_ROWS - 1 : -1]],
        "privacy": _attempt(lambda: account(folder), faults, None),
        "epsilon": _epsilon(folder),
        "faults": faults,
        "marks": DECISIONS,
        "news": _news(waiting, len(left)),
    }


def plan_of(experiment: Experiment) -> dict[str, str]:
    """Return in plain words what an experiment would do here: question and answer, in the order in which people ask."""
    data, federation, privacy = experiment.data, experiment.federation, experiment.privacy
    what = "survival" if data.target == "survival" else ", ".join(data.classes)
    secure = federation.secure_sum is not None
    noise = f"noise {privacy.noise_multiplier:g} for each {privacy.unit}, delta {privacy.delta:g}" if privacy.unit != "none" else ""
    where = "; added here, and charged to the ledger" if privacy.at_sites else "; added by the server" if noise else ""
    return {
        "Learns": f"{what} from {data.kind}",
        "Model": experiment.model.name,
        "Rounds": f"{federation.rounds}" if experiment.train.steps else f"{federation.rounds}, of {counted(experiment.train.epochs, 'epoch')} each",
        "Leaves this site": f"one update a round, {'under the masks of a secure sum' if secure else 'which the server sees'}, "
        "and the metrics that the policy allows",
        "Privacy": f"{noise}{where}" if noise else "no differential privacy",
        "Before each round": f"at least {federation.quorum} sites; a round is closed after {federation.deadline_s:g} s",
    }


def _plan(folder: Path, digest: str) -> dict[str, Any]:
    experiment = Approvals(folder).settings(digest)
    return {"plan": plan_of(experiment) if experiment else {}, "toml": settings_of(folder, digest), "title": experiment.title if experiment else ""}


def _event(entry: dict[str, Any]) -> dict[str, str]:
    hidden = ("number", "time", "event", "previous")
    more = ", ".join(f"{key} {str(value)[:16]}" for key, value in entry.items() if key not in hidden)
    return {"number": str(entry["number"]), "time": str(entry.get("time", "")), "event": str(entry.get("event", "")), "more": more}


def _epsilon(folder: Path) -> str:
    try:
        chart, told = course_of(folder)
    except FedILDError:  # nothing was spent; a ledger that is refused is among the faults
        return ""
    return chart.svg("plot-epsilon", TITLE, told)


def _news(waiting: list[dict[str, Any]], left: int) -> str:
    asks = f"{counted(len(waiting), 'experiment')} for you to decide on" if waiting else "Nothing waits for a decision"
    return f"{asks}. {counted(left, 'message')} left so far."


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "message"), counted(2, "message")
    ('1 message', '2 messages')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _attempt(read: Any, faults: list[str], otherwise: Any) -> Any:
    try:
        return read()
    except BadInput as error:
        said = f"{error.rule} ({error.code})"
    except FedILDError as error:
        said = f"{error.rule} ({error.code}): {error.remedy}"
    faults += [said] if said not in faults else []
    return otherwise
