"""MODELS: all networks and classical models behind one contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from shared_models.blocks.spec import NETWORK_FITS, ModelSpec
from shared_models.classical import CLASSICAL
from shared_models.core.arrays import State
from shared_models.core.choices import Choice, knobs_of, look_up, pick
from shared_models.core.errors import BadChoice
from shared_models.experiment import Experiment
from shared_models.lora import adapted, lora_of, without_lora
from shared_models.networks import NETWORKS
from shared_models.networks.pretraining import PRETRAINING
from shared_models.networks.segmentation import TRAINED_SEGMENTERS
from shared_models.phases import columns_of
from shared_models.pretrained import load_weights, normalise
from shared_models.survival.binary_heads import BinaryHeads
from shared_models.survival.hazards import HazardObjective
from shared_models.weights import parted

MODELS: dict[str, ModelSpec] = NETWORKS | TRAINED_SEGMENTERS | PRETRAINING | CLASSICAL


def spec_of(choice: Choice) -> ModelSpec:
    """Return the catalogue entry that `choice` names."""
    return look_up(MODELS, choice.name, kind="model")


def spec_in(experiment: Experiment) -> ModelSpec:
    """Return the catalogue entry of an experiment's model as it is trained there: where the target is survival, a network learns hazards.

    Raises
    ------
    BadChoice
        A network is to learn survival and the experiment names no horizons, or one of its outputs never moves.
    """
    spec, data = spec_of(experiment.model), experiment.data
    if data.target != "survival" or spec.fit != "gradient" or spec.task != "diagnosis" or spec.objective is not None:
        return spec
    if not data.intervals:
        remedy = "name data.horizons, and data.intervals where half units of time are too many"
        raise BadChoice("a network learns survival by the hazards of intervals", value=experiment.model.name, remedy=remedy)
    if spec.reference_logit:
        rule = "a network that learns survival has an output of its own for each hazard"
        raise BadChoice(rule, value=experiment.model.name, remedy="choose 'multimodal' for a table")
    chosen = HazardObjective if data.heads is None else BinaryHeads
    return replace(spec, task="survival", loss=None, objective=chosen(data.intervals, len(data.diagnoses)))


def source_of(choice: Choice, features: Iterable[Choice] = ()) -> str:
    """Return where the model comes from, for the card: its paper, and the weights that it, or the features it reads, start from.

    Examples
    --------
    >>> source_of(Choice(name="logistic"), [Choice(name="embedding", weights="random")]).split("; ")[-1]
    "features 'embedding' of an encoder with RANDOM weights: nobody trained it"
    """
    weights, lora = parted(choice)[1], lora_of(choice)
    started = "" if weights is None else f"; started from weights of SHA-256 {weights.sha256}, licence {weights.licence}"
    if lora is not None:
        started += f"; only additions of rank {lora.rank} to {', '.join(lora.layers)}, and {', '.join(lora.also)}, were trained (LoRA)"
    for family in features:
        given = family.knobs.get("weights")
        if given == "random":
            started += f"; features {family.name!r} of an encoder with RANDOM weights: nobody trained it"
        elif isinstance(given, Mapping):
            started += f"; features {family.name!r} of an encoder with weights of SHA-256 {given.get('sha256')}, licence {given.get('licence')}"
    return spec_of(choice).source + started


def build(choice: Choice, *, inputs: int, outputs: int) -> Any:
    """Build the chosen model with its knobs checked.

    Parameters
    ----------
    choice : Choice
        Name and knobs from ``[model]``, perhaps with weights: only their normalisation is used here, no file is read.
    inputs : int
        Channels of an image, or columns of a table.
    outputs : int
        Classes.

    Returns
    -------
    torch.nn.Module or Classical

    Examples
    --------
    >>> build(Choice(name="logistic", ridge=2.0), inputs=3, outputs=2).ridge
    2.0
    """
    if (lora := lora_of(choice)) is not None:
        if spec_of(choice).fit != "gradient":
            raise BadChoice("only a network has layers to adapt", value=choice.name, remedy="remove [model.lora]")
        return adapted(build(without_lora(choice), inputs=inputs, outputs=outputs), lora)
    plain, weights = parted(choice)
    make = pick(MODELS, plain, kind="model", get=lambda spec: spec.build)
    if weights is None:
        return make(inputs, outputs)
    if MODELS[plain.name].fit not in NETWORK_FITS:
        raise BadChoice("only a network starts from weights", value=plain.name, remedy="remove [model.weights]")
    return normalise(make(weights.channels(inputs), outputs), weights)


def inputs_of(experiment: Experiment) -> int:
    """Return what the experiment's model reads: channels of an image (1), or columns of a table after its statistics.

    Raises
    ------
    BadChoice
        A table model without columns.
    """
    if spec_of(experiment.model).takes != "table":
        return 1
    if not experiment.inputs.columns:
        raise BadChoice(f"model {experiment.model.name!r} reads a table", remedy='name its columns: inputs.columns = ["whole_haa_percent", ...]')
    groups = experiment.model.knobs.get("groups")
    if isinstance(groups, dict) and [name for _, names in sorted(groups.items()) for name in names] != list(experiment.inputs.columns):
        rule = "model.groups, side by side in the alphabetical order of their names, are inputs.columns"
        raise BadChoice(rule, value=sorted(groups), remedy="list the same columns in the same order in both")
    knob = knobs_of(spec_of(experiment.model).build).get("visits") if experiment.inputs.visits == "course" else None
    if knob is not None and (visits := experiment.model.knobs.get("visits", knob.default)) != experiment.inputs.most_visits:
        raise BadChoice("model.visits is inputs.most_visits", value=visits, remedy=f"model.visits = {experiment.inputs.most_visits}")
    return len(columns_of(experiment))


def initial_state(choice: Choice, *, inputs: int, outputs: int, seed: int) -> State:
    """Return the state that every site and every baseline starts from; equal seeds give equal bits. Weights are read here, and only here.

    Examples
    --------
    >>> sorted(initial_state(Choice(name="logistic"), inputs=3, outputs=2, seed=0))
    ['coefficients', 'mean', 'ready', 'scale']
    """
    if spec_of(choice).fit not in NETWORK_FITS:
        return build(choice, inputs=inputs, outputs=outputs).start(seed=seed)
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(without_lora(choice), inputs=inputs, outputs=outputs)
        if (weights := parted(choice)[1]) is not None:
            load_weights(model, weights)
        if (lora := lora_of(choice)) is not None:
            adapted(model, lora)
    return {key: value.numpy() for key, value in model.state_dict().items()}  # the model is gone: its memory is the state's now
