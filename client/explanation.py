"""Why a release says what it says of one study: the chosen explanation, whether it can be believed, and where it lies on the slices."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from client.cases.prepared import Prepared
from client.training import PREDICTORS
from client.training.records import Records, lung_box, slice_numbers
from shared_models.blocks.spec import NETWORK_FITS, ModelSpec
from shared_models.bundle import Bundle
from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.core.choices import look_up
from shared_models.core.errors import BadInput, FedILDError
from shared_models.ensemble import largest_of
from shared_models.experiment import Inputs
from shared_models.explanations import EXPLANATIONS, applicable
from shared_models.explanations.sanity import alike, randomised
from shared_models.explanations.subject import Subject
from shared_models.phases import columns_of, trained

if TYPE_CHECKING:
    from torch import nn

AUTO, NONE = "auto", "none"
BRIGHTEST_PERCENT = 99.5
"""Percentile of a map that is drawn brightest: a single pixel must not make the rest dark."""
CENTRED = ("scaler", "pca")
"""Statistics that leave every column with mean 0: an absent value is then 0."""
PLANES = 4
"""Slices of a volume that are shown, one of each quarter of the lungs."""


@dataclass(frozen=True)
class Explanation:
    """An explanation of one series.

    Parameters
    ----------
    method, label : str
        Line of EXPLANATIONS, and the class whose score it explains.
    alike : float or None
        Rank correlation with the same map of the same network with random weights; None for a model without a network.
    planes : dict of int to ndarray (y, x)
        Slice number to the map on the prepared grid, 0..1; empty for a table.
    columns : dict of str to float
        What each column of a table added to the score.
    """

    method: str
    label: str
    alike: float | None = None
    planes: dict[int, np.ndarray] = field(default_factory=dict)
    columns: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"method": self.method, "class": self.label, "alike": self.alike, "columns": self.columns}


def explain(bundle: Bundle, model_input: np.ndarray, label: int, *, method: str, prepared: Prepared | None = None) -> Explanation | None:
    """Explain why a release gives one record its class.

    Parameters
    ----------
    bundle : Bundle
        The release.
    model_input : ndarray
        The record as its model reads it, without the batch axis.
    label : int
        Number of the class that is explained.
    method : str
        A line of EXPLANATIONS, ``auto`` for the first that applies, ``none``.
    prepared : Prepared, optional
        The study of an image model, onto whose slices the map is laid.

    Returns
    -------
    Explanation or None
        None where none was asked for or ``auto`` finds none.

    Raises
    ------
    BadInput
        The method does not apply to the model.
    """
    if method == NONE:
        return None
    experiment, spec = bundle.experiment, spec_of(bundle.experiment.model)
    subject = subject_of(bundle, model_input)
    known = applicable(subject)
    if method == AUTO and not known:
        return None
    name = known[0] if method == AUTO else method
    check_explanation(bundle, name)
    chosen = EXPLANATIONS[name]
    try:
        heat = chosen.function(subject, label)
    except BadInput:
        raise
    except FedILDError:
        if method != AUTO:
            raise
        return None
    known_class = experiment.data.classes[label]
    if spec.takes == "table":
        return Explanation(name, known_class, columns=dict(zip(columns_of(experiment), heat.tolist(), strict=True)))
    likeness = None if subject.network is None else alike(heat, chosen.function(_by_chance(subject, subject.network), label))
    planes = {} if prepared is None else on_slices(heat, prepared, spec, experiment.inputs)
    return Explanation(name, known_class, likeness, _bright(planes))


def check_explanation(bundle: Bundle, method: str) -> None:
    """Refuse a method that does not apply to the model of a release, before any slice is read.

    Raises
    ------
    BadInput
        No such method, or one for other models.
    """
    if method in (AUTO, NONE):
        return
    model = bundle.experiment.model
    if bundle.experiment.data.target == "survival":
        raise BadInput("an explanation is of a class, and a prognosis has none", value=method, remedy="leave the explanation out")
    takes = spec_of(model).takes
    look_up(EXPLANATIONS, method, kind="explanation")
    shape = {"table": (len(columns_of(bundle.experiment)),), "slices": (1, 1, 1)}.get(takes, (1, 1, 1, 1))
    known = applicable(subject_of(bundle, np.zeros(shape)))
    if method not in known:
        raise BadInput(f"{method} must apply to the model {model.name!r}", remedy=f"choose from: {', '.join(known) or 'none'}")


def subject_of(bundle: Bundle, model_input: np.ndarray) -> Subject:
    """Return a record of a release as what an explanation asks about."""
    experiment, spec = bundle.experiment, spec_of(bundle.experiment.model)
    if spec.fit in NETWORK_FITS:
        from client.training.gradient import network_of

        network = network_of(experiment, largest_of(bundle.state))  # of an ensemble its weightiest member
        last = experiment.statistics[-1].name if experiment.statistics else ""
        standard = spec.takes == "table" and last in CENTRED
        background = np.zeros(len(columns_of(experiment))) if standard else None
        if experiment.inputs.missing == "mask":  # an absent value is one that is not known
            background = np.full(len(columns_of(experiment)), np.nan)
        each = experiment.data.target == "findings"
        return Subject(model_input, spec.takes, _predict_of(network, each), network, spec.feature_map, background, each=each)

    def predict(rows: np.ndarray) -> np.ndarray:
        return PREDICTORS[spec.fit](experiment, bundle.state, Records(rows, np.zeros(len(rows), np.int64), ("",) * len(rows)))

    background = background_of(trained(bundle.state), model_input) if spec.takes == "table" else None
    return Subject(model_input, spec.takes, predict, background=background, logits=spec.fit != "trees")


def background_of(state: State, row: np.ndarray) -> np.ndarray | None:
    """Return the row that stands for absent values: the mean of the training patients, or the middle of a forest's thresholds.

    A column that no tree asks for keeps the patient's own value, and so adds nothing. None where the state tells neither.

    Examples
    --------
    >>> forest = {"feature": np.array([0, -1, 0, -1]), "threshold": np.array([2.0, 0.0, 4.0, 0.0])}
    >>> background_of(forest, np.array([9.0, 7.0])).tolist()
    [3.0, 7.0]
    """
    if "mean" in state and state["mean"].shape == row.shape:
        return np.asarray(state["mean"], float)
    if not {"feature", "threshold"} <= state.keys():
        return None
    middle = np.array(row, float)
    for column in range(len(row)):
        asked = state["threshold"][state["feature"] == column]
        if len(asked):
            middle[column] = np.median(asked)
    return middle


def on_slices(heat: np.ndarray, prepared: Prepared, spec: ModelSpec, inputs: Inputs) -> dict[int, np.ndarray]:
    """Lay a map of what the model read back onto the slices of the prepared study.

    Parameters
    ----------
    heat : ndarray
        (k, y, x) of slices or (z, y, x) of a volume.
    prepared : Prepared
        The study with its lung mask.
    spec : ModelSpec
        Says which of the two the model reads.
    inputs : Inputs
        How it was cut out.

    Returns
    -------
    dict of int to ndarray (y, x)
        All slices that a model of slices read, or of a volume the most eloquent one of each quarter of the lungs.
    """
    mask = prepared.mask
    if mask is None or not mask.any():
        return {}
    spacing = prepared.volume.spacing_mm[1:]
    box = lung_box(np.asarray(mask.any(0)), inputs.margin_mm, spacing)
    found: dict[int, np.ndarray] = {}
    if spec.takes == "slices":
        for number, plane in zip(slice_numbers(mask, len(heat)).tolist(), heat, strict=True):
            placed = _placed(_unsquared(plane, box, spacing), box, mask.shape[1:])
            found[number] = np.maximum(found[number], placed) if number in found else placed
        return found
    lung = np.flatnonzero(mask.any((1, 2)))
    for part in np.array_split(np.arange(len(heat)), PLANES):
        best = int(part[np.maximum(heat[part], 0).sum((1, 2)).argmax()])
        number = int(lung[0]) + math.floor((best + 0.5) / len(heat) * (lung[-1] + 1 - lung[0]))
        found[number] = _placed(_resized(heat[best], [side.stop - side.start for side in box]), box, mask.shape[1:])
    return found


def _predict_of(network: nn.Module, each: bool) -> Any:
    def predict(records: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            logits = network(torch.from_numpy(np.ascontiguousarray(records, np.float32))).double()
        return (torch.sigmoid(logits) if each else torch.softmax(logits, dim=1)).numpy()

    return predict


def _by_chance(subject: Subject, network: nn.Module) -> Subject:
    other = randomised(network)
    return replace(subject, predict=_predict_of(other, subject.each), network=other)


def _bright(planes: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    positive = np.concatenate([plane[plane > 0] for plane in planes.values()]) if planes else np.zeros(0)
    top = float(np.percentile(positive, BRIGHTEST_PERCENT)) if len(positive) else 1.0
    return {number: np.clip(plane / top, 0, 1) for number, plane in planes.items()}


def _unsquared(plane: np.ndarray, box: tuple[slice, slice], spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Undo the square of `slices_of`: take its padding off and stretch it to the box around the lungs."""
    size = len(plane)
    shape = [side.stop - side.start for side in box]
    side_mm = max(length * mm for length, mm in zip(shape, spacing_mm, strict=True))
    inner = [min(size, max(1, round(length * size * mm / side_mm))) for length, mm in zip(shape, spacing_mm, strict=True)]
    cut = tuple(slice((size - n) // 2, (size - n) // 2 + n) for n in inner)
    return _resized(plane[cut], shape)


def _resized(plane: np.ndarray, shape: list[int]) -> np.ndarray:
    return np.asarray(ndimage.zoom(plane, [a / b for a, b in zip(shape, plane.shape, strict=True)], order=1, grid_mode=True, mode="nearest"))


def _placed(part: np.ndarray, box: tuple[slice, slice], shape: tuple[int, ...]) -> np.ndarray:
    whole = np.zeros(shape, np.float32)
    whole[box] = part
    return whole
