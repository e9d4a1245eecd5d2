"""Secrets of the secure sum on the site's disk, 0600, so that a worker that was killed can still help to unmask.

    workspace/secure-sum/<run>-<group>.json     keys, own shares, and what was done in each slot (a slot serves one attempt at one round)
    workspace/secure-sum/<run>.rounds.json      the survivors with whom each round was unmasked: a round is opened for one set of sites

The secrets of a slot are removed as soon as it is used; those of a group when a newer one takes its place.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shared_models.core.errors import Refused
from shared_models.core.files import read_json, sha256, write_json

MOST_GROUPS = 4
"""Groups of other runs that are kept."""


class MaskStore:
    """The files of one site."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, run: str, group: str) -> dict[str, Any] | None:
        """Return what is kept of a group, None when nothing is."""
        path = self._path(run, group)
        return read_json(path) if path.exists() else None

    def need(self, run: str, group: str) -> dict[str, Any]:
        """Return what is kept of a group.

        Raises
        ------
        Refused
            E_MASK_GROUP: this site takes no part in it, or no more.
        """
        kept = self.read(run, group)
        if kept is None:
            raise Refused("a site sums only in a group whose keys it made", value=group, code="E_MASK_GROUP")
        return kept

    def write(self, run: str, group: str, kept: dict[str, Any]) -> None:
        """Keep the state of a group; on disk when this returns."""
        write_json(self._path(run, group), kept, mode=0o600)

    def begin(self, run: str, group: str, kept: dict[str, Any]) -> None:
        """Keep a new group; earlier ones of the run go, and all but the newest of other runs."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.write(run, group, kept)
        new = self._path(run, group)
        for path in self.folder.glob(f"{_word(run)}-*.json"):
            if path != new:
                path.unlink(missing_ok=True)
        others = sorted((path for path in self.folder.glob("*-*.json") if path != new), key=lambda path: path.stat().st_mtime)
        for path in others[:-MOST_GROUPS]:
            path.unlink(missing_ok=True)

    def unmasked(self, run: str) -> dict[str, list[str]]:
        """Return the survivors of every round of `run` that this site has helped to unmask."""
        path = self.folder / f"{_word(run)}.rounds.json"
        return read_json(path) if path.exists() else {}

    def note_unmasked(self, run: str, name: str, alive: list[str]) -> None:
        """Note with whom a round is unmasked, before anything is opened."""
        rounds = self.unmasked(run)
        if rounds.get(name) != alive:
            write_json(self.folder / f"{_word(run)}.rounds.json", {**rounds, name: alive}, mode=0o600)

    def _path(self, run: str, group: str) -> Path:
        if re.fullmatch(r"[0-9a-f]{16}", group) is None:
            raise Refused("a group has a name of 16 hexadecimal digits", code="E_MASK_GROUP")
        return self.folder / f"{_word(run)}-{group}.json"


def _word(run: str) -> str:
    return sha256(run.encode())[:24]
