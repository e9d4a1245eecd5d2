"""The loop of networks that play against one another, as plain as `gradient`: each player in turn takes a step on what it loses."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from client.training.augment import AUGMENTATIONS, MOVING
from client.training.device import Precision
from client.training.fitter import Fitted
from client.training.flat import FlatModel
from client.training.gradient import unit_hu_of, warm_model
from client.training.imbalance import class_weights
from client.training.objective import aims_of, augmented
from client.training.optimisers import OPTIMISERS, Optimiser
from client.training.readable import refuse_unreadable
from client.training.records import Records
from client.training.rule import Rule
from client.training.stand import part_of, put_back, stand_of
from client.training.steps import StepFile
from shared_models.blocks.adversarial import Game
from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.core.choices import pick
from shared_models.core.errors import BadCohort, BadState
from shared_models.experiment import Experiment


class Turns:
    """One optimiser a player, each over the player's own part of the flat vectors; `player` says whose turn it is.

    Parameters
    ----------
    each : mapping of str to Optimiser
        By player.
    parts : mapping of str to slice
        Where a player's weights lie.
    """

    def __init__(self, each: Mapping[str, Optimiser], parts: Mapping[str, slice]) -> None:
        self.each, self.parts = dict(each), dict(parts)
        self.player = next(iter(self.each))

    def step(self, weights: Tensor, gradient: Tensor, factor: float) -> None:
        """Take a step of the player whose turn it is."""
        part = self.parts[self.player]
        self.each[self.player].step(weights[part], gradient[part], factor)

    def state(self) -> dict[str, Tensor]:
        """Return what the next steps of all players depend on."""
        return {f"{player}.{key}": value for player, optimiser in self.each.items() for key, value in optimiser.state().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from where `state` was taken."""
        for player, optimiser in self.each.items():
            optimiser.load({key.removeprefix(f"{player}."): value for key, value in state.items() if key.startswith(f"{player}.")})


