"""One cell of the grid: one strategy with one seed, federated and judged on the ground that all strategies share.

    <cell>/experiment.json  <fold>/federation/  <fold>/curve.jsonl
    <cell>/predictions.json what the final model says of every test patient
    <cell>/cell.json        the figures

The figures are written last: a cell that has them is finished.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server.app import strategy_of
from server.runs.checkpoint import RoundState
from server.runs.log import read_rounds
from server.runs.rounds import RoundRecord
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.core.files import read_json, write_json, write_state
from shared_models.experiment import Experiment
from shared_models.metrics import score
from sim.comparison.ground import Fold, Test
from sim.federation import federate_in_pool
from sim.pool import Pool

SHOWN = ("auroc_macro", "balanced_accuracy", "accuracy", "macro_f1", "brier", "ece")
"""Metrics beside the headline."""

Answer = tuple[list[int], list[list[float]], list[str]]
"""Labels, probabilities and names of a test set."""


def run_cell(experiment: Experiment, folds: Sequence[Fold], folder: Path, pool: Pool, *, told: Callable[[int, int], None]) -> dict[str, Any]:
    """Federate and judge; return the cell's figures. Rounds that are there from an interrupted run are not run again.

    Returns
    -------
    dict
        ``value`` (the headline metric, mean over test sets), ``metrics``, ``tests`` and ``homes`` (headline of each), ``curve`` (round, value),
        ``bytes`` and ``wall_s`` of the rounds, ``rounds``, ``degraded``, ``cases``.
    """
    headline, curves, lines = experiment.evaluation.headline, [], []
    answers: dict[str, Answer] = {}
    homes: dict[str, list[Answer]] = {}
    total = len(folds) * experiment.federation.rounds
    for place, fold in enumerate(folds):
        here = folder / fold.name
        judge = Judge(experiment, here, pool)

        def on_round(record: RoundRecord, at: RoundState, fold: Fold = fold, judge: Judge = judge, place: int = place) -> None:
            judge.follow(record.round, at, fold.tests)
            told(place * experiment.federation.rounds + record.round, total)

        final = federate_in_pool(experiment, list(fold.train), here / "federation", pool, on_round=on_round)
        found = judge.answers(
            here / "federation" / "final.safetensors",
            (final.run, final.round),
            (*fold.tests, *(test for test in fold.homes if test not in fold.tests)),
        )
        answers |= {test.name if len(folds) == 1 or test not in fold.homes else f"{fold.name} {test.name}": found[test] for test in fold.tests}
        for test in fold.homes:
            homes.setdefault(test.name, []).append(found[test])
        curves.append(judge.curve())
        lines += read_rounds(here / "federation" / "rounds.jsonl")
    write_json(folder / "predictions.json", {name: list(answer) for name, answer in answers.items()}, durable=False)
    metrics = {
        metric: mean_of([value_of(experiment, metric, answer) for answer in answers.values()]) for metric in {headline: 0, **dict.fromkeys(SHOWN)}
    }
    rounds = sorted({number for curve in curves for number in curve})
    return {
        "value": metrics[headline],
        "metrics": metrics,
        "tests": {name: value_of(experiment, headline, answer) for name, answer in answers.items()},
        "homes": {name: mean_of([value_of(experiment, headline, answer) for answer in found]) for name, found in homes.items()},
        "home_cases": {name: min(len(answer[0]) for answer in found) for name, found in homes.items()},
        "curve": [[number, mean_of([curve.get(number) for curve in curves])] for number in rounds],
        "bytes": sum(line["bytes"] for line in lines),
        "wall_s": round(sum(line["wall_s"] for line in lines), 3),
        "rounds": len(lines),
        "degraded": sum(line["degraded"] for line in lines),
        "cases": sum(len(answer[0]) for answer in answers.values()),
    }


def value_of(experiment: Experiment, metric: str, answer: Answer) -> float | None:
    """Return a metric of one test set; None is undefined."""
    return score(answer[0], answer[1], experiment.data.classes, metrics=(metric,), bootstrap=0)[metric]["value"] if answer[0] else None


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean, None where one of the values is undefined.

    Examples
    --------
    >>> mean_of([0.5, 1.0]), mean_of([0.5, None])
    (0.75, None)
    """
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if values and len(known) == len(values) else None


class Judge:
    """Judges states of one federation on test sets, by the pool's processes."""

    def __init__(self, experiment: Experiment, folder: Path, pool: Pool) -> None:
        self.experiment, self.folder, self.pool = experiment, folder, pool
        fit, classes = spec_of(experiment.model).fit, len(experiment.data.classes)
        model = None if fit in NETWORK_FITS else build(experiment.model, inputs=inputs_of(experiment), outputs=classes)
        self.rule = strategy_of(experiment, model).rule

    def answers(self, state: Path, at: tuple[str, int], tests: Sequence[Test]) -> dict[Test, Answer]:
        """Return what a saved state says of each test set; `at` is its run and round."""
        text = self.experiment.for_sites().to_json()
        calls = [
            ("predictions_at_home", (text, str(state), str(test.site), test.part, self.rule, at))
            if test.own
            else ("predictions", (text, str(state), [str(test.site)], test.part))
            for test in tests
        ]
        if self.pool.pending:  # sites are still at work: their answers must not be taken for ours
            import sim.tasks

            found = [getattr(sim.tasks, function)(*arguments) for function, arguments in calls]
        else:
            found = self._by_pool(calls)
        return dict(zip(tests, found, strict=True))

    def _by_pool(self, calls: Sequence[tuple[str, tuple]]) -> list[Answer]:
        answers: list[Any] = [None] * len(calls)
        for number, (function, arguments) in enumerate(calls):
            self.pool.submit(("judged", number), "sim.tasks", function, arguments)
        while self.pool.pending:
            for (_, number), value in self.pool.results(None):
                answers[number] = value
        return answers

    def follow(self, number: int, at: RoundState, tests: Sequence[Test]) -> None:
        """Judge the model after a round and write a line of the learning curve."""
        state, headline = self.folder / "judged.safetensors", self.experiment.evaluation.headline
        write_state(state, at.state, durable=False)
        found = self.answers(state, (at.run, at.round), tests)
        state.unlink()
        value = mean_of([value_of(self.experiment, headline, answer) for answer in found.values()])
        with open(self.folder / "curve.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps([number, value]) + "\n")

    def curve(self) -> dict[int, float | None]:
        """Return the headline metric after each round; of a round that was repeated the last word counts."""
        path = self.folder / "curve.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return {int(number): value for number, value in map(json.loads, lines)}


def read_predictions(folder: Path) -> Mapping[str, Answer]:
    """Return what a finished cell's final model says of every test patient, by test set."""
    return read_json(folder / "predictions.json")
