"""FITTERS, PRIVATE_FITTERS and PREDICTORS: how a site fits and applies a model, by the `fit` of its spec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.ensemble import members_of
from shared_models.experiment import Experiment

if TYPE_CHECKING:
    import numpy as np

    from client.cases.cohort import Case
    from client.training.fitter import Fitted
    from client.training.records import Records, See


def _gradient_fit(*args: Any, **kwargs: Any) -> Fitted:
    from client.training.gradient import fit_gradient  # torch is imported by the first fit, not by the command line

    return fit_gradient(*args, **kwargs)


def _adversarial_fit(*args: Any, **kwargs: Any) -> Fitted:
    from client.training.adversarial import fit_adversarial

    return fit_adversarial(*args, **kwargs)


def _private_fit(*args: Any, **kwargs: Any) -> Fitted:
    from client.training.private import fit_private

    return fit_private(*args, **kwargs)


def _private_sums_fit(*args: Any, **kwargs: Any) -> Fitted:
    from client.training.private_sums import fit_private_sums

    return fit_private_sums(*args, **kwargs)


def _gradient_predict(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    from client.training.gradient import predict_gradient

    # One network, or the members of an ensemble: the weighted mean of their probabilities.
    return sum(member.weight * predict_gradient(experiment, member.state, records) for member in members_of(state))  # type: ignore[return-value]


def diagnosis_probabilities(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    """Return what the second head of a network of survival says: the probability of each of ``data.diagnoses``, shape (n, diagnoses)."""
    from client.training.gradient import predict_gradient
    from client.training.hazards import diagnoses_of

    said = partial(diagnoses_of, data=experiment.data)
    return sum(m.weight * predict_gradient(experiment, m.state, records, said=said) for m in members_of(state))  # type: ignore[return-value]


def objective_loss(experiment: Experiment, state: State, records: Records) -> float:
    """Return the mean of a network's own objective over `records`, in evaluation mode."""
    from client.training.gradient import judge_objective

    return judge_objective(experiment, state, records)


def pixel_tables(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    """Return of each record how many pixels of each class a network that labels pixels called what, shape (n, classes, classes).

    Of a forest of windows it is of each patient how many windows.
    """
    if spec_of(experiment.model).fit == "trees":
        from client.training.windows import judged_windows

        return judged_windows(experiment, state, records)
    from client.training.maps import judged_records

    return judged_records(experiment, state, records)


def case_pixel_tables(experiment: Experiment, state: State, cases: Sequence[Case], workspace: Path, *, see: See | None = None) -> np.ndarray:
    """Return the table of pixels (truth, call) of each case over all its annotated slices, shape (cases, classes, classes)."""
    if spec_of(experiment.model).fit == "trees":
        from client.training.windows import judged_studies

        return judged_studies(experiment, state, cases, workspace, see=see)
    from client.training.maps import judged_cases

    return judged_cases(experiment, state, cases, workspace, see=see)


def _classical_fit(*args: Any, **kwargs: Any) -> Fitted:
    from client.training.classical import fit_classical

    return fit_classical(*args, **kwargs)


def _classical_predict(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    from client.training.classical import predict_classical

    return predict_classical(experiment, state, records)


FITTERS: dict[str, Callable[..., Fitted]] = {
    "gradient": _gradient_fit,
    "adversarial": _adversarial_fit,
    "sums": _classical_fit,
    "trees": _classical_fit,
}
PRIVATE_FITTERS: dict[str, Callable[..., Fitted]] = {"gradient": _private_fit, "sums": _private_sums_fit}
"""Fitters that hide patients or records behind noise; a model that is not here cannot be fitted under ``[privacy]``."""

PREDICTORS: dict[str, Callable[..., np.ndarray]] = {
    "gradient": _gradient_predict,
    "adversarial": _gradient_predict,
    "sums": _classical_predict,
    "trees": _classical_predict,
}
