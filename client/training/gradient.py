"""The training loop, in plain sight. One of two loops in the house; the other is `server/runs/rounds`."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from client.training.augment import AUGMENTATIONS, MOVING
from client.training.beside import gradient_at
from client.training.device import Precision, current_device
from client.training.fitter import Fitted
from client.training.flat import FlatModel
from client.training.follow_up_weights import weighed
from client.training.hazards import said_of
from client.training.imbalance import class_weights, focused
from client.training.micro_batch import MicroBatch, in_parts, rewind
from client.training.objective import aims_of, augmented, own_losses
from client.training.optimisers import OPTIMISERS, Optimiser
from client.training.readable import refuse_unreadable
from client.training.records import Records
from client.training.rule import Plain, Rule
from client.training.sampling import order_of, strata_of
from client.training.several import objective_of
from client.training.stand import part_of, put_back, stand_of
from client.training.steps import StepFile
from shared_models.blocks.spec import ModelSpec
from shared_models.catalogue import build, inputs_of, spec_in
from shared_models.core.arrays import State
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment
from shared_models.phases import trained


def fit_gradient(
    experiment: Experiment, state: State, records: Records, *, rule: Rule, factor: float, seed: int, steps: StepFile | None = None
) -> Fitted:
    """Train one round at one site and return the new weights.

    Parameters
    ----------
    experiment : Experiment
        Its ``[model]`` and ``[train]``.
    state : State
        Global weights to start from.
    records : Records
        The site's training patients.
    rule : Rule
        The site's half of the strategy.
    factor : float
        Factor on the learning rate in this round.
    seed : int
        Seed of order, dropout and augmentation.
    steps : StepFile, optional
        Where a killed worker finds the round again; the result is the same with and without.
    """
    if len(records) == 0:
        raise BadCohort("training needs at least one patient", value=0)
    refuse_unreadable(experiment, records)
    train, spec = experiment.train, weighed(objective_of(spec_in(experiment), experiment, records.targets), experiment, records)
    warm = warm_model(experiment)
    flat, device = warm.flat, warm.flat.weights.device
    flat.load(state)
    flat.model.train().requires_grad_(True)
    precision = Precision(train.precision, device)
    torch.manual_seed(seed % (1 << 63))  # dropout draws from the global generator
    generator = torch.Generator().manual_seed(seed % (1 << 63))
    make_optimiser = pick(OPTIMISERS, train.optimiser, kind="optimiser")
    optimiser = make_optimiser()
    augment = [(choice.name in MOVING, pick(AUGMENTATIONS, choice, kind="augmentation")) for choice in train.augment]
    class_weight = torch.from_numpy(class_weights(records.labels, len(experiment.data.classes), train.class_weights))
    prior = torch.from_numpy(_log_prior(records.labels, len(experiment.data.classes), train.class_weights))
    unit_hu = unit_hu_of(spec, experiment)
    class_weight, prior = class_weight.to(device), prior.to(device)
    count = train.steps or train.epochs * math.ceil(len(records) / train.batch)
    rule.meet(flat.model, spec, make_optimiser)
    rule.lay_out(flat.parts, count)
    rule.start(flat.weights)
    loss_of = rule.loss(loss_of_each(experiment)) if spec.objective is None else None

    def learn(batch: torch.Tensor, labels: torch.Tensor, part: slice) -> float:
        if loss_of is None:
            own = own_losses(spec, flat.model, batch[part].to(device), labels[part], rule=rule, precision=precision)
            flat.backward(precision.scaled(own.sum() / len(labels)), add=part.start > 0)
            return float(own.detach().sum())
        with precision.forward(), rule.watching(flat.model):
            logits = flat.model(batch[part].to(device))
        losses = focused(loss_of(logits.float() + prior, labels[part]), train.focal)
        flat.backward(precision.scaled((losses * class_weight[labels[part]]).sum() / len(labels)), add=part.start > 0)
        return float(losses.detach().sum())

    def learn_all(learn: Callable[[slice], float], count: int) -> float:
        return sum(in_parts(count, warm.trains, learn, again=rewind(flat.model)))

    def slope(learn: Callable[[], float], weights: torch.Tensor) -> torch.Tensor:
        return precision.unscaled(gradient_at(flat, weights, learn))

    def move() -> None:
        if train.clip_norm is not None:
            flat.gradient.mul_(min(1.0, train.clip_norm / (float(flat.gradient.norm()) + 1e-12)))
        rule.correct(flat.weights, flat.gradient)
        optimiser.step(flat.weights, flat.gradient, factor)
        rule.moved(flat.weights, factor)

    strata = records.labels if train.sampler is None else strata_of(records.labels, records.targets)
    order: list[int] = []
    lost, seen, done = 0.0, 0, 0
    if steps is not None and (saved := steps.load()) is not None:
        done, order, lost, seen = _go_on(saved, flat, optimiser, generator, rule, precision)
    for step in range(done + 1, count + 1):
        rule.step = step
        if not order:
            order = order_of(strata, generator, train.sampler)
        chosen, order = order[: train.batch], order[train.batch :]
        batch = torch.from_numpy(np.ascontiguousarray(records.inputs[chosen], dtype=np.float32))
        batch, aims = augmented(batch, aims_of(records, chosen), augment, generator, unit_hu)
        taught = functools.partial(learn_all, functools.partial(learn, batch, aims.to(device)), len(chosen))
        rule.beside(flat.weights, functools.partial(slope, taught), factor)
        lost += taught()
        precision.step(flat.weights, flat.gradient, move)
        seen += len(chosen)
        if steps is not None and step < count:
            steps.after(step, functools.partial(_stand, flat, optimiser, generator, rule, precision, order, lost, seen))
    rule.finish(flat.weights, factor)
    return Fitted(flat.state(), count, lost / seen)


def _stand(
    flat: FlatModel, optimiser: Optimiser, generator: torch.Generator, rule: Rule, precision: Precision, order: list[int], lost: float, seen: int
) -> State:
    """Everything that the next step depends on, as arrays."""
    stand = stand_of(flat, optimiser, generator, rule)
    stand |= {f"precision/{key}": np.array(value) for key, value in precision.state().items()}
    return stand | {"order": np.array(order, np.int64), "lost": np.array(lost), "seen": np.array(seen)}


def _go_on(
    stand: State, flat: FlatModel, optimiser: Optimiser, generator: torch.Generator, rule: Rule, precision: Precision
) -> tuple[int, list[int], float, int]:
    """Put `_stand` back; return the steps done, the order still to come, the summed loss and the patients seen."""
    put_back(stand, flat, optimiser, generator, rule)
    precision.load({key: float(value) for key, value in part_of(stand, "precision").items()})
    return int(stand["step"]), stand["order"].tolist(), float(stand["lost"]), int(stand["seen"])


def predict_gradient(
    experiment: Experiment, state: State, records: Records, *, said: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> np.ndarray:
    """Return class probabilities of `records`, shape (n, classes), of survival risks, shape (n, horizons), in evaluation mode.

    Of findings each has its own probability: a row of them adds up to anything. `said` makes something else of the logits (n, outputs). Statistics
    of the run in `state` are of no matter.
    """
    refuse_unreadable(experiment, records)
    warm, said = warm_model(experiment), said or said_of(experiment.data)
    flat, device = warm.flat, warm.flat.weights.device
    flat.load(trained(state))
    flat.model.eval()

    def probabilities(start: int, part: slice) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(records.inputs[start + part.start : start + part.stop], dtype=np.float32))
        return said(flat.model(batch.to(device)).double()).cpu().numpy()

    parts = []
    with torch.inference_mode():
        for start in range(0, len(records), 32):
            parts += in_parts(min(32, len(records) - start), warm.predicts, functools.partial(probabilities, start))
    return np.concatenate(parts) if parts else np.zeros((0, len(experiment.data.horizons or experiment.data.classes)))


def judge_objective(experiment: Experiment, state: State, records: Records) -> float:
    """Return the mean over `records` of a network's own objective, in evaluation mode; NaN of none, and where none is followed to a horizon."""
    if len(records) == 0:
        return math.nan
    try:
        spec = weighed(objective_of(spec_in(experiment), experiment, records.targets), experiment, records, judged=True)
    except BadCohort:  # nobody is followed to a horizon: what was said of it is neither good nor bad
        return math.nan
    warm = warm_model(experiment)
    flat, device = warm.flat, warm.flat.weights.device
    flat.load(trained(state))
    flat.model.eval()
    precision, rule = Precision("full", device), Plain()

    def summed(start: int, part: slice) -> float:
        chosen = range(start + part.start, start + part.stop)
        batch = torch.from_numpy(np.ascontiguousarray(records.inputs[chosen], dtype=np.float32)).to(device)
        return float(own_losses(spec, flat.model, batch, aims_of(records, chosen).to(device), rule=rule, precision=precision).sum())

    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(records), 32):
            total += sum(in_parts(min(32, len(records) - start), warm.predicts, functools.partial(summed, start)))
    return total / len(records)


