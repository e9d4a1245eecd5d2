"""MLflow, into a SQLite file of the run folder. Its telemetry is switched off before it is imported."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from server.runs.tracking.spec import Facts

FILE = "mlflow.db"
TAG = "fedild.digest"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""Without these MLflow reports its use to its makers."""
AT_ONCE = 1000
"""Metrics that MLflow takes in one call."""


class MlflowDatabase:
    """One MLflow run: parameters once, metrics by round."""

    def __init__(self, path: Path, facts: Facts) -> None:
        os.environ.update(QUIET)
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self._metric = Metric
        self._client: Any = MlflowClient(tracking_uri=f"sqlite:///{path}")
        found = self._client.get_experiment_by_name(facts.name)
        # Artifacts would go to the working directory, whose path would then be kept: there are none, and the place says so.
        place = found.experiment_id if found else self._client.create_experiment(facts.name, artifact_location="file:///nowhere")
        known = self._client.search_runs([place], filter_string=f"tags.`{TAG}` = '{facts.digest}'", max_results=1)
        if known:
            self._run = known[0].info.run_id
        else:
            self._run = self._client.create_run(place, tags={TAG: facts.digest}, run_name=facts.name).info.run_id
            for name, value in facts.settings.items():
                self._client.log_param(self._run, name, value)

    def tell(self, step: int, figures: dict[str, float]) -> None:
        """Keep the numbers of one step."""
        now = int(time.time() * 1000)
        rows = [self._metric(_named(name), value, now, step) for name, value in figures.items()]
        for start in range(0, len(rows), AT_ONCE):
            self._client.log_batch(self._run, metrics=rows[start : start + AT_ONCE])

    def close(self) -> None:
        """Say that the run has ended."""
        self._client.set_terminated(self._run)


def _named(name: str) -> str:
    """Return a name as MLflow allows it: letters, digits, ``_ - . : /`` and spaces."""
    return "".join(letter if letter.isalnum() or letter in "_-.:/ " else "_" for letter in name)


class Build:
    """Opens the database of a run."""

    def __call__(self, home: Path, facts: Facts) -> MlflowDatabase:
        """Return the run in it, continued where there is one of this experiment."""
        return MlflowDatabase((home / FILE).resolve(), facts)

    def ready(self) -> None:
        """Raise ImportError without MLflow."""
        os.environ.update(QUIET)
        import mlflow  # noqa: F401


mlflow_database = Build()
