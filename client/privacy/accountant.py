"""ACCOUNTANTS: epsilon of a history of Poisson-subsampled Gaussian steps, by Opacus; a history is JSON, never a pickle.

rdp    Renyi differential privacy (Mironov, Talwar & Zhang 2019): what a site refuses by
prv    numerical composition (Gopi, Lee & Wutschitz, NeurIPS 2021): tighter, slower, shown beside it
"""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from shared_models.core.errors import BadInput
from shared_models.core.files import canonical_json

Step = tuple[float, float, int]
"""Noise multiplier, sampling rate, number of steps."""
MOST_PRV = 20.0
"""Above this epsilon (by Renyi) the numerical composition is not tried: its mesh grows without bound, and the number says nothing any more."""
History = tuple[Step, ...]


def merged(history: Iterable[Step]) -> History:
    """Return `history` with equal mechanisms added up, in a fixed order: the order of steps does not change what they spend.

    Raises
    ------
    BadInput
        Steps that are no mechanism: noise or rate out of range, or not finite.

    Examples
    --------
    >>> merged([(1.0, 0.1, 3), (2.0, 0.1, 1), (1.0, 0.1, 4)])
    ((1.0, 0.1, 7), (2.0, 0.1, 1))
    """
    total: dict[tuple[float, float], int] = {}
    for sigma, q, steps in history:
        if not (math.isfinite(sigma) and sigma > 0 and 0 < q <= 1 and steps >= 0 and steps == int(steps)):
            raise BadInput("a private step has noise above 0 and a rate above 0 and at most 1", value=(sigma, q, steps), code="E_SPEND")
        total[float(sigma), float(q)] = total.get((float(sigma), float(q)), 0) + int(steps)
    return tuple((sigma, q, steps) for (sigma, q), steps in sorted(total.items()) if steps)


def epsilon(history: Iterable[Step], delta: float, *, accountant: str = "rdp") -> float:
    """Return the epsilon that `history` has spent at `delta`; 0 for no steps, NaN where the accountant has no answer.

    Parameters
    ----------
    history : iterable of (sigma, q, steps)
        In any order.
    delta : float
        Above 0 and below 1.
    accountant : str
        A line of ACCOUNTANTS.

    Raises
    ------
    BadInput
        Not a history, or no delta.

    Examples
    --------
    >>> round(epsilon([(1.0, 0.01, 1000)], 1e-5), 2), round(epsilon([(1.0, 0.01, 1000)], 1e-5, accountant="prv"), 2)
    (2.1, 1.84)
    """
    if not 0 < delta < 1:
        raise BadInput("delta lies between 0 and 1", value=delta, code="E_SPEND")
    steps = merged(history)
    return _epsilon(steps, float(delta), accountant) if steps else 0.0


@functools.lru_cache(maxsize=4096)
def _epsilon(history: History, delta: float, accountant: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus warns when its largest order is the best one: the bound holds all the same
        return float(ACCOUNTANTS[accountant](history, delta))


def _rdp(history: History, delta: float) -> float:
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import get_privacy_spent

    spent = sum(_of_one_step(sigma, q) * steps for sigma, q, steps in history)
    return float(get_privacy_spent(orders=RDPAccountant.DEFAULT_ALPHAS, rdp=spent, delta=delta)[0])


@functools.lru_cache(maxsize=4096)
def _of_one_step(sigma: float, q: float) -> Any:
    # What RDPAccountant.get_epsilon computes for every entry again; a ledger asks for the same noise and rate in each round.
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import compute_rdp

    return compute_rdp(q=q, noise_multiplier=sigma, steps=1, orders=RDPAccountant.DEFAULT_ALPHAS)


def _prv(history: History, delta: float) -> float:
    if _epsilon(history, delta, "rdp") > MOST_PRV:
        return math.nan
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = list(history)
    try:
        return accountant.get_epsilon(delta)
    except (ValueError, RuntimeError, FloatingPointError, MemoryError):  # outside the range in which its mesh can be made
        return math.nan


ACCOUNTANTS: dict[str, Callable[[History, float], float]] = {"rdp": _rdp, "prv": _prv}
"""Adding an accountant is a function and a line here."""


def to_json(history: Iterable[Step]) -> str:
    """Return a history as JSON.

    Examples
    --------
    >>> to_json([(1.5, 0.25, 4)])
    '[[1.5,0.25,4]]'
    """
    return canonical_json([list(step) for step in merged(history)])


def from_json(text: str) -> History:
    """Read what `to_json` wrote.

    Raises
    ------
    BadInput
        Anything else.
    """
    try:
        document = json.loads(text)
        if isinstance(document, list):
            return merged([(float(sigma), float(q), steps) for sigma, q, steps in document])
    except (ValueError, TypeError):
        pass
    raise BadInput("a history is a JSON list of noise, rate and steps", code="E_SPEND")
