"""Whether a map says what the model looks at: its hottest place lies on the disease, and the model's answer hangs on its hottest places first."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from shared_models.core.errors import BadInput
from shared_models.explanations.subject import Subject


class Faithful(NamedTuple):
    """Mean probability of a class while places are taken away, hottest first, and while they are put back; a map is better with less and more."""

    deletion: float
    insertion: float


def pointed(heat: np.ndarray, inside: np.ndarray, among: np.ndarray) -> float:
    """Return whether the hottest place of all that is looked at lies inside a region: one throw of the pointing game, 1 or 0.

    Parameters
    ----------
    heat : ndarray
        The map.
    inside, among : ndarray of bool
        The region (planted disease), and all that is looked at (the lungs). Of several hottest places, as in a map that gives each slice one
        number, the share inside counts.

    Raises
    ------
    BadInput
        Nothing is looked at.

    Source: Zhang et al., Top-down neural attention by excitation backprop, ECCV 2016, section 4.1.

    Examples
    --------
    >>> pointed(np.array([3.0, 1.0, 9.0]), np.array([True, False, False]), np.array([True, True, False]))
    1.0
    """
    if not among.any():
        raise BadInput("the pointing game needs places to look at", value=0)
    return float(inside[among & (heat == heat[among].max())].mean())


def deletion_and_insertion(subject: Subject, label: int, heat: np.ndarray, *, steps: Annotated[int, Field(ge=2, le=1000)] = 16) -> Faithful:
    """Blank a record's places from the hottest on, and put them back from the hottest on; return the areas under the probability of the class.

    What is blanked becomes the background, or without one the image's mean, as in `occlusion`. Places of equal heat go in their own order.

    Parameters
    ----------
    subject : Subject
        A record and what predicts it.
    label : int
        Class whose probability is watched.
    heat : ndarray, shape `subject.shape`
        An explanation of it.
    steps : int
        Equal parts in which places go.

    Raises
    ------
    BadInput
        The map is of another shape.

    Source: Petsiuk et al., RISE: randomized input sampling for explanation of black-box models, BMVC 2018, section 4.2.
    """
    if heat.shape != subject.shape:
        raise BadInput("a map has the shape of what it explains", value=heat.shape, remedy=f"give {subject.shape}")
    image = subject.record.reshape(-1)
    blank = np.full_like(image, image.mean()) if subject.background is None else subject.absent.reshape(-1)
    order = np.argsort(-heat.reshape(-1), kind="stable")
    taken = np.zeros((steps + 1, image.size), bool)
    for step in range(1, steps + 1):
        taken[step, order[: round(step * image.size / steps)]] = True
    areas = []
    for gone in (taken, ~taken):
        told = subject.predict(np.where(gone, blank, image).reshape(-1, *subject.record.shape))[:, label]
        areas.append(float((told[:-1] + told[1:]).mean() / 2))
    return Faithful(*areas)
