"""Whether a map can be believed: it must depend on what the network has learnt, and lie where disease was planted."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from shared_models.core.errors import BadInput

if TYPE_CHECKING:
    from torch import nn

MOST_ALIKE = 0.5
"""Rank correlation from which the map of a random network counts as the same map."""


def randomised(network: nn.Module, *, seed: int = 0) -> nn.Module:
    """Return a copy of a network whose weights are drawn anew, all layers at once.

    Parameters
    ----------
    network : nn.Module
        Left as it is.
    seed : int
        Of the draw; nothing global is changed.

    Source: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, section 3.1 (model parameter randomisation test).
    """
    import torch

    other = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in other.modules():
            own = list(module.parameters(recurse=False))
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
            else:
                for parameter in own:
                    torch.nn.init.normal_(parameter.data, std=max(float(parameter.data.std(correction=0)), 1e-3))
    return other.eval()


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's rank correlation of two maps: 1 for the same order of places, 0 where one of them says nothing.

    Examples
    --------
    >>> alike(np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0, 3.0])), alike(np.zeros(3), np.arange(3.0))
    (1.0, 0.0)
    """
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=None) for values in (one, other)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(round(np.corrcoef(*ranks)[0, 1], 12))


def mass_ratio(heat: np.ndarray, inside: np.ndarray, among: np.ndarray) -> float:
    """Return the mean of a map inside a region over its mean in the rest of what it is compared with; negative values count as 0.

    Parameters
    ----------
    heat : ndarray
        The map.
    inside, among : ndarray of bool
        The region (planted disease), and all that is looked at (the lungs).

    Raises
    ------
    BadInput
        Nothing lies inside, or nothing outside.

    Examples
    --------
    >>> mass_ratio(np.array([3.0, 1.0, 9.0]), np.array([True, False, False]), np.array([True, True, False]))
    3.0
    """
    inside, rest, positive = inside & among, among & ~inside, np.maximum(heat, 0)
    if not inside.any() or not rest.any():
        raise BadInput("a mass ratio compares places inside a region with places outside", value=(int(inside.sum()), int(rest.sum())))
    within, beyond = float(positive[inside].mean()), float(positive[rest].mean())
    return within / beyond if beyond > 0 else float("inf") if within > 0 else 0.0
