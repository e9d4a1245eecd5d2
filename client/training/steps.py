"""Step checkpoints: a worker that is killed in the middle of a round goes on inside the round, to the same bits.

One file a round holds the network, the optimiser, both random generators, the order of patients still to come and the running sums. It
belongs to one question (run, round, received model, experiment, patients) and is removed when the round's update is released. A checksum
lies in it: on a disk that has flipped a bit, the round starts at its beginning.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import FedILDError
from shared_models.core.files import read_state, write_state
from shared_models.core.state import digest

EVERY_S = 5.0
"""Least seconds between two checkpoints: small rounds write none, long ones lose little."""
CHECKSUM = "checksum"
"""SHA-256 over everything else in the file."""


class Stopped(FedILDError):
    """The worker was told to end in the middle of a round; the round's checkpoint is on disk."""

    code = "E_STOPPED"


@dataclass
class StepFile:
    """The checkpoint of one round.

    Parameters
    ----------
    path : Path
        The file.
    every : int
        Steps between two looks at the clock.
    every_s : float
        Least seconds between two checkpoints.
    stopping : callable
        Asked after each step; once it says yes, a checkpoint is written and the round ends with `Stopped`.
    """

    path: Path
    every: int = 10
    every_s: float = EVERY_S
    stopping: Callable[[], bool] = bool
    _written: float = field(default_factory=time.monotonic)

    def load(self) -> State | None:
        """Return what `after` wrote last; None without one or when it is damaged: the round then starts at its beginning."""
        try:
            state = read_state(self.path)
        except (OSError, FedILDError):
            return None
        checksum = state.pop(CHECKSUM, np.zeros(0, np.uint8))
        return state if checksum.tobytes() == bytes.fromhex(digest(state)) else None

    def after(self, step: int, state: Callable[[], State]) -> None:
        """Write `state()` when it is time to, or when the worker is to end.

        Raises
        ------
        Stopped
            The worker is to end.
        """
        stop = self.stopping()
        if stop or (step % self.every == 0 and time.monotonic() - self._written >= self.every_s):
            self.write(step, state)
        if stop:
            raise Stopped("a round goes on after the worker's restart")

    def write(self, step: int, state: Callable[[], State]) -> None:
        """Write `state()` now."""
        whole = {**state(), "step": np.array(step)}
        write_state(self.path, {**whole, CHECKSUM: np.frombuffer(bytes.fromhex(digest(whole)), np.uint8)}, mode=0o600)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Forget the checkpoint: the round is over."""
        self.path.unlink(missing_ok=True)
