"""The training loop under differential privacy: DP-SGD over patients (Abadi et al., CCS 2016, algorithm 1).

A step: draw each patient with probability q (Poisson), clip each one's gradient to one length, add them up, add Gaussian noise, divide by
the *expected* number of patients, then go on as any other step. All that comes after the noise (the strategy's rule, the optimiser) is
post-processing and spends nothing. What a rule adds to the loss is clipped and covered like the rest of it. What is spent is said before
the first step.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from client.privacy.spending import Spend
from client.training.augment import AUGMENTATIONS
from client.training.beside import noiseless
from client.training.device import Precision
from client.training.fitter import Fitted
from client.training.flat import FlatModel
from client.training.gradient import loss_of_each, unit_hu_of, warm_model
from client.training.micro_batch import MicroBatch, in_parts, rewind
from client.training.optimisers import OPTIMISERS, Optimiser
from client.training.per_unit import GRAD_SAMPLERS, Loss, Padded, pad, refuse_shared_statistics, sampler_for
from client.training.records import Records
from client.training.rule import Rule
from client.training.stand import part_of, put_back, stand_of
from client.training.steps import StepFile
from client.training.units import check_units, noise_adds_up, spend_of, units_of
from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.core.choices import pick
from shared_models.core.randomness import SecretRandom
from shared_models.experiment import Experiment


@dataclass(frozen=True)
class Learner:
    """What is trained: a network as a flat vector, its loss of each record, what it takes of a patient, and the context of forward passes."""

    flat: FlatModel
    loss_of: Loss
    takes: str
    watching: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext


def learner_of(experiment: Experiment) -> Learner:
    """Return this process's network for `experiment`."""
    return Learner(warm_model(experiment).flat, loss_of_each(experiment), spec_of(experiment.model).takes)


def fit_private(
    experiment: Experiment,
    state: State,
    records: Records,
    *,
    rule: Rule,
    factor: float,
    seed: int,
    steps: StepFile | None = None,
    spend: Callable[[Spend], None],
    summed: bool = False,
    secret: SecretRandom | None = None,
    learner: Learner | None = None,
) -> Fitted:
    """Train one round at one site so that no patient shows in the weights.

    Parameters
    ----------
    experiment, state, records, rule, factor, seed, steps
        As in `fit_gradient`. ``train.batch`` is the expected number of patients a step; `seed` decides dropout and augmentation only.
    spend : callable
        Told before the first step what the round spends; what it raises ends the round with nothing spent. A round that goes on tells it
        again under the same nonce.
    summed : bool
        The site's update is hidden in a secure sum.
    secret : SecretRandom, optional
        Who is drawn, and the noise. Given by tests only: by default nobody can foresee it.
    learner : Learner, optional
        What is trained, by default the experiment's network. The audit trains a network of canaries.

    Raises
    ------
    Refused
        E_FEW_CASES or E_PRIVACY_DELTA; or what `spend` raises.
    BadChoice
        The network mixes patients.
    BadCohort
        Nobody knows which records are of one patient.
    """
    train, privacy = experiment.train, experiment.privacy
    units = units_of(records, privacy.unit)
    check_units(len(units), privacy.delta)
    learner = learner or learner_of(experiment)
    flat = learner.flat
    refuse_shared_statistics(flat.model)
    flat.load(state)
    flat.model.train().requires_grad_(True)
    torch.manual_seed(seed % (1 << 63))  # dropout draws from the global generator
    generator = torch.Generator().manual_seed(seed % (1 << 63))
    secret = secret or SecretRandom()
    make_optimiser = pick(OPTIMISERS, train.optimiser, kind="optimiser")
    optimiser = make_optimiser()
    q = min(1.0, train.batch / len(units))
    count = train.steps or train.epochs * math.ceil(len(units) / train.batch)
    rule.meet(flat.model, spec_of(experiment.model), make_optimiser)
    rule.lay_out(flat.parts, count)
    rule.start(flat.weights)
    plain, learner = learner.loss_of, replace(learner, loss_of=rule.loss(learner.loss_of), watching=lambda: rule.watching(flat.model))
    spent = spend_of(experiment, units, q=q, steps=count, summed=summed and noise_adds_up(experiment, count))
    gradient = PrivateGradient(experiment, learner, records, units, q=q, generator=generator, secret=secret)
    done = 0
    if steps is not None and (saved := steps.load()) is not None:
        done, nonce = _go_on(saved, flat, optimiser, generator, rule, secret)
        spent = spend_of(experiment, units, q=q, steps=count, nonce=nonce, summed=summed and noise_adds_up(experiment, count))
    stand = functools.partial(_stand, flat, optimiser, generator, rule, secret, spent.nonce)
    if steps is not None and not done:
        steps.write(0, stand)  # before anything is spent: a round that is killed from here on goes on under its nonce
    spend(spent)
    for step in range(done + 1, count + 1):
        rule.step = step
        rule.beside(flat.weights, noiseless(flat, plain, records, batch=train.batch, seed=seed, step=step), factor)
        gradient.draw(flat.gradient)
        if train.clip_norm is not None:
            flat.gradient.mul_(min(1.0, train.clip_norm / (float(flat.gradient.norm()) + 1e-12)))
        rule.correct(flat.weights, flat.gradient)
        optimiser.step(flat.weights, flat.gradient, factor)
        rule.moved(flat.weights, factor)
        if steps is not None and step < count:
            steps.after(step, stand)
    rule.finish(flat.weights, factor)
    return Fitted(flat.state(), count)  # without the loss: it is a number about the patients that no noise covers


