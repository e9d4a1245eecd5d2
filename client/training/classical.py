"""Fitting and predicting with models that have no gradients: one contribution a round."""

from __future__ import annotations

from typing import Any

import numpy as np

from client.training.fitter import Fitted
from client.training.readable import refuse_unreadable
from client.training.records import Records
from client.training.rules import Rule
from client.training.steps import StepFile
from shared_models.blocks.spec import Classical
from shared_models.catalogue import build, spec_of
from shared_models.core.arrays import State
from shared_models.experiment import Experiment
from shared_models.phases import trained
from shared_models.statistics.spec import Statistic


def fit_classical(
    experiment: Experiment,
    state: State,
    records: Records,
    *,
    rule: Rule,
    factor: float,
    seed: int,
    steps: StepFile | None = None,
    model: Classical | Statistic | None = None,
) -> Fitted:
    """Return the site's contribution (sums or trees) to the current state; one pass, so there is nothing to go on from.

    `model` is what is fitted, by default the experiment's model: a statistic before training.
    """
    del rule, factor, steps
    if model is None:
        refuse_unreadable(experiment, records)
    fitted: Any = model or build(experiment.model, inputs=records.inputs.shape[1], outputs=experiment.data.outputs)
    known = records.outcome if model is None else records.course
    if spec_of(experiment.model).task == "segmentation":  # of windows a forest must know whose they are: a leaf is of patients
        known = np.stack([records.labels, records.owners], axis=1)
    return Fitted(fitted.contribution(state, records.inputs, known, seed=seed), steps=1)


def predict_classical(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    """Return class probabilities, shape (n, classes), or what else the model predicts."""
    refuse_unreadable(experiment, records)
    model = build(experiment.model, inputs=records.inputs.shape[1], outputs=experiment.data.outputs)
    return model.predict(trained(state), records.inputs)
