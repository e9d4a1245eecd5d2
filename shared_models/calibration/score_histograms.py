"""Histograms of the model's probabilities, class by class, such as sites may release: what an evaluation can be made of without a patient's score."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.calibration.cells import counted
from shared_models.calibration.spec import CalibrationSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout

REST, POSITIVE = 0, 1
"""Rows of a class: patients of all other classes, and its own."""
LOW, HIGH = 0, 1
"""Placements of a group of cells: all its patients in its lowest cell, or all in its highest."""


def widths_of(cells: int, patients: int, least: int) -> list[int]:
    """Return the widths, in cells, of the groups that so many patients are counted in, narrowest first: a fifth of all cells, and all, are the last.

    Each is a multiple of the one before. The narrowest are as many as give each group half of `least` on average: they hang on the number of
    patients, which is released, and on nobody's score.

    Examples
    --------
    >>> widths_of(100, 1000, 5), widths_of(100, 60, 5), widths_of(100, 9, 5)
    ([1, 2, 10, 20, 100], [10, 20, 100], [100])
    """
    widths, left = [1], cells // 10
    while left > 1:
        factor = next((prime for prime in (2, 3, 5, 7) if left % prime == 0), left)
        widths.append(widths[-1] * factor)
        left //= factor
    return [width for width in (*widths, cells // 5, cells) if width == cells or 2 * patients >= least * (cells // width)]


def placed(counts: np.ndarray, least: int) -> np.ndarray:
    """Return counts twice, shape (2, cells), none of either between 0 and `least`: each group's patients in its lowest cell, and in its highest.

    Patients are counted in the narrowest of the groups `widths_of`. Where one holds `least` it stands for itself; who is left over is counted in the
    next wider group, together with those left over around them, and so on; fewer than `least` at the end take the smallest group with them. So
    where a group ends hangs on nobody's score, and of a patient's place inside a narrowest group nothing is told. The patients at or below an edge
    are at least those placed high and at most those placed low, and both sums over sites keep that. Fewer patients in all than `least` give no
    counts.

    Examples
    --------
    >>> placed(np.array([9, 1, 0, 4, 1, 0, 0, 0, 0, 11]), 5).tolist()
    [[15, 0, 0, 0, 0, 0, 0, 0, 0, 11], [9, 0, 0, 0, 0, 0, 0, 0, 0, 17]]
    >>> placed(np.array([2, 0, 1, 0, 0, 0, 0, 0, 0, 0]), 5).sum().tolist()
    0
    """
    counts = np.asarray(counts, np.int64)
    out = np.zeros((2, len(counts)), np.int64)
    if counts.sum() < least:
        return out
    groups: list[tuple[int, int, int]] = []  # patients, first and last cell
    over, before = counts, 1
    for width in widths_of(len(counts), int(counts.sum()), least):
        over = over.reshape(-1, width // before).sum(1)
        told = over >= least
        groups += [(int(over[node]), int(node) * width, (int(node) + 1) * width - 1) for node in np.flatnonzero(told)]
        over, before = np.where(told, 0, over), width
    if over[0]:
        smallest = min(groups)
        groups.remove(smallest)
        groups.append((int(over[0]) + smallest[0], 0, len(counts) - 1))
    for count, low, high in groups:
        out[LOW, low] += count
        out[HIGH, high] += count
    return out


def shown_classes(of_class: np.ndarray, least: int) -> np.ndarray:
    """Say which classes a site may show, bool (classes,): none with 1 to ``least - 1`` patients, and nothing that subtraction would find.

    All patients are known to be so many: were one small class the only one left out, the others would tell its number. So the next smaller ones
    are left out with it until those left out are `least` together.

    Examples
    --------
    >>> shown_classes(np.array([30, 20, 3, 0]), 5).tolist()
    [True, False, False, True]
    """
    of_class = np.asarray(of_class)
    shown = ~((of_class > 0) & (of_class < least))
    for number in np.argsort(of_class, kind="stable"):
        if not 0 < of_class[~shown].sum() < least:
            break
        if of_class[number] > 0:
            shown[number] = False
    return shown


class ScoreHistograms:
    """Held-out patients by cell of each class's probability, those who have the class apart from the rest, every count placed low and high."""

    def __init__(self, classes: int, cells: int, least: int) -> None:
        self.classes, self.cells, self.least = classes, cells, least
        self.edges = np.arange(cells + 1) / cells

    def start(self, width: int) -> State:
        """Return counts of nobody."""
        del width
        return {"patients": np.zeros(1), "cells": np.zeros((self.classes, 2, 2, self.cells))}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return the patients, and their counts, shape (classes, 2, 2, cells): rest or positive, placed low or high."""
        del state, seed
        logits, y = np.asarray(x, np.float64).reshape(-1, self.classes), np.asarray(y, np.int64)
        p = np.exp(logits - logits.max(1, keepdims=True)) if len(logits) else logits
        return {"n": np.array([float(len(p))]), "cells": self.of(p / p.sum(1, keepdims=True) if len(p) else p, y).astype(np.float64)}

    def of(self, probabilities: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the counts of a site's patients, shape (classes, 2, 2, cells), from their probabilities (n, classes)."""
        out = np.zeros((self.classes, 2, 2, self.cells), np.int64)
        for number in np.flatnonzero(shown_classes(np.bincount(y, minlength=self.classes), self.least)):
            has = y == number
            if 0 < (~has).sum() < self.least:
                continue
            for row, who in ((REST, ~has), (POSITIVE, has)):
                out[number, row] = placed(counted(probabilities[who, number], self.edges), self.least)
        return out

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the sums over sites."""
        del state, weights
        patients, cells = (np.rint(np.sum([part[key] for part in contributions], axis=0)) for key in ("n", "cells"))
        return {"patients": patients, "cells": cells}

    def check(self, contribution: State, state: State) -> None:
        """Refuse counts of another shape, negative ones, and more patients of a class and the rest than there are."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.classes)), np.zeros(0, int), seed=0))
        cells = contribution["cells"]
        if not is_finite(contribution) or any((value < 0).any() for value in contribution.values()):
            raise BadState("cells hold patients, no more than there are")
        if (cells.sum((1, 3)) > contribution["n"][0] + 1e-6).any() or not np.allclose(cells[:, :, LOW].sum(2), cells[:, :, HIGH].sum(2)):
            raise BadState("cells hold patients, no more than there are, and as many placed low as high")

    def seen(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return `x`: counting changes no probability."""
        del state
        return x


def score_histograms(
    classes: int,
    *,
    cells: Annotated[int, Field(ge=10, le=1000, multiple_of=10)] = 100,
    least: Annotated[int, Field(ge=1, le=100)] = 5,
) -> ScoreHistograms:
    """Release how held-out patients lie by probability of each class; one round. `shared_models/judging/released` makes figures of it.

    Parameters
    ----------
    classes : int
        Of the experiment.
    cells : int
        Over 0..1, ten of them or a multiple.
    least : int
        Patients that a count stands for at least; not below the site's own policy.

    Examples
    --------
    >>> fit = score_histograms(2, cells=10, least=5)
    >>> part = fit.contribution({}, np.log([[0.95, 0.05]] * 30 + [[0.25, 0.75]] * 40), np.repeat([0, 1], [30, 40]), seed=0)
    >>> fit.combine(fit.start(2), [part], [])["cells"][1, POSITIVE, LOW].tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 40.0, 0.0, 0.0]
    """
    return ScoreHistograms(classes, cells, least)


SPEC = CalibrationSpec(
    score_histograms,
    reads="logits",
    held_out=(True,),
    cells="cells",
    told=("patients",),
    source="counts of at least k, as in the suppression of small cells: Hundepool et al., Statistical Disclosure Control, 2012, chapter 5",
)
