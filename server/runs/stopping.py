"""Which round was the best on the federated validation metric, and when to stop.

Sites judge the state that they receive on their own validation patients, so round r + 1 says how good the state after round r is: nothing is
asked twice. Where the sites of a round do not all see that state (a chain, a buffer, a sample), all of them are asked to judge it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from server.runs.check import MOST_CASES
from server.runs.checkpoint import RoundState, load_state
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.files import read_json
from shared_models.experiment import Experiment, Stopping

LOWER_IS_BETTER = frozenset({"val_loss"})
BEST, WAITED, SCORED = "best", "waited", "scored"


@dataclass
class Course:
    """How the federated metric has gone so far; part of every checkpoint."""

    settings: Stopping
    best: int = 0
    """Round of the best state; 0 before any has been judged."""
    value: float = float("nan")
    waited: int = 0
    """Judged rounds since the best one."""
    scored: int = 0
    """Last round whose state was judged."""

    @staticmethod
    def of(settings: Stopping, kept: State) -> Course:
        """Return the course of a run that was checkpointed with `kept`."""
        if BEST not in kept:
            return Course(settings)
        return Course(settings, int(kept[BEST][0]), float(kept[BEST][1]), int(kept[WAITED]), int(kept[SCORED]))

    def keep(self) -> State:
        """Return what a checkpoint has to hold."""
        return {BEST: np.array([float(self.best), self.value]), WAITED: np.array(self.waited), SCORED: np.array(self.scored)}

    def note(self, round: int, value: float | None) -> dict[str, Any] | None:
        """Take the metric of the state after `round`, None when no site could tell it; return what the log says of it.

        The untrained state of round 0 does not count.
        """
        if round < 1 or round <= self.scored or value is None:
            return None
        self.scored = round
        sign = -1.0 if self.settings.metric in LOWER_IS_BETTER else 1.0
        if not self.best or sign * (value - self.value) > self.settings.min_delta:
            self.best, self.value, self.waited = round, value, 0
        else:
            self.waited += 1
        return {"round": round, "metric": self.settings.metric, "value": value}

    @property
    def stop(self) -> bool:
        """Whether the metric has not become better for `patience` judged rounds."""
        return self.settings.patience is not None and self.waited >= self.settings.patience


def federated_metric(name: str, metrics: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the mean of a metric over the sites that told it, weighed with their validation patients; None when none did.

    Parameters
    ----------
    metrics : mapping
        By site, the metrics that its gate released.

    Examples
    --------
    >>> federated_metric("val_loss", {"a": {"val_loss": 1.0, "val_cases": 30}, "b": {"val_loss": 2.0, "val_cases": 10}, "c": {}})
    1.25
    """
    told = [(float(found[name]), float(found.get("val_cases", 1.0))) for _, found in sorted(metrics.items()) if name in found]
    # A site may send anything: what can be no measurement does not count, and no site counts for more patients than an update may stand for.
    told = [(value, min(cases, float(MOST_CASES))) for value, cases in told if abs(value) < 1e30 and 0 < cases < 1e30]
    weight = sum(cases for _, cases in told)
    return sum(value * cases for value, cases in told) / weight if weight > 0 else None


@dataclass(frozen=True)
class Released:
    """Which state a run releases: what ``release.json`` and the report say.

    Parameters
    ----------
    round, of : int
        Its round, and how many the run had.
    rounds : int
        How many the experiment allows.
    metric : str
        The federated validation metric that chose it; empty without one.
    value : float or None
        Its value for this state.
    """

    round: int
    of: int
    rounds: int
    metric: str = ""
    value: float | None = None
    says: str = field(default="", init=False)

    def __post_init__(self) -> None:
        how = f", the best by {self.metric}" if self.metric and self.round != self.of else ""
        value = "" if self.value is None else f" ({'' if how else self.metric + ' '}{self.value:.4g})"
        early = f"; stopped before round {self.rounds} because it no longer got better" if self.of < self.rounds else ""
        object.__setattr__(self, "says", f"the state after round {self.round} of {self.of}{how}{value}{early}")

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def chosen(final: RoundState, course: Course | None, folder: Path, *, rounds: int) -> tuple[RoundState, Released]:
    """Return the state that a run releases: the last one, or that of the best round.

    Raises
    ------
    BadState
        The best round's checkpoint is damaged.
    """
    if course is None or not course.best:
        return final, Released(final.round, final.round, rounds)
    metric = course.settings.metric
    if course.best == final.round:
        return final, Released(final.round, final.round, rounds, metric, course.value)
    if course.settings.release == "last":
        return final, Released(final.round, final.round, rounds)
    state = load_state(folder, course.best)
    if state is None:
        raise BadState("the best round's checkpoint must be whole", value=course.best, remedy='set stopping.release = "last" in a new run')
    best = RoundState(final.run, course.best, state, final.own, final.experiment, final.roster, final.loop)
    return best, Released(course.best, final.round, rounds, metric, course.value)


def told_of_release(folder: Path, experiment: Experiment) -> dict[str, str]:
    """Return what ``run.json`` and the card say of the round that was released; nothing for a run that goes to its end in any case."""
    path = folder / "release.json"
    return {"released": str(read_json(path)["says"])} if experiment.federation.stopping is not None and path.exists() else {}
