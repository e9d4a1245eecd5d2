"""The gate: the only way out of a site. It fails closed: what it does not know does not leave.

Weights leave under exactly the keys, shapes and types of the model; numbers leave by name, in the range of their name, rounded, and only
with enough patients behind them; counts inside sums are the true ones, of classes with enough patients; a site with too few patients sends
nothing. Every release is written to the site's own record before it leaves.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from client.privacy.support import Support, few
from shared_models.core.arrays import State
from shared_models.core.errors import Refused
from shared_models.core.state import is_finite, size_bytes
from shared_models.messages import Update, signed_bytes
from shared_models.metrics import METRICS
from shared_models.metrics.survival import SURVIVAL_METRICS
from shared_models.patterns import PATTERNS
from shared_models.signing import sign

if TYPE_CHECKING:
    from client.site import Policy


@dataclass(frozen=True)
class Measured:
    """A number and the patients behind it: in all, and in the smallest class that is present (None when it is not per class)."""

    value: float | None
    cases: int
    smallest_class: int | None = None


RANGES: dict[str, tuple[float, float]] = {
    "train_loss": (0.0, 1000.0),
    "received_loss": (0.0, 1000.0),
    "val_loss": (0.0, 1000.0),
    "val_cases": (0.0, 1e7),
    "drawn_mean_error_hu": (0.0, 1e5),
    "drawn_sd_error": (0.0, 1e6),
    "drawn_pair_ssim": (-1.0, 1.0),
    "drawn_memory_ratio": (0.0, 1e6),
    "drawn_frechet": (0.0, 1e6),
    **{f"val_{name}": (-1.0, 1.0) for name in METRICS | SURVIVAL_METRICS},
    **{f"val_{name}": (0.0, 1.0) for name in ("dice", *(f"dice_{what}" for what in ("lung", *PATTERNS)))},
}
"""Every number that the house knows how to measure, and where it must lie. A site's policy may name others, which may be any number."""


def release_metrics(measured: dict[str, Measured], policy: Policy) -> dict[str, float]:
    """Return the numbers that may leave, rounded; those that the policy does not list or too few patients support are left out.

    Raises
    ------
    Refused
        E_METRIC: a number that nobody knows, or one that cannot be what its name says.

    Examples
    --------
    >>> from client.site import Policy
    >>> release_metrics({"val_loss": Measured(0.123456, 12), "val_auroc_macro": Measured(0.9, 12, 2)}, Policy())
    {'val_loss': 0.1235}
    """
    out = {}
    for name, number in measured.items():
        if name not in RANGES and name not in policy.metrics:
            raise Refused("only numbers that the site knows by name may leave", remedy="add the name to policy.metrics", code="E_METRIC")
        least = max(policy.min_cases, policy.support.get(name, 0))
        enough = number.cases >= least and (number.smallest_class is None or number.smallest_class >= policy.min_per_class)
        if name not in policy.metrics or not enough or number.value is None or not abs(number.value) < 1e12:
            continue
        low, high = RANGES.get(name, (-1e12, 1e12))
        if not low <= number.value <= high:
            raise Refused("a number lies where its name says that it can lie", code="E_METRIC")
        out[name] = round(float(number.value), policy.rounding.get(name, policy.decimals))
    return out


def release(
    update: Update,
    *,
    layout: State,
    policy: Policy,
    record: Path,
    key: bytes | None = None,
    support: Support | None = None,
    counts: Mapping[str, str] | None = None,
    most_steps: int | None = None,
    check: Callable[[State], None] | None = None,
    seal: Callable[[Update], Update] | None = None,
) -> Update:
    """Let `update` leave, signed, or refuse.

    Parameters
    ----------
    update : Update
        With metrics already passed through `release_metrics`.
    layout : State
        Arrays with the keys, shapes and types that may leave; an axis of length 0 stands for any length (trees).
    policy : Policy
        The site's.
    record : Path
        JSON lines of everything that ever left.
    key : bytes, optional
        The site's Ed25519 signing key; a simulated site has none.
    support : Support, optional
        Who was trained on; None where `update` carries noise instead.
    counts : mapping, optional
        Arrays that are numbers of records, as the model's `ModelSpec.counts` declares them.
    most_steps : int, optional
        Steps that the experiment asked for.
    check : callable, optional
        Raises when arrays of the right size tell of too few patients.
    seal : callable, optional
        Masks what was let through (secure sum); what it returns is what leaves.

    Raises
    ------
    Refused
        E_FEW_CASES, E_KEYS, E_POLICY_KEYS, E_VALUES or E_PAYLOAD; or what `check` raises.
    """
    summed = seal is not None
    least = policy.least_cases(summed=summed)
    if update.state and (update.num_cases < least or (support is not None and support.total < least)):
        raise few()
    if update.state and (update.state.keys() != layout.keys() or any(_differs(update.state[key], layout[key]) for key in layout)):
        raise Refused("only the model's own keys, shapes and types may leave", code="E_KEYS")
    if update.extra:
        raise Refused("this strategy sends no further arrays", code="E_KEYS")
    if not all(any(fnmatchcase(name, pattern) for pattern in policy.keys) for name in update.state):
        raise Refused("only arrays that the site lists may leave", remedy=f"allowed: {', '.join(policy.keys)}", code="E_POLICY_KEYS")
    if not is_finite(update.state) or not all(math.isfinite(value) for value in update.metrics.values()):
        raise Refused("only finite numbers may leave", code="E_VALUES")
    if most_steps is not None and not 0 <= update.steps <= most_steps:
        raise Refused("no more steps are counted than were asked for", code="E_VALUES")
    if support is not None:
        for name, what in (counts or {}).items():
            _check_counts(update.state[name], what, support, policy.least_per_class(summed=summed) if what == "class" else least)
    size = size_bytes(update.state)
    if size > policy.max_payload_mb * 1e6:
        raise Refused("an update must stay under the site's largest payload", value=size, code="E_PAYLOAD")
    if check is not None:
        check(update.state)
    update = seal(update) if seal else update
    write_down(update, record)
    return replace(update, signature=sign(key, signed_bytes(update))) if key else update


def _check_counts(counts: np.ndarray, what: str, support: Support, least: int) -> None:
    """Refuse counts that are not those of the records that trained, and counts of too few patients."""
    true, behind = (support.records, support.patients) if what == "class" else (support.records.sum(), np.array([support.total]))
    if ((counts > 0) & (np.minimum(counts, behind) < least)).any():
        raise few()
    if not np.array_equal(counts.reshape(-1), np.asarray(true).reshape(-1)):
        raise Refused("a number of patients is the number of patients that trained", code="E_VALUES")


def write_down(update: Update, record: Path, *, again: bool = False) -> None:
    """Append what leaves to the site's own record, before it leaves; `again` marks an answer that had left already."""
    line = {
        "time": round(time.time(), 3),
        "run": update.run,
        "round": update.round,
        "bytes": size_bytes(update.state) + size_bytes(update.extra),
        "keys": len(update.state),
        "num_cases": update.num_cases,
        "metrics": update.metrics,
        **({"again": True} if again else {}),
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _differs(array: np.ndarray, like: np.ndarray) -> bool:
    shapes_fit = array.ndim == like.ndim and all(wanted in (0, found) for found, wanted in zip(array.shape, like.shape, strict=True))
    return array.dtype != like.dtype or not shapes_fit
