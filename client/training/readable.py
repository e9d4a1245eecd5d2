"""Whether a model can read the records it is given: a named error instead of what a matrix product says."""

from __future__ import annotations

import numpy as np

from client.training.records import Records
from shared_models.catalogue import inputs_of, spec_of
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment

AXES = {"slices": "(patients, slices, y, x)", "volume": "(patients, 1, z, y, x)", "patch": "(patches, 1, y, x)", "table": "(patients, columns)"}
"""Shape of the records that a model takes; kinds that are not here are not looked at."""


def refuse_unreadable(experiment: Experiment, records: Records) -> None:
    """Refuse records whose shape the experiment's model does not read, and labels that are none of its classes.

    Raises
    ------
    BadCohort
        Too many or too few axes, channels or columns, or a label outside the classes.
    """
    takes = spec_of(experiment.model).takes
    if len(records) == 0 or takes not in AXES:
        return
    shape, axes = records.inputs.shape, AXES[takes].count(",") + 1
    channels = {"volume": 1, "patch": 1, "table": inputs_of(experiment) if takes == "table" else 0}.get(takes)
    if len(shape) != axes or (channels is not None and shape[1] != channels):
        wanted = AXES[takes] if takes != "table" else f"(patients, {channels})"
        raise BadCohort(f"model {experiment.model.name!r} reads records of shape {wanted}", value=shape, remedy="prepare them for this model")
    if np.issubdtype(records.labels.dtype, np.integer) and not 0 <= records.labels.min() <= records.labels.max() < len(experiment.data.classes):
        raise BadCohort(f"a label is one of {len(experiment.data.classes)} classes", value=(int(records.labels.min()), int(records.labels.max())))
