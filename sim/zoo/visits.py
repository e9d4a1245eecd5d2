"""What *works when* asks of a model of visits: that later ones help where their change kills, and that visits know their time and not their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from client.prognosis import prognosis_of
from client.training.records import Records
from shared_models.columns import of_visits
from shared_models.core.choices import apply_overrides, validated
from shared_models.core.files import read_json, read_state, write_json
from shared_models.experiment import Experiment
from shared_models.metrics.prognosis import score_prognosis
from sim.federation import federate_in_pool
from sim.pool import Pool
from sim.tasks import records_at
from sim.zoo.criteria import Criterion, title_of
from sim.zoo.ran import Ran


def history_helps(metric: str = "harrell_c", *, least: float | None) -> Criterion:
    """Ask that a metric is better than that of the same federation which sees the first visit alone, of the same patients from the same day on."""

    def figure(ran: Ran) -> float | None:
        ours, theirs = ran.value(metric), first_visit_alone(ran)[metric]["value"]
        return None if ours is None or theirs is None else ours - theirs

    return Criterion(f"{title_of(metric)} minus that of the first visit alone", figure, least=least)


def first_visit_alone(ran: Ran) -> dict[str, Any]:
    """Return the metrics of the federation without history; what is finished is read again."""
    document = apply_overrides(ran.experiment.model_dump(mode="json", exclude_none=True), ["model.history=false"])
    chosen = validated(Experiment, document, what=f"{ran.experiment.name}, first visit")
    folder = ran.folder / "variants" / f"first-visit-{chosen.digest[:12]}"
    if not (folder / "scores.json").exists():
        with Pool(ran.processes, experiment=chosen.for_sites().to_json()) as pool:
            federate_in_pool(chosen, list(ran.training), folder / "federation", pool)
        outcomes, risks, names = _judged(chosen, folder / "federation" / "final.safetensors", ran)
        found = score_prognosis(outcomes, risks, chosen.data.horizons, groups=names, seed=chosen.seed, bootstrap=chosen.evaluation.bootstrap)
        write_json(folder / "scores.json", found, durable=False)
    return read_json(folder / "scores.json")


def order_is_free(most: float = 1e-5) -> Criterion:
    """Ask that no risk changes by more than rounding when the visits of every patient come in another order together with their times."""

    def figure(ran: Ran) -> float | None:
        return reordered(ran, with_times=True)

    return Criterion("largest change of a risk when visits come in another order", figure, most=most)


def time_counts(least: float = 0.01) -> Criterion:
    """Ask that risks change, on average, when what was found is turned round and the times stay: getting worse is not getting better."""

    def figure(ran: Ran) -> float | None:
        return reordered(ran, with_times=False)

    return Criterion("mean change of a risk when the course is turned round", figure, least=least)


def reordered(ran: Ran, *, with_times: bool) -> float:
    """Return by how much risks of the held-out patients change when their visits are turned round: the most, or without their times the mean."""
    state = read_state(ran.folder / "federation" / "final.safetensors")
    records = records_at([str(site) for site in ran.held_out], ran.experiment, state)
    turned = turned_round(records.inputs, ran.experiment, with_times=with_times)
    before = prognosis_of(ran.experiment, state, records)
    after = prognosis_of(ran.experiment, state, Records(turned, records.labels, records.names))
    change = np.abs(after - before)
    return float(change.max() if with_times else change.mean())


def turned_round(rows: np.ndarray, experiment: Experiment, *, with_times: bool) -> np.ndarray:
    """Return courses (n, visits * (1 + columns)) with the visits last first, or without their times with what was found alone last first."""
    visits = experiment.inputs.most_visits
    each = rows.reshape(len(rows), visits, len(of_visits(experiment.inputs.columns, 1))).copy()
    if with_times:
        return each[:, ::-1].reshape(len(rows), -1)
    for one in each:
        happened = np.flatnonzero(~np.isnan(one[:, 0]))
        one[happened, 1:] = one[happened[::-1], 1:]
    return each.reshape(len(rows), -1)


def _judged(experiment: Experiment, state: Path, ran: Ran) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    whole = read_state(state)
    records = records_at([str(site) for site in ran.held_out], experiment, whole)
    return records.outcome, prognosis_of(experiment, whole, records), records.names
