"""The gate: the only way out of a site. It fails closed: what it does not know does not leave.

Weights leave under exactly the keys, shapes and types of the model; numbers leave by name, rounded, and only with enough patients behind
them; a site with too few patients sends nothing. Every release is written to the site's own record before it leaves.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared_models.core.arrays import State
from shared_models.core.errors import Refused
from shared_models.core.state import is_finite, size_bytes
from shared_models.messages import Update, signed_bytes
from shared_models.signing import sign

if TYPE_CHECKING:
    import numpy as np

    from client.site import Policy


@dataclass(frozen=True)
class Measured:
    """A number and the patients behind it: in all, and in the smallest class that is present (None when it is not per class)."""

    value: float | None
    cases: int
    smallest_class: int | None = None


def release_metrics(measured: dict[str, Measured], policy: Policy) -> dict[str, float]:
    """Return the numbers that may leave, rounded; the others are left out without a trace of why.

    Examples
    --------
    >>> from client.site import Policy
    >>> release_metrics({"val_loss": Measured(0.123456, 12), "val_auroc_macro": Measured(0.9, 12, 2), "age": Measured(61, 99)}, Policy())
    {'val_loss': 0.1235}
    """
    out = {}
    for name, number in measured.items():
        enough = number.cases >= policy.min_cases and (number.smallest_class is None or number.smallest_class >= policy.min_per_class)
        if name in policy.metrics and enough and number.value is not None and abs(number.value) < 1e12:
            out[name] = round(float(number.value), policy.decimals)
    return out


def release(
    update: Update,
    *,
    layout: State,
    policy: Policy,
    record: Path,
    key: bytes | None = None,
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
    seal : callable, optional
        Masks what was let through (secure sum); what it returns is what leaves.

    Raises
    ------
    Refused
        E_FEW_CASES, E_KEYS, E_VALUES or E_PAYLOAD.
    """
    if update.state and update.num_cases < policy.min_cases:
        raise Refused("a site with too few patients sends no model", remedy="take part with more patients", code="E_FEW_CASES")
    if update.state and (update.state.keys() != layout.keys() or any(_differs(update.state[key], layout[key]) for key in layout)):
        raise Refused("only the model's own keys, shapes and types may leave", code="E_KEYS")
    if update.extra:
        raise Refused("this strategy sends no further arrays", code="E_KEYS")
    if not is_finite(update.state):
        raise Refused("only finite numbers may leave", code="E_VALUES")
    size = size_bytes(update.state)
    if size > policy.max_payload_mb * 1e6:
        raise Refused("an update must stay under the site's largest payload", value=size, code="E_PAYLOAD")
    update = seal(update) if seal else update
    write_down(update, record)
    return replace(update, signature=sign(key, signed_bytes(update))) if key else update


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
