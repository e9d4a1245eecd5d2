"""Personal models: how a site's own arrays and a received model make one, and those that a site keeps beside released models.

    <workspace>/personal/<digest>.safetensors      the site's model beside the global one of that digest, 0600

It is written when the run ends and the server asks for a judgement of what it releases, and never travels. The digest is that of the global
weights, so that nobody can take the personal model of one release for that of another.
"""

from __future__ import annotations

from pathlib import Path

from shared_models.core.arrays import State
from shared_models.core.errors import BadInput
from shared_models.core.files import read_state, write_state
from shared_models.core.state import digest, same_layout

PERSONAL, ALPHA = "personal", "alpha"
"""Parts of a site's memory: arrays of its own under ``personal/``, and their share where they are mixed with the global ones."""
KEPT = 8
"""Releases whose personal models stay."""


def own_model(kept: State, received: State) -> State | None:
    """Return the site's model: `received` with the arrays that are its own, or mixed with them; None when nothing is its own.

    Parameters
    ----------
    kept : State
        The site's memory.
    received : State
        The global model.

    Raises
    ------
    BadState
        The arrays are of another network.

    Examples
    --------
    >>> import numpy as np
    >>> own_model({"personal/w": np.ones(1), "alpha": np.array(0.25)}, {"w": np.array([5.0]), "b": np.zeros(1)})
    {'w': array([4.]), 'b': array([0.])}
    """
    own = {key.removeprefix(f"{PERSONAL}/"): value for key, value in kept.items() if key.startswith(f"{PERSONAL}/")}
    if not own:
        return None
    same_layout(own, {key: received[key] for key in own if key in received})
    share = float(kept.get(ALPHA, 1.0))
    if share == 1.0:
        return {**received, **own}
    return {key: (value + share * (own[key] - value)).astype(value.dtype) if key in own else value for key, value in received.items()}


def keep_beside(workspace: Path, received: State, kept: State) -> None:
    """Write the site's model beside the released one `received`; those of the oldest releases go."""
    own = own_model(kept, received)
    if own is None:
        return
    folder = workspace / "personal"
    write_state(folder / f"{digest(received)}.safetensors", own, mode=0o600)
    for path in sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        path.unlink()


def beside(workspace: Path, released: State) -> State:
    """Return the model that the site keeps beside a released one.

    Raises
    ------
    BadInput
        It keeps none.
    """
    path = workspace / "personal" / f"{digest(released)}.safetensors"
    if not path.exists():
        raise BadInput(
            "a site has a personal model beside a release that it helped to train with a personal strategy, and judged at the end",
            value=path.stem[:16],
            remedy="use the release itself",
        )
    own = read_state(path)
    same_layout(own, released)
    return own
