"""How much the members of a released ensemble disagree about the patients of a site."""

from __future__ import annotations

import numpy as np

from client.training import PREDICTORS
from client.training.records import Records
from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.ensemble import members_of
from shared_models.ensembles.disagreement import disagreement
from shared_models.experiment import Experiment


def disagreement_of(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    """Return how much the members of an ensemble disagree about each record, nats, shape (n,); all 0 of a single model."""
    members = members_of(state)
    predict = PREDICTORS[spec_of(experiment.model).fit]
    p = np.stack([predict(experiment, member.state, records) for member in members])
    return disagreement(p, np.array([member.weight for member in members]))
