"""Reference models of the calibrated membership attack: trained like the released one, each on half of the patients.

They come in pairs whose halves make up the whole, so every patient was seen by exactly half of them and never by the other half.
"""

from __future__ import annotations

import numpy as np

from client.privacy.membership import by_patient, sureness
from client.training import FITTERS, PREDICTORS
from client.training.records import Records
from client.training.resting import resting
from client.training.rules import Plain
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.catalogue import build, initial_state, inputs_of, spec_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput
from shared_models.experiment import Experiment, learning_rate_factor
from shared_models.phases import phases_of


def train_alone(experiment: Experiment, records: Records, *, seed: int) -> State:
    """Return the model that the rounds of `experiment` make of `records` at one site, by its own trainer, without noise."""
    spec, classes = spec_of(experiment.model), len(experiment.data.classes)
    model = None if spec.fit in NETWORK_FITS else build(experiment.model, inputs=inputs_of(experiment), outputs=classes)
    state = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=classes, seed=seed)
    for phase in phases_of(experiment):
        if phase.number is not None:
            continue  # the records are seen under the statistics of the release; calibrations change no weight
        for number in range(1, phase.rounds + 1):
            factor = learning_rate_factor(phase.settings.train, number, phase.rounds)
            rule = resting(Plain(), phase.settings, frozenset(phase.changed(state))) if phase.train_only else Plain()
            fitted = FITTERS[spec.fit](phase.settings, state, records, rule=rule, factor=factor, seed=seed + number)
            state = fitted.state if model is None else model.combine(state, [fitted.state], [float(len(records))])
    return state


def sureness_of(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    """Return how sure a model is of each patient's class, patients in the order of their first record."""
    probabilities = PREDICTORS[spec_of(experiment.model).fit](experiment, state, records)
    return by_patient(sureness(probabilities, records.labels), records.names)[1]


def sureness_unseen(experiment: Experiment, records: Records, *, references: int, seed: int) -> np.ndarray:
    """Return how sure models that never saw the patient are of each patient's class, shape (patients,).

    Parameters
    ----------
    experiment : Experiment
        How they are trained.
    records : Records
        Of members and of others.
    references : int
        Models; an even number.
    seed : int
        Of halves and training.

    Raises
    ------
    BadInput
        An odd number, or none.
    """
    if references < 2 or references % 2:
        raise BadInput("reference models come in pairs", value=references, remedy="choose 2, 4, 8, ...")
    patients = tuple(dict.fromkeys(records.names))
    rng, total = np.random.default_rng(seed), np.zeros(len(patients))
    for pair in range(references // 2):
        first = set(rng.permutation(len(patients))[: len(patients) // 2].tolist())
        for half in (first, set(range(len(patients))) - first):
            seen = {patients[number] for number in half}
            own = records.take([number for number, name in enumerate(records.names) if name in seen])
            sure = sureness_of(experiment, train_alone(experiment, own, seed=seed + 1000 * pair), records)
            total += np.where([name in seen for name in patients], 0.0, sure)
    return total / (references // 2)
