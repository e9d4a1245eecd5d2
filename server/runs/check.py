"""The update check: what a site sent is looked at before it can touch the sum. One bad site never spoils a federation.

Each refusal is a fixed code, so that it can be shown, counted and logged:

    E_ROUND      another run or round than the one asked for (stale, future, replayed)
    E_LAYOUT     other keys, shapes or types than the global model's
    E_VALUES     NaN or infinite values
    E_NORM       a change larger than the experiment allows
    E_WEIGHT     a number of patients or steps that cannot be
    E_CONTENT    a message that is not an update at all
    E_SITE       a name that is not the registered one
"""

from __future__ import annotations

import numpy as np

from shared_models.blocks.spec import Classical
from shared_models.core.arrays import State
from shared_models.core.errors import BadState, Refused
from shared_models.core.state import is_finite, same_layout
from shared_models.messages import Update

MOST_CASES = 1_000_000


def check_update(update: Update, *, run: str, round: int, site: str, current: State, model: Classical | None, max_norm: float) -> float:
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

    Raises
    ------
    Refused
        With one of the codes above.
    """
    if update.run != run or update.round != round:
        raise Refused("an update answers the round that was asked for", value=(update.run, update.round), code="E_ROUND")
    if update.site != site:
        raise Refused("a site answers under its registered name", value=update.site, code="E_SITE")
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
    change = _change_norm(update.state, current)
    if not change <= max_norm:
        raise Refused("an update stays within the agreed norm", value=change, code="E_NORM")
    return change


def _change_norm(state: State, current: State) -> float:
    total = 0.0
    for key, value in sorted(state.items()):
        if value.dtype.kind == "f":
            with np.errstate(over="ignore"):  # too large for its type is infinite, and so refused
                difference = np.subtract(value, current[key], dtype=np.float64 if value.dtype.itemsize > 4 else np.float32)
                total += float(np.vdot(difference, difference))
    return total**0.5
