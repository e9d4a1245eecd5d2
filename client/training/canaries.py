"""CANARIES: canaries through the real trainers. One round after another is fitted exactly as a site fits it, on patients that are known.

A canary patient has a direction of its own, orthogonal to all others, and several records that all point there, each longer than the clip:
a correct trainer cuts the patient, not the record, to one clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

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

Book = list[Spend]


@dataclass(frozen=True)
class Setting:
    """The mechanism that is audited.

    Parameters
    ----------
    noise_multiplier, clip : float
        As in ``[privacy]``.
    rate : float
        Share of the patients drawn in each step.
    steps, rounds : int
        Steps of a round, and rounds.
    grad_sample : str
        How the gradient of each patient is found.
    """

    noise_multiplier: float
    clip: float = 1.0
    rate: float = 1.0
    steps: int = 1
    rounds: int = 3
    grad_sample: Literal["auto", "loop", "functorch"] = "auto"


GRADIENT, SUMS = Setting(1.5, rate=0.2, steps=16), Setting(2.0)
"""What `make test` and `make audit` try: mechanisms under which canaries are neither hidden nor plain, so that a mistake shows."""

PLANTED: dict[str, Callable[[Setting], Setting]] = {
    "half the noise": lambda setting: replace(setting, noise_multiplier=setting.noise_multiplier / 2),
    "a clip of thrice the length": lambda setting: replace(setting, clip=3 * setting.clip, noise_multiplier=setting.noise_multiplier / 3),
    "twice the rate": lambda setting: replace(setting, rate=min(1.0, 2 * setting.rate)),
    "twice the steps": lambda setting: replace(setting, steps=2 * setting.steps),
}
"""Mechanisms that do less than is claimed: what an audit at a setting must be able to see, or it shows nothing there."""


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


def watch_gradient(canaries: int, *, seed: int, book: Book | None = None, setting: Setting = GRADIENT, claimed: Setting | None = None) -> Sighting:
    """Train canaries by `fit_private` for some rounds of plain SGD and return where the weights went.

    Parameters
    ----------
    canaries, seed : int
        How many, and the seed of who takes part.
    book : list of Spend, optional
        Where the trainer tells what it spends.
    setting : Setting
        The mechanism.
    claimed : Setting, optional
        What the sighting is said to be of, by default `setting`.
    """
    records, present = _canaries(canaries, seed, (claimed or setting).clip)
    experiment = _experiment(setting, batch=max(1, int(setting.rate * present.sum())))
    flat = FlatModel(CanaryNet(records.inputs.shape[1]))
    learner = Learner(flat, lambda logits, labels: logits, "table")
    state, book = flat.state(), [] if book is None else book
    for _ in range(setting.rounds):
        state = fit_private(experiment, state, records, rule=Plain(), factor=1.0, seed=seed, spend=book.append, learner=learner).state
    clips_a_step = (claimed or setting).clip / min(experiment.train.batch, present.sum())
    return _sighting(-state["weight"] / clips_a_step, present, book, claimed)


def watch_sums(canaries: int, *, seed: int, book: Book | None = None, setting: Setting = SUMS, claimed: Setting | None = None) -> Sighting:
    """Sum canaries by `fit_private_sums` for some rounds and return the sum of the noisy sums; parameters as in `watch_gradient`."""
    records, present = _canaries(canaries, seed, (claimed or setting).clip)
    experiment = _experiment(setting, batch=1)
    total, book = np.zeros(records.inputs.shape[1]), [] if book is None else book
    for _ in range(setting.rounds * setting.steps):
        fitted = fit_private_sums(experiment, {}, records, rule=Plain(), factor=1.0, seed=seed, spend=book.append, model=CanarySums())
        total += fitted.state["sum"]
    return _sighting(total / (claimed or setting).clip, present, book, claimed)


def _canaries(count: int, seed: int, clip: float) -> tuple[Records, np.ndarray]:
    present = np.random.default_rng(seed).random(count) < 0.5
    who = np.repeat(np.flatnonzero(present), RECORDS)
    inputs = np.zeros((len(who), count + EMPTY), np.float32)
    inputs[np.arange(len(who)), who] = LENGTH * clip
    return Records(inputs, np.zeros(len(who), np.int64), tuple(f"canary{number}" for number in who)), present


def _experiment(setting: Setting, *, batch: int) -> Experiment:
    privacy = {"unit": "patient", "noise_multiplier": setting.noise_multiplier, "clip": setting.clip, "grad_sample": setting.grad_sample}
    return Experiment.model_validate(
        {
            "name": "canaries",
            "data": {"classes": ["absent", "present"]},
            "model": {"name": "logistic"},
            "train": {"steps": setting.steps, "batch": batch, "optimiser": {"name": "sgd", "lr": 1.0}},
            "privacy": {**privacy, "microbatch": 256},
        }
    )


def _sighting(moved: np.ndarray, present: np.ndarray, book: Book, claimed: Setting | None) -> Sighting:
    count, spends = len(present), tuple(book)
    if claimed is not None:
        spends = (replace(spends[0], sigma=claimed.noise_multiplier, q=claimed.rate, steps=claimed.steps * claimed.rounds, clip=claimed.clip),)
    return Sighting(moved[:count].astype(np.float64), present, moved[count:].astype(np.float64), spends)


CANARIES: dict[str, Callable[..., Sighting]] = {"gradient": watch_gradient, "sums": watch_sums}
"""Every trainer that claims privacy, by the `fit` of the models that it fits."""
