"""`Calibration`: what sites sum after training so that a release's probabilities can be believed; `CalibrationSpec`: a line of CALIBRATIONS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from shared_models.core.arrays import State

Reads = Literal["logits", "representation"]


class Calibration(Protocol):
    """A fit that is a sum over sites, made with the final model. All methods are pure functions of their arguments.

    Rows x are float64, one a patient: logarithms of the model's class probabilities (n, classes), as the calibrations before it leave them, or
    the model's representation (n, width).
    """

    def start(self, width: int) -> State:
        """Return the state before any data was seen, for rows of `width` numbers."""
        ...

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return a site's sums over its patients."""
        ...

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the fit from the sites' sums, or from their total alone."""
        ...

    def check(self, contribution: State, state: State) -> None:
        """Raise BadState when sums are malformed."""
        ...

    def seen(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return logits (n, classes) as this calibration leaves them; one that changes none returns `x`."""
        ...


@dataclass(frozen=True)
class CalibrationSpec:
    """One line of CALIBRATIONS.

    Parameters
    ----------
    build : callable
        ``build(classes, *, knobs) -> Calibration``: the number of classes comes from the system, the keyword-only rest may be set in the
        experiment's ``[[calibration]]``.
    reads : str
        ``logits`` or ``representation``.
    held_out : tuple of bool
        One a round: whether the site's held-out patients stand in it, whom the model has not seen, or those it was trained on.
    source : str
        Paper that defines it.
    cells : str or None
        The array of a contribution that counts patients by cell: a site sends none with too few in a cell.
    counts : mapping
        Arrays of a contribution that are numbers of records, as in `ModelSpec`.
    told : tuple of str
        Numbers of the fit that a card shows.
    """

    build: Callable[..., Calibration]
    reads: Reads
    held_out: tuple[bool, ...]
    source: str
    cells: str | None = None
    counts: Mapping[str, Literal["all", "class"]] = field(default_factory=lambda: {"n": "all"})
    told: tuple[str, ...] = ("patients", "threshold", "least", "most")

    @property
    def rounds(self) -> int:
        """Rounds that the fit takes."""
        return len(self.held_out)

    @property
    def fit(self) -> str:
        """How sites contribute: by sums, as models of that kind."""
        return "sums"
