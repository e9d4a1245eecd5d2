"""TRACKERS: where a run's numbers are shown while it grows. All write files beside the run and open no connection.

Which one is no part of the experiment, whose digest the sites approve: it stands in ``tracking.json`` of the run folder (`track`). Adding one is a
file beside this one and a line here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.runs.tracking.event_file import event_file
from server.runs.tracking.figures import final_figures, round_figures
from server.runs.tracking.mlflow_database import mlflow_database
from server.runs.tracking.nothing import nothing
from server.runs.tracking.spec import Facts, Tracker, TrackerSpec
from shared_models.core.errors import BadChoice
from shared_models.core.files import read_json, write_json
from shared_models.experiment import Experiment

log = logging.getLogger(__name__)

NOTE = "tracking.json"

TRACKERS: dict[str, TrackerSpec] = {
    "none": TrackerSpec(nothing, "nothing beside rounds.jsonl"),
    "mlflow": TrackerSpec(mlflow_database, "mlflow.db; look at it with `mlflow ui --backend-store-uri sqlite:///mlflow.db`"),
    "tensorboard": TrackerSpec(event_file, "tensorboard/; look at it with `tensorboard --logdir tensorboard`"),
}


def known_tracker(name: str) -> str:
    """Return the name of a tracker that can be used here.

    Raises
    ------
    BadChoice
        No such tracker, or its library is not installed.
    """
    if name not in TRACKERS:
        raise BadChoice("no such tracker", value=name, remedy=f"choose one of {', '.join(TRACKERS)}")
    try:
        TRACKERS[name].build.ready()
    except ImportError:
        raise BadChoice(f"the tracker {name!r} needs a library that is not installed", remedy="install fedild[track]") from None
    return name


def track(folder: Path, name: str) -> None:
    """Choose the tracker of the run in `folder`; raises as `known_tracker`."""
    write_json(folder / NOTE, {"tracker": known_tracker(name)})


class Tracking:
    """The tracker of a run, opened when it first has something to tell. A tracker that fails is left alone: no run stops for it.

    Parameters
    ----------
    folder : Path
        Of the rounds: the run folder, or ``federation`` in that of a simulation.
    experiment : Experiment
        Its name and settings are told once.
    """

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        self.home = next((place for place in (folder, folder.parent) if (place / NOTE).exists()), folder)
        name = read_json(self.home / NOTE)["tracker"] if (self.home / NOTE).exists() else "none"
        self._build, self._experiment = TRACKERS[name].build, experiment
        self._tracker: Tracker | None = None
        self._failed = False

    def round(self, line: Mapping[str, Any]) -> None:
        """Tell what happened in a round: a line of ``rounds.jsonl``."""
        self._tell(int(line["round"]), round_figures(line))

    def final(self, metrics: Mapping[str, Any], *, round: int) -> None:
        """Tell the figures of a finished run: ``metrics.json``."""
        self._tell(round, final_figures(metrics))

    def close(self) -> None:
        """Write what is still to be written."""
        if self._tracker is not None:
            self._tracker.close()

    def _tell(self, step: int, figures: dict[str, float]) -> None:
        if self._failed:
            return
        try:
            if self._tracker is None:
                self._tracker = self._build(self.home, Facts.of(self._experiment))
            self._tracker.tell(step, figures)
        except Exception as error:
            self._failed = True
            log.warning("tracking ends: %s", type(error).__name__)


def tell_final(folder: Path, experiment: Experiment, metrics: Mapping[str, Any]) -> None:
    """Tell the tracker of the run in `folder` its final figures."""
    tracking = Tracking(folder, experiment)
    tracking.final(metrics, round=int(metrics.get("rounds") or experiment.federation.rounds))
    tracking.close()
