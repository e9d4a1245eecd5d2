"""A release as one network from what the model reads to what a prediction says: what every form of export writes, and its description."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from client.training.gradient import network_of
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.bundle import NOTICE, Bundle
from shared_models.catalogue import spec_of
from shared_models.core.errors import BadInput
from shared_models.ensemble import members_of
from shared_models.experiment import Experiment
from shared_models.phases import columns_of, trained
from shared_models.survival.hazards import START_LOGIT

MOST_ERROR = 1e-4
"""Largest difference between the exported network and our own, of probabilities or risks; float32 in another order of summation stays far below."""

AXES = {"slices": ("slice", "y", "x"), "volume": ("channel", "z", "y", "x"), "patch": ("channel", "y", "x"), "table": ("column",)}


@dataclass(frozen=True)
class Written:
    """What was written, and the largest difference from our own output over random records."""

    path: Path
    error: float
    files: tuple[str, ...]


class Said(nn.Module):
    """From logits to what a prediction says: probabilities of classes or findings, or risks at the horizons."""

    parts: Tensor

    def __init__(self, target: str, intervals: Sequence[float] = (), horizons: Sequence[float] = ()) -> None:
        super().__init__()
        self.target, edges = target, list(intervals)
        starts = [0.0, *edges][: len(edges)]
        parts = [[min(1.0, max(0.0, (h - a) / (b - a))) for a, b in zip(starts, edges, strict=True)] for h in horizons]
        self.register_buffer("parts", torch.tensor(parts, dtype=torch.float32).reshape(len(parts), len(edges)), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        """Return probabilities (n, classes, ...) or risks (n, horizons)."""
        if self.target == "findings":
            return torch.sigmoid(logits)
        if (
            self.target == "survival"
        ):  # survival to a horizon: the product over intervals of (1 - hazard) to the power of the part that lies before it
            return 1 - torch.exp(nn.functional.logsigmoid(-(logits + START_LOGIT)) @ self.parts.T)
        return torch.softmax(logits, dim=1)


class Released(nn.Module):
    """The networks of a release, one or the members of an ensemble, and the weighted mean of what they say."""

    def __init__(self, networks: list[nn.Module], weights: list[float], said: Said) -> None:
        super().__init__()
        self.networks, self.weights, self.said = nn.ModuleList(networks), weights, said

    def forward(self, records: Tensor) -> Tensor:
        """Return what the release says of records (n, ...) before its calibrations."""
        parts = [weight * self.said(network(records)) for weight, network in zip(self.weights, self.networks, strict=True)]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def released(bundle: Bundle) -> Released:
    """Return the network of a release, in evaluation mode.

    Raises
    ------
    BadInput
        It is no network: forests and regressions are arrays and a formula, which no exchange format of networks holds. Or it learnt no labels.
    """
    experiment, data = bundle.experiment, bundle.experiment.data
    refuse_speechless(experiment)
    members = members_of(trained(bundle.state))
    networks = [network_of(experiment, member.state) for member in members]
    return Released(networks, [member.weight for member in members], Said(data.target, data.intervals, data.horizons)).eval()


def refuse_speechless(experiment: Experiment) -> None:
    """Refuse a model that is no network, or one that has nothing to say.

    Raises
    ------
    BadInput
        Saying how to use it elsewhere.
    """
    spec = spec_of(experiment.model)
    if experiment.data.target == "reconstruction":
        remedy = "start a diagnosis model from it, [model.weights], and export that"
        raise BadInput("a network that learnt without labels says nothing of a patient", value=experiment.model.name, remedy=remedy)
    if spec.fit not in NETWORK_FITS:
        remedy = (
            "read model.safetensors of the release, a file of plain arrays that any program reads; "
            f"what they mean stands in the source: {spec.source.split(';')[0]}"
        )
        raise BadInput("only a network can be exported", value=experiment.model.name, remedy=remedy)


def record_shape(experiment: Experiment) -> tuple[int, ...]:
    """Return the shape of one record as the model of an experiment reads it.

    Examples
    --------
    >>> from shared_models.core.choices import Choice
    >>> from shared_models.experiment import Data
    >>> known = Data(classes=("a", "b"))
    >>> [record_shape(Experiment(name="x", data=known, model=Choice(name=name))) for name in ("mil_cnn", "resnet18")]
    [(12, 64, 64), (1, 32, 48, 48)]
    """
    inputs, takes = experiment.inputs, spec_of(experiment.model).takes
    if takes == "table":
        return (len(columns_of(experiment)),)
    if takes == "volume":
        return (1, *inputs.shape_zyx)
    return (inputs.slices, inputs.size, inputs.size) if takes == "slices" else (1, inputs.size, inputs.size)


def random_records(experiment: Experiment, count: int, *, seed: int = 0) -> Tensor:
    """Return records for a comparison, float32 (count, ...): images between 0 and 1 or in HU, columns of a table normally distributed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *record_shape(experiment))
    spec = spec_of(experiment.model)
    if spec.takes == "table":
        return torch.randn(shape, generator=generator)
    unit = torch.rand(shape, generator=generator)
    low, high = experiment.inputs.window_hu
    return low + (high - low) * unit if spec.units == "hu" else unit


def compare(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference.

    Raises
    ------
    BadInput
        Another shape, no numbers, or more than `MOST_ERROR`.
    """
    error = float((ours - theirs).abs().max()) if ours.shape == theirs.shape else math.inf
    if not error <= MOST_ERROR:
        raise BadInput(
            "an export says what the release says", value=f"a difference of {error:.3g}", remedy="this network cannot be exported in this form"
        )
    return error


def described(bundle: Bundle) -> dict[str, Any]:
    """Return what goes with an export, as plain JSON values: whose it is, what it reads and says, and that it is for research alone."""
    experiment = bundle.experiment
    spec, data = spec_of(experiment.model), experiment.data
    return {
        "notice": NOTICE,
        "software": f"fedild {version('fedild')}",
        "bundle": bundle.digest,
        "experiment": experiment.name,
        "experiment_digest": experiment.digest,
        "model": experiment.model.name,
        "source": spec.source,
        "trained_on": bundle.card.get("trained_on"),
        "target": data.target,
        "classes": [] if data.target == "survival" else list(data.classes),
        "horizons": list(data.horizons),
        "reads": {
            "takes": spec.takes,
            "axes": list(AXES[spec.takes]),
            "shape": list(record_shape(experiment)),
            "units": "values after the release's own statistics"
            if spec.takes == "table"
            else {"unit": "0 to 1 over window_hu", "hu": "HU"}[spec.units],
            "columns": list(columns_of(experiment)),
            "inputs": experiment.inputs.model_dump(mode="json", exclude_none=True),
        },
        "preparation_digest": experiment.preparation.digest,
        "preparation": experiment.preparation.model_dump(mode="json", exclude_none=True),
        "not_included": [choice.name for choice in (*(experiment.statistics or ()), *(experiment.calibration or ()))],
    }
