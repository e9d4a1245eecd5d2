"""Occlusion: how far the score falls when a window of the image is blanked. Needs nothing but predictions."""

from __future__ import annotations

import itertools
from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.explanations.subject import BATCH, ExplanationSpec, Subject


def occlusion(
    subject: Subject,
    label: int,
    *,
    size: Annotated[int, Field(ge=1, le=256)] = 16,
    stride: Annotated[int, Field(ge=1, le=256)] = 8,
) -> np.ndarray:
    """Blank one window after another and give each place the mean fall of the score over the windows that cover it.

    Windows are squares of a slice or cubes of a volume; the last of each row ends at the image's border, so every place is covered.
    What is blanked becomes the background, or without one the image's mean: a black window would be emphysema.

    Parameters
    ----------
    subject : Subject
        A record and what predicts it.
    label : int
        Class whose score is watched.
    size, stride : int
        Edge of the window and the way from one to the next, in pixels; a stride above the size is taken for the size.

    Returns
    -------
    ndarray of float64
        Fall of the score, shape `subject.shape`: positive where the image speaks for the class.

    Source: Zeiler & Fergus, Visualizing and understanding convolutional networks, ECCV 2014, section 4.2.
    """
    record, shape = subject.record, subject.shape
    image = record.reshape(shape)
    blank = np.full(shape, image.mean(), image.dtype) if subject.background is None else subject.absent.reshape(shape)
    edges = [1 if subject.takes == "slices" and axis == 0 else min(size, length) for axis, length in enumerate(shape)]
    starts = [sorted({*range(0, length - edge, min(stride, edge)), length - edge}) for length, edge in zip(shape, edges, strict=True)]
    windows = [tuple(slice(at, at + edge) for at, edge in zip(place, edges, strict=True)) for place in itertools.product(*starts)]
    whole = subject.scores(record[None], label)[0]
    heat, covered = np.zeros(shape), np.zeros(shape)
    for first in range(0, len(windows), BATCH):
        some = windows[first : first + BATCH]
        blanked = np.repeat(image[None], len(some), axis=0)
        for one, window in zip(blanked, some, strict=True):
            one[window] = blank[window]
        for window, score in zip(some, subject.scores(blanked.reshape(len(some), *record.shape), label), strict=True):
            heat[window] += whole - score
            covered[window] += 1
    return heat / covered


SPEC = ExplanationSpec(
    occlusion,
    frozenset({"slices", "volume", "patch"}),
    lambda subject: True,
    source="Zeiler & Fergus, Visualizing and understanding convolutional networks, ECCV 2014",
)
