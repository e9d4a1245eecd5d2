"""What a site remembers of a strategy from round to round: control variates, personal layers. It lies on the site's own disk and never travels.

    <workspace>/strategy/<run>.<experiment>-<round>.safetensors      what is known after that round, 0600

The state before a round stays until the next one is done, so that a round which is asked again gives the same bits. The server's word which
of the site's rounds it has counted decides where methods go on that must agree with it: an update that was lost on the way leaves no trace.
The experiment is part of the name, so that nothing learnt without noise is ever taken up by a private experiment, whatever the server calls
its run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, BadState
from shared_models.core.files import read_state, write_state

COUNTED = "counted/"
"""Before a site's name: an array with the last of its rounds that the server has counted."""
_RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
KEPT_RUNS = 8
"""Runs whose last states stay: a personal model is used after its run."""


@dataclass(frozen=True)
class Memory:
    """The memory of one site in one round.

    Parameters
    ----------
    folder : Path
        ``workspace/strategy``.
    site, run, round : str, str, int
        Who is asked what.
    experiment : str
        Digest of the experiment.
    """

    folder: Path
    site: str
    run: str
    round: int
    experiment: str = ""

    def before(self) -> State:
        """Return what was kept in the last round before this one; nothing in the first."""
        earlier = [number for number in self._kept() if number < self.round]
        return read_state(self._path(max(earlier))) if earlier else {}

    def counted(self, extra: State) -> State:
        """Return what was kept in the round that the server last counted; nothing before the first one.

        Raises
        ------
        BadState
            E_STRATEGY_STATE: it is gone, so that the site and the server no longer agree.
        """
        number = _counted(extra, self.site)
        if number is None:
            return {}
        if not self._path(number).exists():
            raise BadState("what a site remembers of a counted round must be there", value=number, remedy="start a new run", code="E_STRATEGY_STATE")
        return read_state(self._path(number))

    def keep(self, state: State, extra: State | None = None) -> None:
        """Write what is known after this round and forget what no round can ask for any more."""
        kept = self._kept()
        write_state(self._path(self.round), state, durable=False, mode=0o600)
        needed = {self.round, max((number for number in kept if number < self.round), default=0), _counted(extra or {}, self.site)}
        for number in kept:
            if number not in needed:
                self._path(number).unlink()
        by_run: dict[str, list[Path]] = {}
        for path in self.folder.glob("*.safetensors"):
            by_run.setdefault(path.stem.rpartition("-")[0], []).append(path)
        others = sorted((run for run in by_run if run != self.name), key=lambda run: max(path.stat().st_mtime for path in by_run[run]))
        for path in [path for run in others[: max(0, len(others) - KEPT_RUNS)] for path in by_run[run]]:
            path.unlink()

    @property
    def name(self) -> str:
        """Run and experiment: what the files of this memory begin with."""
        return f"{self.run}.{self.experiment[:16]}" if self.experiment else self.run

    def _path(self, number: int) -> Path:
        if not _RUN.fullmatch(self.run):  # the server's word becomes the name of a file
            raise BadInput("a run is named by letters, digits, dots, dashes and underscores", value=self.run[:80])
        return self.folder / f"{self.name}-{number:06d}.safetensors"

    def _kept(self) -> list[int]:
        matches = (re.fullmatch(r"(.+)-(\d+)", path.stem) for path in self.folder.glob("*.safetensors"))
        return sorted(int(match[2]) for match in matches if match and match[1] == self.name)


def _counted(extra: State, site: str) -> int | None:
    return int(extra[COUNTED + site]) if COUNTED + site in extra else None
