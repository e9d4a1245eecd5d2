"""What is explained: one record and the model that judged it; `ExplanationSpec`: a line of EXPLANATIONS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_models.blocks.spec import Takes
from shared_models.core.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 32
LEAST = 1e-12
"""Probabilities below this are taken for it: a logarithm needs one."""


@dataclass(frozen=True)
class Subject:
    """One record as the model reads it, and the model.

    Every explanation tells of the score of a class. That is its logit less the mean of all logits: the same for all logits that give the same
    probabilities, and linear in them, so that a linear model has the Shapley values of a linear function. Trees have no logits: their score
    is the probability.

    Parameters
    ----------
    record : ndarray
        Slices (k, y, x), volume (1, z, y, x), patch (1, y, x) or a row of a table (columns,).
    takes : str
        Which of these, as in `ModelSpec`.
    predict : callable
        Records (n, ...) to class probabilities (n, classes).
    network : nn.Module or None
        The network in evaluation mode; None for a model without gradients.
    feature_map : str or None
        Name of the network's module whose output is the last feature map.
    background : ndarray or None
        What stands for an absent value: a row (columns,) of a table, or one number for images; None where nothing is known.
    logits : bool
        False for trees.
    each : bool
        Whether each class is a question of its own (several findings at once): its score is then its own logit.
    """

    record: np.ndarray
    takes: Takes
    predict: Callable[[np.ndarray], np.ndarray]
    network: nn.Module | None = None
    feature_map: str | None = None
    background: np.ndarray | None = None
    logits: bool = True
    each: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an explanation: the record's without its channel."""
        return self.record.shape[1:] if self.takes in ("volume", "patch") else self.record.shape

    @property
    def absent(self) -> np.ndarray:
        """What stands for absent values, shape of the record; without a background an image's lowest value.

        Raises
        ------
        BadInput
            A table without a background.
        """
        if self.background is None:
            if self.takes == "table":
                raise BadInput("an explanation of a table needs a row that stands for absent values", remedy="give the mean of the training patients")
            return np.full_like(self.record, self.record.min())
        return np.broadcast_to(np.asarray(self.background, self.record.dtype), self.record.shape)

    def scores(self, records: np.ndarray, label: int) -> np.ndarray:
        """Return the score of class `label` of many records, shape (n,)."""
        parts = [self.predict(records[start : start + BATCH]) for start in range(0, len(records), BATCH)]
        p = np.concatenate(parts)
        if not self.logits:
            return p[:, label]
        logs = np.log(np.maximum(p, LEAST))
        if self.each:
            return logs[:, label] - np.log(np.maximum(1 - p[:, label], LEAST))
        return logs[:, label] - logs.mean(1)

    def own_network(self) -> nn.Module:
        """Return the network.

        Raises
        ------
        BadInput
            The model has no gradients.
        """
        if self.network is None:
            raise BadInput("this explanation needs a network", value="a model without gradients", remedy="choose occlusion or shapley")
        return self.network


def score_of(logits: Tensor, label: int, *, each: bool = False) -> Tensor:
    """Return the score of class `label` of each row of logits (n, classes), shape (n,); with `each` the logit itself."""
    return logits[:, label] if each else logits[:, label] - logits.mean(1)


@dataclass(frozen=True)
class ExplanationSpec:
    """One line of EXPLANATIONS.

    Parameters
    ----------
    function : callable
        ``function(subject, label, *, knobs)``: what each value of the record adds to the score of class `label`, or how much the network
        attends to it, as float64 of `Subject.shape`.
    takes : frozenset of str
        Kinds of records that it explains.
    applies : callable
        Says whether a subject can be explained so.
    source : str
        Paper that defines it.
    """

    function: Callable[..., np.ndarray]
    takes: frozenset[str]
    applies: Callable[[Subject], bool]
    source: str
