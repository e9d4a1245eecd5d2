"""What lossy compression left out of a site's updates, kept on the site's own disk until it is sent: error feedback.

    <workspace>/residual/<run>.<experiment>-<round>.safetensors      what is still owed after that round

The state before a round stays until the next one is done, so that a round which is asked again gives the same bits.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from shared_models.compression import Compression, compress
from shared_models.core.arrays import State
from shared_models.core.errors import Refused
from shared_models.core.files import read_state, write_state
from shared_models.core.state import is_finite


def pack_update(state: State, current: State, compression: Compression, *, workspace: Path, run: str, round: int) -> State:
    """Return `state` packed for the wire, and keep on disk what was left out.

    Parameters
    ----------
    state, current : State
        The site's new weights and the global ones that it started from.
    compression : Compression
        The experiment's.
    workspace : Path
        The site's folder.
    run, round : str, int
        What is answered; the run with its experiment, so that nothing left over without noise is sent by a private experiment.

    Raises
    ------
    Refused
        E_VALUES: what is not finite would stay in the residual for ever.
    """
    if not is_finite(state):
        raise Refused("an update holds finite numbers", code="E_VALUES")
    kept = _kept(workspace / "residual", run)
    before = [number for number in kept if number < round]
    residual = read_state(kept[max(before)]) if before else {}
    if residual:  # another stage may have trained other arrays: nothing is owed of those, and what rests now is never sent
        residual = {key: residual.get(key, np.zeros_like(value)) for key, value in current.items() if value.dtype.kind == "f" and value.size}
    packed, left = compress(state, current, residual, compression)
    write_state(workspace / "residual" / f"{run}-{round:06d}.safetensors", left, durable=False)
    for number, path in kept.items():
        if number > round or (before and number < max(before)):
            path.unlink()
    return packed


def _kept(folder: Path, run: str) -> dict[int, Path]:
    """Return the residuals of `run` by round; those of other runs are no longer owed to anybody and are removed."""
    found = {}
    for path in folder.glob("*"):  # also what a killed process had begun to write
        match = re.fullmatch(r"(.+)-(\d+)", path.stem)
        if match and match[1] == run and path.suffix == ".safetensors":
            found[int(match[2])] = path
        else:
            path.unlink()
    return found
