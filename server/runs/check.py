"""The update check: what a site sent is looked at before it can touch the sum. One bad site never spoils a federation.

Each refusal is a fixed code, so that it can be shown, counted and logged:

    E_ROUND      another run or round than the one asked for (stale, future, replayed)
    E_LAYOUT     other keys, shapes or types than the global model's
    E_VALUES     NaN or infinite values
    E_NORM       a change larger than the experiment allows
    E_WEIGHT     a number of patients or steps that cannot be
    E_CONTENT    a message that is not an update at all
    E_SITE       a name that is not the registered one
    E_SIGNATURE  not signed with the site's registered signing key
    E_METRIC     without a number that the strategy needs of every site
    E_SUM        part of a secure sum whose total cannot be (`server/runs/secure`)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shared_models.blocks.spec import Classical
from shared_models.compression import Compression, decompress
from shared_models.core.arrays import State
from shared_models.core.errors import BadState, Refused
from shared_models.core.state import distance, is_finite, same_layout
from shared_models.messages import Update, signed_bytes
from shared_models.signing import verifies

MOST_CASES = 1_000_000
REJECTIONS = frozenset({"E_ROUND", "E_LAYOUT", "E_VALUES", "E_NORM", "E_WEIGHT", "E_SITE", "E_SIGNATURE", "E_SUM", "E_METRIC"})
"""Codes of updates that came and were rejected. E_CONTENT is not among them: a process that died gives it too."""


def check_update(
    update: Update, *, run: str, round: int, site: str, current: State, model: Classical | None, max_norm: float, key: str | None = None
) -> float:
    """Return the norm of the change that `update` brings, or refuse it.

    Parameters
    ----------
    update : Update
        As it came in.
    run, round, site : str, int, str
        What was asked of whom.
    current : State
        Global state that was sent out.
    model : Classical or None
        Checks contributions of models without gradients; None compares with `current`.
    max_norm : float
        Largest Euclidean norm of the change.
    key : str, optional
        The site's registered Ed25519 public key as hexadecimal; None where sites have none (simulation).

    Raises
    ------
    Refused
        With one of the codes above.
    """
    check_sender(update, run=run, round=round, site=site, key=key)
    return check_content(update, current=current, model=model, max_norm=max_norm)


def check_sender(update: Update, *, run: str, round: int, site: str, key: str | None = None) -> None:
    """Refuse an update that answers another question, bears another name or is not signed; its arrays are as they travelled."""
    if update.run != run or update.round != round:
        raise Refused("an update answers the round that was asked for", value=(update.run, update.round), code="E_ROUND")
    if update.site != site:
        raise Refused("a site answers under its registered name", value=update.site, code="E_SITE")
    if key is not None and not verifies(key, signed_bytes(update), update.signature):
        raise Refused("an update is signed by its site", code="E_SIGNATURE")


def check_content(update: Update, *, current: State, model: Classical | None, max_norm: float) -> float:
    """Return the norm of the change, or refuse numbers that cannot be; a packed update has been unpacked (`open_update`)."""
    if not (1 <= update.num_cases <= MOST_CASES and 0 <= update.steps <= 10_000_000):
        raise Refused("an update stands for at least one patient", value=(update.num_cases, update.steps), code="E_WEIGHT")
    try:
        if model is None:
            same_layout(update.state, current)
        else:
            model.check(update.state, current)
    except BadState:
        raise Refused("an update has the layout of the global model", code="E_LAYOUT") from None
    if not is_finite(update.state) or not is_finite(update.extra):
        raise Refused("an update holds finite numbers", code="E_VALUES")
    if model is not None:
        return 0.0
    with np.errstate(over="ignore"):  # too large for its type is infinite, and so refused
        change = distance(update.state, current)
    if not change <= max_norm:
        raise Refused("an update stays within the agreed norm", value=change, code="E_NORM")
    return change


def open_update(update: Update, current: State, compression: Compression | None) -> Update:
    """Return `update` with its arrays unpacked; as it is without a compression.

    Raises
    ------
    Refused
        E_LAYOUT when the arrays are not what the compression gives.
    """
    if compression is None:
        return update
    try:
        return replace(update, state=decompress(update.state, current, compression))
    except BadState:
        raise Refused("an update is packed as the experiment says", code="E_LAYOUT") from None
