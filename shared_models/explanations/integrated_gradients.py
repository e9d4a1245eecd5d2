"""Integrated gradients: the score is divided among the values of the record, and the parts add up to it."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.core.errors import FedILDError
from shared_models.explanations.subject import BATCH, ExplanationSpec, Subject, score_of

MOST_STEPS = 512
CROWDING = 4
"""Points lie at the fourth power of an even division of the line: normalised networks change most where the record fades in."""


def integrated_gradients(
    subject: Subject,
    label: int,
    *,
    steps: Annotated[int, Field(ge=4, le=MOST_STEPS)] = 32,
    tolerance: Annotated[float, Field(gt=0, le=0.5)] = 0.05,
) -> np.ndarray:
    """Integrate the gradient of the score along the straight line from the absent record to this one, times the difference of the two.

    The parts must add up to the difference of the scores (completeness): steps are doubled until they do within `tolerance` of it.

    Parameters
    ----------
    subject : Subject
        A record and its network.
    label : int
        Class whose score is divided.
    steps : int
        Points on the line at first.
    tolerance : float
        Largest gap, as a share of the difference of the scores (of 1, where that is smaller).

    Returns
    -------
    ndarray of float64
        Signed parts, shape `subject.shape`.

    Raises
    ------
    FedILDError
        The parts do not add up with 512 steps: the network is too steep for the line.

    Source: Sundararajan, Taly & Yan, Axiomatic attribution for deep networks, ICML 2017, equation 2 and proposition 1.
    """
    import torch

    network = subject.own_network()
    record = torch.from_numpy(np.ascontiguousarray(subject.record, np.float32))
    absent = torch.from_numpy(np.array(subject.absent, np.float32))
    with torch.no_grad():
        there, gone = score_of(network(torch.stack([record, absent])), label, each=subject.each).tolist()
    while True:
        total = torch.zeros_like(record, dtype=torch.float64)
        for start in range(0, steps, BATCH // 4):
            even = ((torch.arange(start, min(start + BATCH // 4, steps)) + 0.5) / steps).reshape(-1, *(1,) * record.dim())
            points = absent + even**CROWDING * (record - absent)
            points.requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(score_of(network(points), label, each=subject.each).sum(), points)
            total += (CROWDING * even.double() ** (CROWDING - 1) * gradient.double()).sum(0)
        parts = ((record - absent).double() * total / steps).numpy()
        gap = abs(parts.sum() - (there - gone)) / max(1.0, abs(there - gone))
        if gap <= tolerance:
            return parts[0] if subject.takes in ("volume", "patch") else parts
        if 2 * steps > MOST_STEPS:
            raise FedILDError("integrated gradients must add up to the score", value=f"a gap of {100 * gap:.0f} %", remedy="choose occlusion")
        steps *= 2


SPEC = ExplanationSpec(
    integrated_gradients,
    frozenset({"slices", "volume", "patch", "table"}),
    lambda subject: (
        subject.network is not None
        and (subject.takes != "table" or (subject.background is not None and not np.isnan(subject.background).any()))  # no line leads from not known
    ),
    source="Sundararajan, Taly & Yan, Axiomatic attribution for deep networks, ICML 2017",
)