def network_of(experiment: Experiment, state: State) -> nn.Module:
    """Return a fresh network in evaluation mode with `state` loaded: for explanations, which hang hooks on it."""
    model = build(experiment.model, inputs=inputs_of(experiment), outputs=experiment.data.outputs)
    FlatModel(model).load(trained(state))
    return model.eval()


def network_key(experiment: Experiment) -> tuple[str, int, int]:
    """Return what a network is built from: its choice as JSON, its inputs and its outputs."""
    return experiment.model.model_dump_json(), inputs_of(experiment), experiment.data.outputs


@functools.lru_cache(maxsize=4)
def network_on_cpu(choice: str, inputs: int, outputs: int) -> nn.Module:
    """Return this process's one network of a choice (as JSON), whatever its weights are: training and prediction load theirs into it.

    The simulation calls it before it forks its workers, so that they need not build the network again.
    """
    return build(Choice.model_validate_json(choice), inputs=inputs, outputs=outputs)


@dataclass(frozen=True)
class Warm:
    """A network that stays in memory between rounds, and the sizes of batch that fitted beside it."""

    flat: FlatModel
    trains: MicroBatch = field(default_factory=MicroBatch)
    predicts: MicroBatch = field(default_factory=MicroBatch)


def warm_model(experiment: Experiment) -> Warm:
    """Return this process's network for `experiment` on the site's device, whatever its weights are.

    Raises
    ------
    BadInput
        E_DEVICE: the site's device is not there.
    """
    return _warm_model(*network_key(experiment), str(current_device()))


