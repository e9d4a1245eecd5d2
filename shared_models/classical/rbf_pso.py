"""Radial basis function network whose width, penalty, units and columns a particle swarm chooses, federated exactly.

The swarm lives on the server. Each of its generations is a few rounds of sums over sites: k-means for all particles at once, the Gram matrices of
their units, and the log-loss of their networks on the rows that each site holds out. What a row is for hangs on its own numbers alone, so the
search takes the very steps that it would take with all patients in one place.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from shared_models.blocks.clusters import first_centres, next_centres
from shared_models.blocks.moments import Scaler, check_semidefinite, total_of
from shared_models.blocks.row_split import held_out
from shared_models.blocks.softmax import softmax
from shared_models.blocks.spec import ModelSpec
from shared_models.blocks.swarm import Swarm, gather, judged, moved, scattered
from shared_models.classical.ridge import solve_ridge
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout

WIDTH, PENALTY, UNITS, KNOBS = 0, 1, 2, 3
"""Places of log10 of the width, log10 of the ridge penalty and log2 of the number of units; from the third on, columns."""

LOW, HIGH = (-0.7, -4.0, 1.0), (1.0, 2.0)
"""The box of the search but for the units, whose end is a knob."""

EDGE = 4.0
"""A column is kept whose dimension, between -4 and 4, is above 0: a sigmoid above one half."""


class Particle(NamedTuple):
    """What a place in the search stands for."""

    width: float
    penalty: float
    units: int
    kept: np.ndarray


class Hunt(NamedTuple):
    """What a round sums: which step of which generation; after the last generation comes the fit of the best on all rows."""

    generation: int
    step: int
    final: bool


class SwarmedBasis:
    """Round 1 sums the scaler's moments. A generation is `steps` rounds of k-means, one of Gram matrices, one of held-out losses.

    After the last generation the best network is fitted once more, on held-out rows as well. Until then the best so far predicts. A site's gate
    lets these sums leave through the secure sum alone: a cluster may hold one patient.
    """

    def __init__(
        self,
        columns: int,
        classes: int,
        particles: int,
        generations: int,
        most_units: int,
        steps: int,
        held: float,
        price: float,
        sharpness: float,
        search: str,
    ) -> None:
        self.columns, self.classes, self.particles, self.generations, self.most_units = columns, classes, particles, generations, most_units
        self.steps, self.held, self.price, self.sharpness, self.scaler = steps, held, price, sharpness, Scaler(columns)
        self.step_of = moved if search == "swarm" else scattered
        self.low = np.array([*LOW, *[-EDGE] * columns])
        self.high = np.array([*HIGH, np.log2(most_units), *[EDGE] * columns])

    @property
    def rounds(self) -> int:
        """Rounds that the whole search and the last fit take."""
        return 1 + self.generations * (self.steps + 2) + self.steps + 1

    def start(self, *, seed: int) -> State:
        """Return a swarm of which one particle keeps every column; `ready` is 0 until the scaler is known, then one more than the rounds taken."""
        swarm = gather(self.particles, self.low, self.high, seed=seed)
        swarm.place[0] = [0.0, -1.0, np.log2(self.most_units) / 2 + 0.5, *[EDGE / 2] * self.columns]
        best = {"best/place": swarm.place[0], "best/centres": self._first(seed)[0], "best/coefficients": self._empty(1)[0]}
        found = {"centres": self._first(seed), "coefficients": self._empty(self.particles), "seed": np.array([float(seed)])}
        return {**self.scaler.start(), **_packed(swarm), **found, **best}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return one site's sums over x (n, columns) and y (n,) class numbers: what the round needs, by the names that `combine` reads."""
        del seed
        if not state["ready"][0]:
            return self.scaler.sums(x)
        hunt, n = self._hunt(state), {"n": np.array([float(len(x))])}
        apart = np.zeros(len(x), bool) if hunt.final else held_out(x, self.held)
        rows, particles = self.scaler.scaled(state, x), self._particles(state, hunt)
        if hunt.step < self.steps:
            return {**n, **self._clusters(rows[~apart], particles, state["centres"])}
        designs = [self._design(rows, particle, state["centres"][number]) for number, particle in enumerate(particles)]
        truth = np.eye(self.classes)[y]
        if hunt.step == self.steps:
            fit = [design[~apart] for design in designs]
            return {**n, "gram": np.stack([part.T @ part for part in fit]), "target": np.stack([part.T @ truth[~apart] for part in fit])}
        told = [softmax(self.sharpness * (design[apart] @ c)) for design, c in zip(designs, state["coefficients"], strict=True)]
        losses = [-np.log(np.maximum(p[np.arange(len(p)), y[apart]], 1e-12)).sum() for p in told]
        return {**n, "loss": np.array(losses, np.float64), "held": np.array([float(apart.sum())])}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the scaler, move the centres, solve for the output layers, or judge the particles and move them."""
        del weights
        total = total_of(contributions)
        if not state["ready"][0]:
            return self.scaler.found(state, total)
        hunt = self._hunt(state)
        particles, known = self._particles(state, hunt), {**state, "ready": state["ready"] + 1}
        if hunt.step < self.steps:
            return {**known, "centres": self._moved(state["centres"], total, particles)}
        if hunt.step == self.steps:
            solved = [solve_ridge(gram, target, p.penalty) for gram, target, p in zip(total["gram"], total["target"], particles, strict=True)]
            if hunt.final:  # further rounds find the same again
                return {**state, "best/centres": state["centres"][0], "best/coefficients": solved[0]}
            return {**known, "coefficients": np.stack(solved)}
        loss = total["loss"] / max(float(total["held"][0]), 1.0) + self.price * np.array([p.kept.mean() for p in particles])
        return {**known, **self._judged(state, loss, hunt.generation)}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, sums that are not finite, negative counts, squares or losses, and Gram matrices that are none."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros(0, int), seed=0))
        if not is_finite(contribution) or any((contribution[key] < 0).any() for key in contribution.keys() - {"sum", "totals"}):
            raise BadState("sums must be finite; counts, activations and losses not negative")
        for gram in contribution.get("gram", ()):
            check_semidefinite(gram, what="a Gram matrix")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, classes) of the best network so far: the softmax of its values times `sharpness`."""
        return softmax(self.sharpness * (self.units(state, x) @ state["best/coefficients"]))

    def units(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return what the units of the best network so far say of each row, and a last 1, shape (n, most_units + 1)."""
        return self._design(self.scaler.scaled(state, x), self.particle(state["best/place"]), state["best/centres"])

    def particle(self, place: np.ndarray) -> Particle:
        """Return what a place (3 + columns,) stands for; where no column is kept, the one nearest to it is.

        Examples
        --------
        >>> rbf_pso(3, 2).particle(np.array([0.0, -1.0, 3.0, 2.0, -1.0, 0.5])).kept.tolist()
        [True, False, True]
        """
        kept = place[KNOBS:] > 0
        kept = kept if kept.any() else place[KNOBS:] == place[KNOBS:].max()
        units = int(np.clip(np.rint(2.0 ** place[UNITS]), 2, self.most_units))
        return Particle(float(10.0 ** place[WIDTH]), float(10.0 ** place[PENALTY]), units, kept)

    def _hunt(self, state: State) -> Hunt:
        generation, step = divmod(int(state["ready"][0]) - 1, self.steps + 2)
        return Hunt(generation, step, generation >= self.generations)

    def _particles(self, state: State, hunt: Hunt) -> list[Particle]:
        return [self.particle(place) for place in ([state["best/place"]] if hunt.final else state["place"])]

    def _clusters(self, rows: np.ndarray, particles: list[Particle], centres: np.ndarray) -> State:
        shape = (len(particles), self.most_units)
        members, totals, spread = np.zeros(shape), np.zeros((*shape, self.columns)), np.zeros(shape)
        for number, particle in enumerate(particles):
            squared = _squared(rows, centres[number], particle)
            nearest = squared.argmin(0) if len(rows) else np.zeros(0, int)
            share = (np.arange(particle.units)[:, None] == nearest).astype(np.float64)
            members[number, : particle.units] = share.sum(1)
            totals[number, : particle.units] = (share @ rows) * particle.kept
            spread[number, : particle.units] = (share * squared).sum(1)
        return {"members": members, "totals": totals, "spread": spread}

    def _moved(self, centres: np.ndarray, total: State, particles: list[Particle]) -> np.ndarray:
        after = centres.copy()
        for number, particle in enumerate(particles):
            used, kept = slice(0, particle.units), particle.kept
            sums = {name: total[name][number, used] for name in ("members", "spread")} | {"totals": total["totals"][number, used][:, kept]}
            after[number, used][:, kept] = next_centres(centres[number, used][:, kept], sums)
        return after

    def _judged(self, state: State, loss: np.ndarray, generation: int) -> State:
        seed, last = int(state["seed"][0]), generation + 1 == self.generations
        swarm, before = Swarm(state["place"], state["pace"], state["best"], state["reached"]), float(state["reached"].min())
        swarm = judged(swarm, loss)
        best = {key: state[key] for key in ("best/place", "best/centres", "best/coefficients")}
        if swarm.reached.min() < before:
            first = swarm.leader
            best = {"best/place": state["place"][first], "best/centres": state["centres"][first], "best/coefficients": state["coefficients"][first]}
        swarm = swarm if last else self.step_of(swarm, self.low, self.high, seed=seed, generation=generation + 1)
        return {**_packed(swarm), **best, "centres": self._first(seed), "coefficients": self._empty(self.particles)}

    def _design(self, rows: np.ndarray, particle: Particle, centres: np.ndarray) -> np.ndarray:
        design = np.zeros((len(rows), self.most_units + 1))
        design[:, -1] = 1.0
        variance = particle.width**2 * particle.kept.sum()
        design[:, : particle.units] = np.exp(-_squared(rows, centres, particle).T / (2 * variance))
        return design

    def _first(self, seed: int) -> np.ndarray:
        return np.repeat(first_centres(self.most_units, self.columns, seed)[None], self.particles, axis=0)

    def _empty(self, particles: int) -> np.ndarray:
        return np.zeros((particles, self.most_units + 1, self.classes))


def _squared(rows: np.ndarray, centres: np.ndarray, particle: Particle) -> np.ndarray:
    x, c = rows[:, particle.kept], centres[: particle.units, particle.kept]
    return np.maximum((c**2).sum(1)[:, None] + (x**2).sum(1) - 2 * c @ x.T, 0.0)


def _packed(swarm: Swarm) -> State:
    return {"place": swarm.place, "pace": swarm.pace, "best": swarm.best, "reached": swarm.reached}


def rbf_pso(
    inputs: int,
    outputs: int,
    *,
    particles: Annotated[int, Field(ge=2, le=256)] = 30,
    generations: Annotated[int, Field(ge=1, le=1000)] = 60,
    most_units: Annotated[int, Field(ge=4, le=256)] = 64,
    steps: Annotated[int, Field(ge=1, le=100)] = 3,
    held: Annotated[float, Field(ge=0.1, le=0.5)] = 0.3,
    price: Annotated[float, Field(ge=0, le=1)] = 0.01,
    sharpness: Annotated[float, Field(gt=0, le=100)] = 4.0,
    search: Literal["swarm", "random"] = "swarm",
) -> SwarmedBasis:
    """Build a radial basis function network that a particle swarm tunes; ``2 + generations * (steps + 2) + steps`` rounds and the secure sum.

    A particle stands for the width of the units in standard deviations per column, the ridge penalty, the number of units and the columns that
    are kept. Its loss is the mean log-loss over the rows that the sites hold out, and a price for columns. Several records of one patient may
    fall on both sides: give it one a patient.

    Parameters
    ----------
    particles, generations : int
        Size and steps of the swarm.
    most_units : int
        Units of the hidden layer at most; at least 2.
    steps : int
        Rounds of k-means that place the units of a generation, from centres that are the same for all.
    held : float
        Share of the rows held out to judge the particles; the last fit takes all.
    price : float
        Loss of keeping every column.
    sharpness : float
        Factor from output values to logits.
    search : str
        ``swarm``, or ``random``: as many places drawn anew in each generation, which is what the swarm must beat.

    Examples
    --------
    >>> model = rbf_pso(1, 2, particles=4, generations=3, most_units=4)
    >>> x, y = np.linspace(-2, 2, 60)[:, None], (abs(np.linspace(-2, 2, 60)) < 1).astype(int)
    >>> state = model.start(seed=0)
    >>> for _ in range(model.rounds):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [60])
    >>> model.predict(state, np.array([[-2.0], [0.0], [2.0]])).argmax(1).tolist()
    [0, 1, 0]
    """
    return SwarmedBasis(inputs, outputs, particles, generations, most_units, steps, held, price, sharpness, search)


SPEC = ModelSpec(
    build=rbf_pso,
    takes="table",
    fit="sums",
    counts={"n": "all"},
    summed_only=True,
    source="swarm: Clerc & Kennedy, IEEE Trans Evol Comput 2002; network: Moody & Darken, 1989; together: Kumarganesh et al., SASC 2025",
)
