"""Update inversion: give a patient's input back from what one step on that patient changed in the weights.

A first layer that is linear gives its input away in closed form, ``dL/dW / dL/db`` (Phong et al., IEEE TIFS 2018). Of other networks an
input is sought whose gradient is the same (Zhu et al., Deep leakage from gradients, NeurIPS 2019), by L-BFGS. The attacker knows the weights,
the learning rate and the class, and expects one patient in the step: the worst case. A search that fails proves nothing about a better one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from client.training.gradient import fit_gradient, loss_of_each, network_of
from client.training.private import Learner, PrivateGradient, learner_of
from client.training.records import Records
from client.training.rules import Plain
from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice
from shared_models.core.randomness import SecretRandom
from shared_models.experiment import Experiment

HU_RANGE = (-1024.0, 600.0)
"""In which the attacker looks for patches in Hounsfield units."""
LUCK = 0.01
"""Chance by luck below which an attack counts as one that works."""


@dataclass(frozen=True)
class Inversion:
    """How well inputs were given back.

    Parameters
    ----------
    similarity : float
        Mean correlation of what was found with the patient it came from, each value in standard deviations over the patients.
    baseline : float
        Mean correlation of what was found with the other patients.
    recognised : int
        Of `attacked` patients those whom the find resembles more than any other of `candidates`.
    """

    similarity: float
    baseline: float
    recognised: int
    attacked: int
    candidates: int

    @property
    def luck(self) -> float:
        """Chance of recognising as many by guessing."""
        return float(stats.binom.sf(self.recognised - 1, self.attacked, 1 / self.candidates))

    @property
    def works(self) -> bool:
        """Whether patients were recognised more often than luck explains."""
        return self.luck < LUCK

    def words(self) -> str:
        """Return the figures as a line of the model card."""
        return (
            f"{'works' if self.works else 'fails'}: recognised {self.recognised} of {self.attacked} patients among {self.candidates} "
            f"(guessing {self.attacked / self.candidates:.1f}); correlation {self.similarity:.3f}, with other patients {self.baseline:.3f}"
        )


def one_step(experiment: Experiment) -> Experiment:
    """Return `experiment` with a round of one step of plain SGD on one patient: what a server would ask for that wants to read it."""
    document = experiment.model_dump(mode="json", exclude_none=True)
    train = {"steps": 1, "batch": 1, "optimiser": {"name": "sgd", "lr": 1.0}, "schedule": "constant", "augment": [], "class_weights": "none"}
    return Experiment.model_validate({**document, "train": train, "privacy": {}, "strategy": {"name": "fedavg"}})


def update_in_clear(experiment: Experiment, state: State, record: Records) -> State:
    """Return the weights that a site would send after `one_step` on one record."""
    return fit_gradient(one_step(experiment), state, record, rule=Plain(), factor=1.0, seed=0).state


def gradient_in(before: State, after: Mapping[str, np.ndarray]) -> State:
    """Return the gradient that a step of plain SGD with learning rate 1 shows."""
    return {key: before[key].astype(np.float64) - after[key] for key in before if before[key].dtype.kind == "f"}


def private_gradient(experiment: Experiment, state: State, record: Records, *, secret: SecretRandom | None = None) -> State:
    """Return the gradient of a private step that drew this one patient alone: clipped, under the experiment's noise.

    Worse for the patient than any real round, whose sampling and further patients hide more.
    """
    learner: Learner = learner_of(experiment)
    learner.flat.load(state)
    learner.flat.model.train()
    generator, units = torch.Generator().manual_seed(0), [np.arange(len(record))]
    mechanism = PrivateGradient(experiment, learner, record, units, q=1.0, generator=generator, secret=secret or SecretRandom())
    mechanism.draw(learner.flat.gradient)
    return {name: weight.grad.detach().cpu().double().numpy() for name, weight in learner.flat.model.named_parameters() if weight.grad is not None}


def invert(experiment: Experiment, state: State, gradient: State, *, shape: tuple[int, ...], label: int, iterations: int, seed: int) -> np.ndarray:
    """Return the input that `gradient` speaks of, of `shape` (one record).

    Raises
    ------
    BadChoice
        The model sends no gradients.
    """
    spec = spec_of(experiment.model)
    if spec.fit != "gradient":
        raise BadChoice("an update is inverted where it is a gradient", value=spec.fit)
    loss_of = loss_of_each(experiment)
    network = network_of(experiment, state)
    first = next(layer for layer in network.modules() if not list(layer.children()))
    if isinstance(first, nn.Linear) and first.bias is not None:
        name = next(name for name, layer in network.named_modules() if layer is first)
        slopes, lifts = gradient[f"{name}.weight"], gradient[f"{name}.bias"]
        row = int(np.abs(lifts).argmax())
        return (slopes[row] / (lifts[row] or 1e-12)).reshape(shape)
    low, high = HU_RANGE if spec.units == "hu" else (0.0, 1.0)
    aim = [torch.from_numpy(gradient[name]).float() for name, _ in network.named_parameters()]
    weights = list(network.parameters())
    scale = float(sum(float((value**2).sum()) for value in aim)) or 1.0
    place = (0.5 * torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))).requires_grad_()
    truth = torch.tensor([label])
    search = torch.optim.LBFGS([place], max_iter=iterations, history_size=50, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def guess() -> Tensor:
        return low + (high - low) * torch.sigmoid(place)  # never outside the range that images have

    def distance() -> Tensor:
        search.zero_grad()
        loss = loss_of(network(guess()), truth).mean()
        slopes = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True, materialize_grads=True)
        apart = torch.stack([((slope - value) ** 2).sum() for slope, value in zip(slopes, aim, strict=True)]).sum() / scale
        apart.backward(inputs=[place])
        return apart

    search.step(distance)
    return guess().detach()[0].double().numpy()


def compare(found: list[np.ndarray], own: list[int], candidates: np.ndarray) -> Inversion:
    """Say how much finds resemble the patients they came from.

    Parameters
    ----------
    found : list of ndarray
        One find an attacked patient.
    own : list of int
        Which of the candidates each find came from.
    candidates : ndarray, shape (n, ...)
        Inputs of the patients among whom the attacker must recognise one.

    Examples
    --------
    >>> people = np.random.default_rng(0).normal(0, 1, (20, 30))
    >>> compare([people[3], people[5]], [3, 5], people).recognised
    2
    """
    flat = candidates.reshape(len(candidates), -1).astype(np.float64)
    middle, spread = flat.mean(0), flat.std(0)
    varies = spread > 1e-9 * max(1.0, float(np.abs(flat).max()))
    known = (flat[:, varies] - middle[varies]) / spread[varies]
    similar, others, recognised = [], [], 0
    for guess, number in zip(found, own, strict=True):
        # Nobody lies outside the range of all patients: the attacker knows that.
        inside = np.clip(np.nan_to_num(guess.ravel()), flat.min(0), flat.max(0))[varies]
        seen = (inside - middle[varies]) / spread[varies]
        recognised += int(np.linalg.norm(known - seen, axis=1).argmin() == number)
        alike = [_correlation(seen, one) for one in known]
        similar.append(alike[number])
        others.append((sum(alike) - alike[number]) / (len(alike) - 1))
    return Inversion(float(np.mean(similar)), float(np.mean(others)), recognised, len(found), len(candidates))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))
