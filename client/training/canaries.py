"""CANARIES: canaries through the real trainers. One round after another is fitted exactly as a site fits it, on patients that are known.

A canary patient has a direction of its own, orthogonal to all others, and several records that all point there, each longer than the clip:
a correct trainer cuts the patient, not the record, to one clip.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from client.privacy.canaries import Sighting
from client.privacy.spending import Spend
from client.training.flat import FlatModel
from client.training.private import Learner, fit_private
from client.training.private_sums import fit_private_sums
from client.training.records import Records
from client.training.rules import Plain
from shared_models.core.arrays import State
from shared_models.experiment import Experiment

RECORDS = 4
"""Records of each canary patient."""
LENGTH = 3.0
"""Length of a record's gradient, in clips."""
EMPTY = 3000
"""Directions that nobody has: what moves there is noise."""
ROUNDS = 3

Book = list[Spend]


class CanaryNet(nn.Module):
    """Weights whose loss on a record is their product with it: the record is its own gradient, whatever the weights are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, records: Tensor) -> Tensor:
        """Return the products, shape (n,)."""
        return records @ self.weight


class CanarySums:
    """The sum of the records: a model of sums at its barest."""

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return the weighted sum of the records."""
        return {"sum": x.sum(0, dtype=np.float64) if weights is None else weights @ x}

    def parts(self, state: State) -> tuple[str, ...]:
        """Return the one sum there is."""
        return ("sum",)

    def lengths(self, state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the length of each record."""
        return np.linalg.norm(x, axis=1)

    def mend(self, sums: State) -> State:
        """Return the sums: any are possible."""
        return sums


def watch_gradient(canaries: int, *, seed: int, book: Book | None = None) -> Sighting:
    """Train canaries by `fit_private` for some rounds of plain SGD and return where the weights went."""
    records, present = _canaries(canaries, seed)
    experiment = _experiment(noise_multiplier=1.5, steps=16, batch=max(1, int(0.2 * present.sum())))
    flat = FlatModel(CanaryNet(records.inputs.shape[1]))
    learner = Learner(flat, lambda logits, labels: logits, "table")
    state, book = flat.state(), [] if book is None else book
    for _ in range(ROUNDS):
        state = fit_private(experiment, state, records, rule=Plain(), factor=1.0, seed=seed, spend=book.append, learner=learner).state
    clips_a_step = experiment.privacy.clip / min(experiment.train.batch, present.sum())
    return _sighting(-state["weight"] / clips_a_step, present, book)


def watch_sums(canaries: int, *, seed: int, book: Book | None = None) -> Sighting:
    """Sum canaries by `fit_private_sums` for some rounds and return the sum of the noisy sums."""
    records, present = _canaries(canaries, seed)
    experiment = _experiment(noise_multiplier=2.0, steps=1, batch=1)
    total, book = np.zeros(records.inputs.shape[1]), [] if book is None else book
    for _ in range(ROUNDS):
        fitted = fit_private_sums(experiment, {}, records, rule=Plain(), factor=1.0, seed=seed, spend=book.append, model=CanarySums())
        total += fitted.state["sum"]
    return _sighting(total / experiment.privacy.clip, present, book)


def _canaries(count: int, seed: int) -> tuple[Records, np.ndarray]:
    present = np.random.default_rng(seed).random(count) < 0.5
    who = np.repeat(np.flatnonzero(present), RECORDS)
    inputs = np.zeros((len(who), count + EMPTY), np.float32)
    inputs[np.arange(len(who)), who] = LENGTH
    return Records(inputs, np.zeros(len(who), np.int64), tuple(f"canary{number}" for number in who)), present


def _experiment(*, noise_multiplier: float, steps: int, batch: int) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "canaries",
            "data": {"classes": ["absent", "present"]},
            "model": {"name": "logistic"},
            "train": {"steps": steps, "batch": batch, "optimiser": {"name": "sgd", "lr": 1.0}},
            "privacy": {"unit": "patient", "noise_multiplier": noise_multiplier, "microbatch": 256},
        }
    )


def _sighting(moved: np.ndarray, present: np.ndarray, book: Book) -> Sighting:
    count = len(present)
    return Sighting(moved[:count].astype(np.float64), present, moved[count:].astype(np.float64), tuple(book))


CANARIES: dict[str, Callable[..., Sighting]] = {"gradient": watch_gradient, "sums": watch_sums}
"""Every trainer that claims privacy, by the `fit` of the models that it fits."""