@functools.lru_cache(maxsize=4)
def _warm_model(choice: str, inputs: int, outputs: int, device: str) -> Warm:
    # Building a large network costs more than a round on a small site: a resident worker builds each once and loads weights into it.
    network = network_on_cpu(choice, inputs, outputs)
    return Warm(FlatModel(network if device == "cpu" else copy.deepcopy(network).to(device)))


def loss_of_each(experiment: Experiment) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the loss of each record from logits and labels, with the experiment's label smoothing.

    Raises
    ------
    BadCohort
        The model has none.
    """
    loss_of = spec_in(experiment).loss
    if loss_of is None:
        raise BadCohort(f"model {experiment.model.name!r} has no loss of logits and labels", remedy="leave out what reads it: [privacy], or an audit")
    smoothing = experiment.train.label_smoothing
    return functools.partial(loss_of, label_smoothing=smoothing) if smoothing else loss_of


def _log_prior(labels: np.ndarray, classes: int, how: str) -> np.ndarray:
    if how != "prior":
        return np.zeros(classes, np.float32)
    counts = np.bincount(labels, minlength=classes) + 0.5  # a class that the site lacks keeps a finite share
    return np.log(counts / counts.sum()).astype(np.float32)


def unit_hu_of(spec: ModelSpec, experiment: Experiment) -> float:
    """Return how many Hounsfield units one unit of the model's inputs is worth."""
    low, high = experiment.inputs.window_hu
    return 1.0 if spec.units == "hu" else high - low
