"""Trainers with a mistake: what an audit must catch. Each is the real trainer with one thing done wrongly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np

from client.privacy.spending import Spend
from client.training import per_unit, private, private_sums
from client.training.canaries import CANARIES, Book
from client.training.units import units_of
from shared_models.core.randomness import SecretRandom


class Forgetful(list):  # type: ignore[type-arg]
    """A ledger that begins anew with every round."""

    def append(self, spent: Spend) -> None:
        self.clear()
        super().append(spent)


@contextlib.contextmanager
def _patched(target: Any, name: str, wrong: Any) -> Iterator[Book]:
    with patch.object(target, name, wrong):
        yield []


def _half_noise() -> contextlib.AbstractContextManager[Book]:
    right = SecretRandom.normal
    return _patched(SecretRandom, "normal", lambda self, count: 0.5 * right(self, count))


@contextlib.contextmanager
def _wrong_rate() -> Iterator[Book]:
    drawing = private.PrivateGradient.draw

    def draw(self: private.PrivateGradient, into: Any) -> None:
        self.q, kept = 2 * self.q, self.q
        drawing(self, into)
        self.q = kept

    with patch.object(private.PrivateGradient, "draw", draw):
        yield []


@contextlib.contextmanager
def _no_clip() -> Iterator[Book]:
    with (
        patch.object(per_unit, "shorten", lambda gradients, lengths, clip: gradients.sum(0)),
        patch.object(private_sums, "factors", lambda lengths, clip: np.ones_like(lengths)),
    ):
        yield []


@contextlib.contextmanager
def _per_slice() -> Iterator[Book]:
    def slices(records: Any, unit: str) -> list[np.ndarray]:
        return units_of(records, "record")

    with patch.object(private, "units_of", slices), patch.object(private_sums, "units_of", slices):
        yield []


MUTANTS: dict[str, Callable[[], contextlib.AbstractContextManager[Book]]] = {
    "half noise": _half_noise,
    "no clip": _no_clip,
    "ledger reset": lambda: contextlib.nullcontext(Forgetful()),
    "wrong rate": _wrong_rate,
    "per-slice unit": _per_slice,
}

SEEDED = [(trainer, bug) for trainer in CANARIES for bug in MUTANTS if (trainer, bug) != ("sums", "wrong rate")]
"""Every bug in every trainer that can have it: sums draw nobody, so they have no rate."""
