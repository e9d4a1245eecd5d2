"""`Tracker`: what takes a run's numbers as they come; `TrackerSpec`: a line of TRACKERS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared_models.experiment import Experiment


@dataclass(frozen=True)
class Facts:
    """What is told of a run once.

    Parameters
    ----------
    name, digest : str
        Of the experiment.
    settings : dict of str
        Few words for a table of runs: model, strategy, rounds, seed.
    """

    name: str
    digest: str
    settings: dict[str, str]

    @staticmethod
    def of(experiment: Experiment) -> Facts:
        """Return the facts of an experiment."""
        settings = {
            "model": experiment.model.name,
            "strategy": experiment.strategy.name if experiment.strategy else "default",
            "rounds": str(experiment.federation.rounds),
            "seed": str(experiment.seed),
            "privacy": experiment.privacy.unit,
        }
        return Facts(experiment.name, experiment.digest, settings)


class Tracker(Protocol):
    """Takes numbers by name and step. A step that was told before may come again after a crash."""

    def tell(self, step: int, figures: dict[str, float]) -> None:
        """Keep the numbers of one step; they can be read when this returns."""
        ...

    def close(self) -> None:
        """End."""
        ...


class Build(Protocol):
    """Opens a tracker in a run folder."""

    def __call__(self, home: Path, facts: Facts) -> Tracker:
        """Return the tracker, continuing what is there."""
        ...

    def ready(self) -> None:
        """Raise ImportError where the library is missing."""
        ...


@dataclass(frozen=True)
class TrackerSpec:
    """One line of TRACKERS.

    Parameters
    ----------
    build : Build
        Opens it.
    writes : str
        What it leaves, and how to look at it.
    """

    build: Build
    writes: str
