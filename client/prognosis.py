"""Which models of survival state risks at the horizons, and the risks that they state; the others order patients and no more."""

from __future__ import annotations

import numpy as np

from client.training import PREDICTORS
from client.training.records import Records
from shared_models.blocks.spec import NETWORK_FITS, Stating
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.core.arrays import State
from shared_models.experiment import Experiment
from shared_models.phases import trained


def states_risks(experiment: Experiment) -> bool:
    """Say whether the experiment's model gives probabilities at the horizons: a network does, and a model that keeps baseline hazards.

    Examples
    --------
    >>> from shared_models.core.choices import Choice
    >>> from shared_models.experiment import Data, Inputs
    >>> data, inputs = Data.model_validate({"target": "survival", "horizons": [1, 3]}), Inputs(columns=("age",))
    >>> [states_risks(Experiment(name="x", data=data, inputs=inputs, model=Choice(name=name))) for name in ("multimodal", "cox")]
    [True, False]
    """
    return spec_of(experiment.model).fit in NETWORK_FITS or isinstance(_classical(experiment), Stating)


def prognosis_of(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    """Return risks (n, horizons) of records, or of a model without them its score (n, 1), higher for those at higher risk."""
    fit = spec_of(experiment.model).fit
    if fit not in NETWORK_FITS and isinstance(model := _classical(experiment), Stating):
        return model.risks(trained(state), records.inputs, experiment.data.horizons)
    return PREDICTORS[fit](experiment, state, records)


def _classical(experiment: Experiment) -> object:
    return build(experiment.model, inputs=inputs_of(experiment), outputs=experiment.data.outputs)
