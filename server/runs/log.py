"""``rounds.jsonl``: one line of JSON a round, appended and flushed, never rewritten but to drop rounds that a resumed run repeats."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from server.runs.checkpoint import RoundState
from server.runs.rounds import RoundRecord
from shared_models.core.files import write_atomic


class RoundLog:
    """Append a record a round, with the share of the patients that the missing sites have (None when that was never known).

    Parameters
    ----------
    path : Path
        The log.
    keep : int
        Lines of rounds after this one are dropped first: a crash may have logged a round whose checkpoint was lost.
    """

    def __init__(self, path: Path, *, keep: int = 0) -> None:
        self.path = path
        kept = [line for line in read_rounds(path) if line["round"] <= keep]
        self._cases: dict[str, int] = {}
        for line in kept:
            self._count(line["sites"])
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def __call__(self, record: RoundRecord, at: RoundState) -> None:
        """Write one line and flush it to disk."""
        del at
        line = asdict(record)
        self._count(line["sites"])
        line["missing_share"] = self._share_of(record.missing)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _count(self, sites: dict[str, dict[str, Any]]) -> None:
        for site, record in sites.items():
            self._cases[site] = max(self._cases.get(site, 0), int(record.get("num_cases", 0)))

    def _share_of(self, sites: list[str]) -> float | None:
        known = [self._cases.get(site, 0) for site in sites]
        return round(sum(known) / sum(self._cases.values()), 4) if all(known) and any(self._cases.values()) else None


def patients_of(line: dict) -> int:
    """Return the patients behind a round: those of its sites, or of their secure sum, which shows no single site's.

    Examples
    --------
    >>> patients_of({"sites": {"a": {"num_cases": 30}, "b": {"num_cases": 10}}})
    40
    >>> patients_of({"sites": {"a": {"num_cases": 0}, "b": {"num_cases": 0}}, "total": {"num_cases": 40}})
    40
    """
    return int((line.get("total") or {}).get("num_cases") or sum(site["num_cases"] for site in line["sites"].values()))


def last_of_training(lines: list[dict]) -> dict:
    """Return the last round in which the model was trained: after it come calibrations, which held-out patients stand in. {} without any.

    Examples
    --------
    >>> last_of_training([{"round": 1, "phase": "scaler"}, {"round": 2, "phase": "training"}, {"round": 3, "phase": "conformal"}])["round"]
    2
    """
    return next((line for line in reversed(lines) if line.get("phase", "training").startswith(("training", "stage "))), {})


def read_rounds(path: Path) -> list[dict]:
    """Read the log; a torn last line (a crash while writing) is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
