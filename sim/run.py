"""One run of the simulation: its experiment, folder and backend, and the wall time of its phases."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shared_models.core.files import write_json
from shared_models.experiment import Experiment


@dataclass
class Clock:
    """Wall time of each phase; phases of earlier, interrupted attempts are kept."""

    path: Path
    phases: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the body and add it to the phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(self.phases.get(name, 0.0) + time.monotonic() - began, 3)
            write_json(self.path, self.phases, durable=False)


@dataclass(frozen=True)
class Run:
    """What every phase needs to know."""

    experiment: Experiment
    out: Path
    backend: str
    ray_address: str | None
    cores: int
    clock: Clock
