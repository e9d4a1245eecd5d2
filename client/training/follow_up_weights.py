"""What a network of survival weighs patients by: who is followed how long, and how rare events are; of the federation, or else of the site."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from client.training.records import Records
from shared_models.blocks.spec import ModelSpec
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment
from shared_models.survival.binary_heads import BinaryHeads, reached
from shared_models.survival.censoring import check_reach, staying_in, staying_of
from shared_models.survival.event_weights import factors_of, horizon_counts, horizon_counts_in, interval_counts, interval_counts_in
from shared_models.survival.hazards import HazardObjective


def weighed(spec: ModelSpec, experiment: Experiment, records: Records, *, judged: bool = False) -> ModelSpec:
    """Return the spec of a network of survival with the weights of its patients in its objective; any other spec as it is.

    They come from the federation's life table where the experiment sums one (``[[statistics]] life_table``), else from the records at hand: a site
    then stands for its own patients.

    Parameters
    ----------
    spec : ModelSpec
        As `catalogue.spec_in` gives it.
    experiment : Experiment
        Its ``data.heads`` and ``train.class_weights``.
    records : Records
        Of one site, or of several together.
    judged : bool
        Leave the weights of events out: a judgement asks how likely what happened was.

    Raises
    ------
    BadState
        The federation's table ends before the last horizon.
    BadCohort
        Binary heads are to be learnt, and no record is followed to any horizon.
    """
    objective, times = spec.objective, records.times
    if times is None or not isinstance(objective, HazardObjective | BinaryHeads):
        return spec
    how, table = "none" if judged else experiment.train.class_weights, records.federation
    events = (records.labels == 1).astype(np.float64)
    if isinstance(objective, HazardObjective):
        counts = interval_counts(times, events, objective.edges) if table is None else interval_counts_in(table, objective.edges)
        stayed, died = factors_of(counts, how)
        return replace(spec, objective=replace(objective, factors=(float(stayed), float(died))))
    curve = staying_of(times, events) if table is None else staying_in(table)
    check_reach(curve, objective.horizons)
    if not reached(objective.horizons, curve):
        remedy = "more patients, or [[statistics]] life_table: the federation's table then says who left"
        raise BadCohort("binary heads need somebody who is followed to a horizon", value=float(times.max(initial=0)), remedy=remedy)
    counts = horizon_counts(times, events, objective.horizons, curve) if table is None else horizon_counts_in(table, objective.horizons)
    return replace(spec, objective=replace(objective, staying=curve, events=tuple(map(tuple, factors_of(counts, how).tolist()))))