def fit_adversarial(
    experiment: Experiment, state: State, records: Records, *, rule: Rule, factor: float, seed: int, steps: StepFile | None = None
) -> Fitted:
    """Play one round at one site and return the new weights of all players.

    A step is one turn of every player on the same batch, in the order of the network's `players`. A player none of whose weights is trained
    (``train_only``) sits out, and so does one who learns targets where the records hold none. The loss that is told is the sum over the players,
    per patient.

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
        Factor on the learning rates in this round.
    seed : int
        Seed of order, noise, dropout and augmentation.
    steps : StepFile, optional
        Where a killed worker finds the round again; the result is the same with and without.

    Raises
    ------
    BadCohort
        No patient.
    BadState
        The network is no game, or none of its players is trained.

    Source: Goodfellow et al., Generative adversarial nets, NeurIPS 2014, algorithm 1 with k = 1.
    """
    if len(records) == 0:
        raise BadCohort("training needs at least one patient", value=0)
    refuse_unreadable(experiment, records)
    train, spec = experiment.train, spec_of(experiment.model)
    flat = warm_model(experiment).flat
    game, device = flat.model, flat.weights.device
    if not isinstance(game, Game):
        raise BadState("an adversarial fit is of a network with players", value=experiment.model.name)
    flat.load(state)
    game.train().requires_grad_(True)
    torch.manual_seed(seed % (1 << 63))  # noise and dropout are drawn from the global generator
    generator = torch.Generator().manual_seed(seed % (1 << 63))
    make_optimiser = pick(OPTIMISERS, train.optimiser, kind="optimiser")
    augment = [(choice.name in MOVING, pick(AUGMENTATIONS, choice, kind="augmentation")) for choice in train.augment]
    class_weight = torch.from_numpy(class_weights(records.labels, len(experiment.data.classes), train.class_weights))
    unit_hu = unit_hu_of(spec, experiment)
    count = train.steps or train.epochs * math.ceil(len(records) / train.batch)
    rule.meet(game, spec, make_optimiser)
    rule.lay_out(flat.parts, count)
    rule.start(flat.weights)
    own = {player: [weight for weight in game.get_submodule(player).parameters() if weight.requires_grad] for player in game.players}
    taught = [player for player in game.players if records.targets is not None or player not in game.mapped]
    if not (playing := [player for player in taught if own[player]]):
        raise BadState("train_only names weights of a player", value=list(game.players), remedy="name arrays that begin so")
    turns = Turns({player: make_optimiser() for player in playing}, places_of(flat, tuple(playing)))
    precision = {player: Precision(train.precision, device) for player in playing}

    def move() -> None:
        if train.clip_norm is not None:
            flat.gradient.mul_(min(1.0, train.clip_norm / (float(flat.gradient.norm()) + 1e-12)))
        rule.correct(flat.weights, flat.gradient)
        turns.step(flat.weights, flat.gradient, factor)
        rule.moved(flat.weights, factor)

    def play(player: str, batch: Tensor, aims: Tensor, share: Tensor, maps: Tensor | None) -> float:
        turns.player = player
        for weight in game.parameters():
            weight.requires_grad_(False)  # the others' gradients would be computed for nobody
        for weight in own[player]:
            weight.requires_grad_(True)
        with precision[player].forward(), rule.watching(game):
            losses = (game.loss_of(player, batch, aims) if maps is None else game.loss_of(player, batch, aims, maps)).float()
        flat.backward(precision[player].scaled((losses * share).sum()))
        precision[player].step(flat.weights, flat.gradient, move)
        return float(losses.detach().sum())

    foreseen = game.foreseen(playing, torch.from_numpy(np.ascontiguousarray(records.inputs, np.float32)).to(device))
    order: list[int] = []
    lost, seen, done = 0.0, 0, 0
    if steps is not None and (saved := steps.load()) is not None:
        done, order, lost, seen = _go_on(saved, flat, turns, generator, rule, precision)
    for step in range(done + 1, count + 1):
        rule.step = step
        if not order:
            order = torch.randperm(len(records), generator=generator).tolist()
        chosen, order = order[: train.batch], order[train.batch :]
        batch = torch.from_numpy(np.ascontiguousarray(records.inputs[chosen], dtype=np.float32))
        batch, aims = augmented(batch, aims_of(records, chosen) if foreseen is None else foreseen[chosen].cpu(), augment, generator, unit_hu)
        labels = torch.from_numpy(records.labels[chosen])
        batch, aims, share = batch.to(device), {True: aims.to(device), False: labels.to(device)}, (class_weight[labels] / len(chosen)).to(device)
        maps = None if foreseen is None else aims[True]
        lost += sum(play(player, batch, aims[player in game.mapped], share, maps) for player in playing)
        seen += len(chosen)
        if steps is not None and step < count:
            steps.after(step, functools.partial(_stand, flat, turns, generator, rule, precision, order, lost, seen))
    rule.finish(flat.weights, factor)
    return Fitted(flat.state(), count, lost / seen)


def places_of(flat: FlatModel, players: tuple[str, ...]) -> dict[str, slice]:
    """Return where each player's weights lie in the flat vectors: a network's parameters come submodule by submodule, so in one piece.

    Examples
    --------
    >>> from torch import nn
    >>> flat = FlatModel(nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.Linear(1, 1)}))
    >>> places_of(flat, ("a", "b"))
    {'a': slice(0, 3, None), 'b': slice(3, 5, None)}
    """
    found = {}
    for player in players:
        parts = [part for name, part in flat.parts.items() if name.startswith(f"{player}.")]
        found[player] = slice(min(part.start for part in parts), max(part.stop for part in parts))
    return found


def _stand(
    flat: FlatModel,
    turns: Turns,
    generator: torch.Generator,
    rule: Rule,
    precision: Mapping[str, Precision],
    order: list[int],
    lost: float,
    seen: int,
) -> State:
    stand = stand_of(flat, turns, generator, rule)
    stand |= {f"precision/{player}.{key}": np.array(value) for player, own in precision.items() for key, value in own.state().items()}
    return stand | {"order": np.array(order, np.int64), "lost": np.array(lost), "seen": np.array(seen)}


def _go_on(
    stand: State, flat: FlatModel, turns: Turns, generator: torch.Generator, rule: Rule, precision: Mapping[str, Precision]
) -> tuple[int, list[int], float, int]:
    put_back(stand, flat, turns, generator, rule)
    kept = part_of(stand, "precision")
    for player, own in precision.items():
        own.load({key.removeprefix(f"{player}."): float(value) for key, value in kept.items() if key.startswith(f"{player}.")})
    return int(stand["step"]), stand["order"].tolist(), float(stand["lost"]), int(stand["seen"])
