"""Selective re-training: slices that nobody has drawn on are learnt as the model of the stage before calls them, the steadiest of them first.

A site keeps the models that it received after a third, two thirds and all of the stage before, which a stage with ``pseudo_labels`` follows:

    <workspace>/checkpoints/<run>.<experiment>-<round>.safetensors      as received, 0600

Labels and their order are found anew from these and the site's own slices, so a round that is asked again learns the same. A site that joined
late labels with the model that it has now, and where it saw no earlier one all slices are equally steady.

Source: Yang et al., ST++: make self-training work better for semi-supervised semantic segmentation, CVPR 2022, section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from client.training.records import Records
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, FedILDError
from shared_models.core.files import read_state, write_state
from shared_models.experiment import Experiment
from shared_models.patterns import UNLABELLED
from shared_models.phases import Phase, phases_of

_RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,255}")
PARTS = 3
"""Models of a stage that are compared: its last with those before it."""


class Checkpoints(MutableMapping[int, State]):
    """Models that a site received, by round, on its disk; those of other runs are forgotten when one is written.

    Parameters
    ----------
    folder : Path
        ``workspace/checkpoints``.
    run : str
        Run and experiment.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = folder, run

    def __getitem__(self, number: int) -> State:
        try:
            return read_state(self._path(number))
        except (OSError, FedILDError):  # not there, or damaged
            raise KeyError(number) from None

    def __setitem__(self, number: int, state: State) -> None:
        for path in self.folder.glob("*.safetensors"):
            if path.stem.rpartition("-")[0] != self.run:
                path.unlink()
        write_state(self._path(number), state, durable=False, mode=0o600)

    def __delitem__(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[int]:
        matches = (re.fullmatch(r"(.+)-(\d+)", path.stem) for path in self.folder.glob("*.safetensors"))
        return iter(sorted(int(match[2]) for match in matches if match and match[1] == self.run))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _path(self, number: int) -> Path:
        if not _RUN.fullmatch(self.run):  # the server's word becomes the name of a file
            raise BadInput("a run is named by letters, digits, dots, dashes and underscores", value=self.run[:80])
        return self.folder / f"{self.run}-{number:06d}.safetensors"


def relabels(experiment: Experiment) -> bool:
    """Say whether a stage of an experiment learns from labels of the one before."""
    return any(stage.train.get("pseudo_labels") is not None for stage in experiment.stages or ())


def looked_at(phase: Phase) -> tuple[int, ...]:
    """Return the rounds at whose beginning the models of a stage arrive that are compared, the last being the one after it.

    Examples
    --------
    >>> from shared_models.core.choices import Choice
    >>> from shared_models.experiment import Data
    >>> settings = Experiment(name="x", data=Data(classes=("a", "b")), model=Choice(name="linear"))
    >>> looked_at(Phase("stage 1", 3, 6, settings))
    (5, 7, 9)
    """
    return tuple(phase.first + phase.rounds * part // PARTS for part in range(1, PARTS + 1))


def with_pseudo_labels(experiment: Experiment, phase: Phase, round: int, state: State, records: Records, kept: MutableMapping[int, State]) -> Records:
    """Return the training records of a round, with labels on slices that nobody has drawn on where the round's stage asks for them.

    Parameters
    ----------
    experiment : Experiment
        The whole one.
    phase : Phase
        Of the round.
    round : int
        Its number.
    state : State
        The model as received.
    records : Records
        The site's training patients, slices without a drawing as 254.
    kept : mutable mapping of int to State
        Models received before, by round; the one of this round is added where it will be asked for.
    """
    if not relabels(experiment):
        return records
    phases = phases_of(experiment)
    asked = {number for before, after in pairwise(phases) if _share(after) for number in looked_at(before)}
    if round in asked and round not in kept:
        kept[round] = state
    share = _share(phase)
    if share is None:
        return records
    before = next(one for one in phases if one.last == phase.first - 1)
    return labelled(experiment, records, [kept.get(number) for number in looked_at(before)[:-1]], kept.get(phase.first, state), share)


def labelled(experiment: Experiment, records: Records, earlier: list[State | None], last: State, share: float) -> Records:
    """Return records with labels by the `last` model on a share of the slices without a drawing, the steadiest over the `earlier` ones first."""
    if records.targets is None:
        return records
    open_ = records.targets == UNLABELLED
    rows, columns = np.nonzero(open_.any((2, 3)))
    if not len(rows):
        return records
    from client.training.maps import predict_maps  # torch is imported by the first network, not by the first table

    found = predict_maps(experiment, last, records)
    # One array of maps at a time: beside the records themselves, two are ever in memory.
    each = [steadiness(predict_maps(experiment, one, records), found, open_)[rows, columns] for one in earlier if one is not None]
    steady = np.mean(each, axis=0) if each and share < 1 else np.ones(len(rows))
    chosen = np.argsort(-steady, kind="stable")[: round_up(share * len(rows))]
    targets = records.targets.copy()
    for row, column in zip(rows[chosen], columns[chosen], strict=True):
        there = open_[row, column]
        targets[row, column][there] = found[row, column][there]
    return replace(records, targets=targets)


def steadiness(before: np.ndarray, after: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the mean intersection over union, over the classes that either map holds, of each slice: 1 is the same map.

    Parameters
    ----------
    before, after : ndarray of uint8, shape (n, k, y, x)
        Classes by two models.
    where : ndarray of bool, shape (n, k, y, x)
        Pixels that count; a slice without any gives 1.

    Examples
    --------
    >>> maps = np.array([[[[0, 0, 1, 1]]], [[[0, 0, 0, 1]]]], np.uint8)
    >>> steadiness(maps[:1], maps[1:], np.ones((1, 1, 1, 4), bool)).round(4).tolist()
    [[0.5833]]
    """
    shares, classes = np.zeros(before.shape[:2]), np.zeros(before.shape[:2])
    for number in np.union1d(np.unique(before[where]), np.unique(after[where])):
        one, other = (before == number) & where, (after == number) & where
        either = (one | other).sum((2, 3))
        shares += np.where(either > 0, (one & other).sum((2, 3)) / np.maximum(either, 1), 0.0)
        classes += either > 0
    return np.where(classes > 0, shares / np.maximum(classes, 1), 1.0)


def round_up(count: float) -> int:
    """Return a number of slices, never fewer than a share makes.

    Examples
    --------
    >>> round_up(0.5 * 5), round_up(4.0)
    (3, 4)
    """
    return int(np.ceil(count - 1e-9))


def _share(phase: Phase) -> float | None:
    return None if phase.number is not None else phase.settings.train.pseudo_labels