class PrivateGradient:
    """The noisy mean gradient of patients drawn at random: all that training learns of them.

    Parameters
    ----------
    experiment : Experiment
        Its ``[privacy]`` and the augmentation of its ``[train]``.
    learner : Learner
        What is trained.
    records : Records
        The site's.
    units : list of ndarray
        Record numbers of each unit.
    q : float
        Probability with which each unit enters a step.
    generator : torch.Generator
        For augmentation.
    secret : SecretRandom
        Who is drawn, and the noise.
    """

    def __init__(
        self,
        experiment: Experiment,
        learner: Learner,
        records: Records,
        units: list[np.ndarray],
        *,
        q: float,
        generator: torch.Generator,
        secret: SecretRandom,
    ) -> None:
        privacy, train = experiment.privacy, experiment.train
        self.learner, self.records, self.units, self.q, self.generator, self.secret = learner, records, units, q, generator, secret
        self.clip = privacy.clip
        self.noise = (privacy.noise_multiplier or 0.0) * privacy.clip / math.sqrt(privacy.noise_share)
        # Shares of the noise add up only when all sites divide by one number: with fewer patients than the batch, too.
        self.expected = q * len(units) if privacy.noise_share == 1 else float(train.batch)
        device = learner.flat.weights.device
        self.precision = Precision(train.precision, device)
        self.sampler = GRAD_SAMPLERS[sampler_for(privacy.grad_sample, learner.takes, device)]
        self.at_once = privacy.microbatch
        self.fits = MicroBatch()
        self.augment = [pick(AUGMENTATIONS, choice, kind="augmentation") for choice in train.augment]
        self.unit_hu = unit_hu_of(spec_of(experiment.model), experiment) if self.augment else 1.0

    def draw(self, into: Tensor) -> None:
        """Fill `into` with ``(sum_i clip(g_i) + N(0, noise^2)) / expected`` over the units drawn now; there may be none."""
        chosen = np.flatnonzero(self.secret.uniform(len(self.units)) <= self.q)
        into.zero_()
        for start in range(0, len(chosen), self.at_once):
            into += self.clipped_sum(chosen[start : start + self.at_once])
        into += torch.from_numpy(self.noise * self.secret.normal(len(into))).to(into)
        into /= self.expected

    def clipped_sum(self, chosen: np.ndarray) -> Tensor:
        """Return the sum of the clipped gradients of the units `chosen`."""
        units = self._read(chosen)
        model, loss_of = self.learner.flat.model, self.learner.loss_of
        with self.learner.watching():
            parts = in_parts(
                len(chosen), self.fits, lambda part: self.sampler(model, loss_of, units.part(part), self.clip, self.precision), again=rewind(model)
            )
        return functools.reduce(torch.add, parts)

    def _read(self, chosen: np.ndarray) -> Padded:
        numbers = np.concatenate([self.units[unit] for unit in chosen])
        batch = torch.from_numpy(np.ascontiguousarray(self.records.inputs[numbers], dtype=np.float32))
        for change in self.augment:
            batch = change(batch, self.generator, self.unit_hu)
        device = self.learner.flat.weights.device
        labels = torch.from_numpy(self.records.labels[numbers]).to(device)
        return pad(batch.to(device), labels, [len(self.units[unit]) for unit in chosen])


def _stand(flat: FlatModel, optimiser: Optimiser, generator: torch.Generator, rule: Rule, secret: SecretRandom, nonce: str) -> State:
    """Everything that the next step depends on, as arrays."""
    stand = stand_of(flat, optimiser, generator, rule) | {f"secret/{key}": value for key, value in secret.state().items()}
    return stand | {"nonce": np.frombuffer(bytes.fromhex(nonce), np.uint8).copy()}


def _go_on(stand: State, flat: FlatModel, optimiser: Optimiser, generator: torch.Generator, rule: Rule, secret: SecretRandom) -> tuple[int, str]:
    """Put `_stand` back; return the steps done and the nonce of the attempt."""
    put_back(stand, flat, optimiser, generator, rule)
    secret.load(part_of(stand, "secret"))
    return int(stand["step"]), stand["nonce"].tobytes().hex()
