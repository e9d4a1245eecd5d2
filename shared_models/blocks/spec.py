"""`ModelSpec`: what a line of the catalogue says about a model, and the contract of models whose fit is a sum or a set of trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from shared_models.core.arrays import State

Takes = Literal["slices", "volume", "patch", "table"]
Fit = Literal["gradient", "adversarial", "sums", "trees"]
NETWORK_FITS = frozenset({"gradient", "adversarial"})
"""Fits of networks: their weights travel, whatever the loop that trains them."""


@dataclass(frozen=True)
class ModelSpec:
    """One entry of the catalogue.

    Parameters
    ----------
    build : callable
        ``build(inputs, outputs, *, knobs)``: input channels (or table columns) and classes come from the system, the keyword-only rest
        may be set in the experiment's ``[model]``. Gives a ``torch.nn.Module`` (fit = gradient or adversarial, then also a
        `shared_models.blocks.adversarial.Game`) or a `Classical` model.
    task : str
        What is predicted, the experiment's ``data.target``: ``"diagnosis"`` (one class a patient), ``"survival"`` (a risk) or
        ``"segmentation"`` (one class a pixel); or nothing, of ``"reconstruction"``.
    takes : str
        ``slices`` (n, k, y, x), ``volume`` (n, 1, z, y, x), ``patch`` (n, 1, y, x) or ``table`` (n, columns).
    fit : str
        How sites contribute (design of the federation modes): ``gradient`` and ``adversarial`` send weights, ``sums`` sends exact sums whose total
        gives the pooled fit, ``trees`` sends grown trees that are united.
    loss : callable or None
        Per-sample loss of a network: ``loss(logits, labels) -> (n,)``. An adversarial one is trained on what its players lose.
    objective : callable or None
        In place of `loss`, a network's own: ``objective(output, batch, targets) -> (n,)`` of what the network gives out while it trains (a tensor,
        or a tuple of them), the inputs that it saw, and the targets of the records (`Records.targets`; their labels where there are none).
    feature_map : str or None
        Name of the submodule that gives the last feature map, (n, channels, y, x) or (n, channels, z, y, x), before places are averaged: what
        class activation maps are made of. None for a model without one. A model of slices sees each slice alone: there n counts slices.
    representation : str or None
        Name of the submodule whose input is the network's representation of a record, (n, features): what its classifier reads. None for a
        model that makes none of its own.
    source : str
        Paper that defines the model.
    units : str
        In which values images enter: ``"unit"`` (the experiment's HU window mapped to 0..1) or ``"hu"``.
    least_px : int
        Smallest rows and columns of an image that the network takes, whatever its knobs; it refuses smaller ones.
    counts : mapping
        Arrays of a contribution that are numbers of records, which a site's gate compares with its own: ``"all"`` of them in one number,
        or ``"class"`` by class.
    summed_only : bool
        Its sums tell of groups as small as one patient (a bin, a cluster): they leave a site through the secure sum alone, or under noise.
    """

    build: Callable[..., Any]
    takes: Takes
    fit: Fit
    source: str
    task: str = "diagnosis"
    loss: Callable[..., Any] | None = None
    objective: Callable[..., Any] | None = None
    feature_map: str | None = None
    representation: str | None = None
    units: Literal["unit", "hu"] = "unit"
    least_px: int = 1
    counts: Mapping[str, Literal["all", "class"]] = field(default_factory=dict)
    summed_only: bool = False
    takes_missing: bool = False
    """Whether a row of a table may hold NaN where a value is missing (``inputs.missing = "mask"``)."""
    reference_logit: bool = False
    """Whether the first logit is 0 whatever is seen: the others say how a class compares with the first; none can be a hazard or a finding."""
    draws: bool = False
    """Whether its generator draws records from noise (`draw`): sites then check whether it repeats their patients."""
    maps: bool = False
    """Whether players of it learn the lungs of each slice beside the label (``data.annotation = "lung"``)."""
    tells_classes: bool = False
    """Whether its sums tell, in clear, how many patients a class has: a site then trains without classes of too few."""

    def serves(self, target: str) -> bool:
        """Return whether the model predicts an experiment's ``data.target``.

        Findings are told by any network that says one number a class and learns from a loss: its numbers are then asked one by one.

        Examples
        --------
        >>> spec = ModelSpec(build=dict, takes="slices", fit="gradient", source="", loss=print)
        >>> [spec.serves(target) for target in ("diagnosis", "findings", "survival")]
        [True, True, False]
        """
        each = self.task == "diagnosis" and self.fit == "gradient" and self.loss is not None and not self.reference_logit
        return target == self.task or (target == "findings" and each)


class Classical(Protocol):
    """A model without gradients. All methods are pure functions of their arguments.

    ``contribution`` is the site's half, ``combine`` the server's half; of survival, y is (n, 3): time, event, stratum. For
    *sums* `combine` gets the one total of all contributions, for *trees* the list of them. ``layout`` is the contribution of no patients: the
    server checks keys, shapes and types against it.
    """

    def start(self, *, seed: int) -> State:
        """Return the state before any data was seen."""
        ...

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return what a site sends: sums over its patients, or trees grown on them."""
        ...

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the next global state."""
        ...

    def check(self, contribution: State, state: State) -> None:
        """Raise BadState when a contribution is malformed."""
        ...

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (n, classes); of survival the log hazard, shape (n, 1)."""
        ...


@runtime_checkable
class Grouping(Protocol):
    """A model whose arrays tell of groups of training records, as a leaf of a tree tells the classes of those that ended there."""

    min_leaf: int
    """Records that a group holds at least."""

    def groups(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the group of each record of `x` (n, columns) in each partition, shape (partitions, n)."""
        ...


@runtime_checkable
class Stating(Protocol):
    """A model of survival that states risks, and not only who is at higher risk than whom."""

    def risks(self, state: State, x: np.ndarray, horizons: tuple[float, ...]) -> np.ndarray:
        """Return P(event by each horizon), shape (n, horizons)."""
        ...


@runtime_checkable
class PrivateSums(Protocol):
    """A model of sums that says how much one record can change them: what differential privacy needs to know.

    Its `contribution` also takes `weights`, shape (n,): the factor on each record's part; by default all are 1.
    """

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return the sums over weighted records."""
        ...

    def parts(self, state: State) -> tuple[str, ...]:
        """Return the arrays of a contribution that `combine` reads at `state`: only these carry anything of a patient."""
        ...

    def lengths(self, state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the Euclidean length of each record's part over these arrays together, shape (n,)."""
        ...

    def mend(self, sums: State) -> State:
        """Return noisy sums as sums that `check` lets pass: symmetric, positive semidefinite, counts not negative."""
        ...
