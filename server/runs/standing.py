"""``run.json``: how a deployed run stands, for `fedild server status` and for the supervisor that starts a dead run again.

status    running | finished | interrupted (may be resumed) | failed (would fail again)
code      why it was interrupted or failed: a fixed word
sites quorum deadline_s      as declared
flower_run_ids               Flower's numbers of this run, one for each time its server app was started
round rounds                 how far it is, rounds for statistics included
waiting_for                  sites that are being waited for now; "(to approve)" where a person there has to approve the experiment first
degraded missing             whether a round went without a site, and each missing site's rounds and share of the patients
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from server.runs.checkpoint import RoundState
from server.runs.log import read_rounds
from server.runs.rounds import RoundRecord
from shared_models.core.errors import FedILDError, Interrupted
from shared_models.core.files import read_json, write_json
from shared_models.core.locks import lock
from shared_models.experiment import Experiment
from shared_models.phases import rounds_of

LOCK_S = 60.0
"""Seconds that a new server app waits for its predecessor in the same run folder to end."""

log = logging.getLogger("fedild.run")


class Standing:
    """Keeps ``run.json`` while a server app works in a run folder, and the folder's lock.

    As a context it writes the outcome: an interrupted run can be resumed, any other error would come again. A process that is killed
    writes nothing: *running* without a holder of the lock is what the supervisor looks for.
    """

    def __init__(self, folder: Path, *, experiment: Experiment, sites: list[str], flower_run: int) -> None:
        self.folder, self.experiment, self.flower_run = folder, experiment, flower_run
        self.facts: dict[str, Any] = {"sites": [{"name": name, "role": "training"} for name in sorted(sites)]}
        self._lock = ExitStack()

    def __enter__(self) -> Standing:
        self._lock.enter_context(lock(self.folder / "run.lock", what="a run", wait_s=LOCK_S))
        before = read_standing(self.folder)
        settings = self.experiment.federation
        self.facts |= {
            "quorum": settings.quorum,
            "deadline_s": settings.deadline_s,
            "rounds": rounds_of(self.experiment),
            "flower_run_ids": [*before.get("flower_run_ids", []), str(self.flower_run)],
            "start": before.get("start") or _now(),
            "waiting_for": [],
        }
        self._count(read_rounds(self.folder / "rounds.jsonl"))
        self._write("running")
        return self

    def told(self, record: RoundRecord, at: RoundState) -> None:
        """Note a finished round; whoever took part in it is no longer waited for."""
        del record, at
        rounds = read_rounds(self.folder / "rounds.jsonl")
        took = {site for site, one in (rounds[-1]["sites"] if rounds else {}).items() if not one.get("refused")}
        self.facts["waiting_for"] = [site for site in self.facts["waiting_for"] if site.partition(" (")[0] not in took]
        self._count(rounds)
        self._write("running")

    def waiting(self, sites: list[str]) -> None:
        """Note which sites are being waited for."""
        self.facts["waiting_for"] = sites
        self._write("running")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._write("finished")
            elif isinstance(error, FedILDError):
                # Rejected updates would come again as they are: an operator looks at the codes first, then resumes.
                again = isinstance(error, Interrupted) and error.code != "E_REJECTED"
                self._write("interrupted" if again else "failed", code=error.code, reason=str(error))
            elif isinstance(error, OSError | MemoryError):  # a full disk, a network that went: worth another try
                self._write("interrupted", code="E_SYSTEM", reason=type(error).__name__)
            elif isinstance(error, Exception) and not type(error).__module__.startswith(("flwr", "httpx", "requests")):
                self._write("failed", code="E_SERVER_APP", reason=type(error).__name__)
        finally:
            self._lock.close()

    def _count(self, rounds: list[dict[str, Any]]) -> None:
        self.facts |= {"round": rounds[-1]["round"] if rounds else 0, **degradation(rounds)}

    def _write(self, status: str, **more: str) -> None:
        write_json(self.folder / "run.json", {"status": status, "code": "", "reason": "", **more, **self.facts, "changed": _now()}, durable=False)


def degradation(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Say whether rounds went without declared sites: for each such site its missing rounds and, where known, its share of the patients.

    Examples
    --------
    >>> line = {"round": 2, "missing": ["b"], "degraded": True, "sites": {"a": {"num_cases": 30}, "b": {"num_cases": 0}}}
    >>> full = {"round": 1, "missing": [], "degraded": False, "sites": {"a": {"num_cases": 30}, "b": {"num_cases": 10}}}
    >>> degradation([full, line])
    {'degraded': True, 'missing': {'b': {'rounds': [2], 'share': 0.25}}}
    """
    cases: dict[str, int] = {}
    gone: dict[str, list[int]] = {}
    for line in rounds:
        for site, record in line["sites"].items():
            cases[site] = max(cases.get(site, 0), int(record.get("num_cases", 0)))
        for site in line["missing"]:
            gone.setdefault(site, []).append(line["round"])
    total = sum(cases.values())
    shares = {site: round(cases[site] / total, 4) if cases.get(site) else None for site in gone}
    return {"degraded": bool(gone), "missing": {site: {"rounds": gone[site], "share": shares[site]} for site in sorted(gone)}}


def read_standing(folder: Path) -> dict[str, Any]:
    """Return ``run.json`` of a run folder; empty when the run has not begun."""
    path = folder / "run.json"
    return read_json(path) if path.exists() else {}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
