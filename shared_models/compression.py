"""COMPRESSIONS: how the change that a site sends is packed for a slow link. Adding one is a function and a line in the table.

What is packed is the *change*: the site's weights less the global weights that both ends hold. `pack` and `unpack` are pure functions on
states; what a lossy packing left out is the *residual*, which the site keeps on its own disk and adds to its next change (error feedback,
Karimireddy et al., ICML 2019), so that nothing is lost for good. Keys that are not floating-point (counters) always travel whole.

The names of packed arrays say what they are: ``value/KEY``, ``scale/KEY``, ``index/KEY`` and, for what travels whole, ``whole/KEY``.

    name    bytes a float32 value    error of a value x
    none    4                        none
    fp16    2                        2^-11 |x|, or 2^-25 of the array's largest
    int8    1 + 4 / block            the block's largest / 254
    top_k   8 keep                   what is left out: at most (1 - keep) of the squared norm
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.core.arrays import State
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadState
from shared_models.core.state import add, same_layout, subtract


@dataclass(frozen=True)
class Compression:
    """One configured packing of single arrays.

    Parameters
    ----------
    pack : callable
        ``pack(change) -> parts``: a flat floating-point array of at least one value gives named arrays (``value``, ``scale``, ``index``).
    unpack : callable
        ``unpack(parts, size) -> change`` in float64 or float32, flat, of that size.
    layout : callable
        ``layout(size, dtype) -> parts``: arrays of the shapes and types that `pack` gives for a flat array of that size.
    """

    pack: Callable[[np.ndarray], State]
    unpack: Callable[[State, int], np.ndarray]
    layout: Callable[[int, np.dtype], State]


def none() -> None:
    """Send the weights as they are."""
    return


def fp16() -> Compression:
    """Send each array's change in half precision, scaled by a power of two so that no value overflows and few underflow."""

    def pack(change: np.ndarray) -> State:
        largest = float(np.max(np.abs(change)))
        scale = np.float32(np.exp2(np.floor(np.log2(largest)))) if largest >= 1e-30 else np.float32(1)
        return {"value": (change / scale).astype(np.float16), "scale": np.array([scale], np.float32)}

    def unpack(parts: State, size: int) -> np.ndarray:
        del size
        return parts["value"].astype(np.float32) * parts["scale"]

    def layout(size: int, dtype: np.dtype) -> State:
        del dtype
        return {"value": np.empty(size, np.float16), "scale": np.empty(1, np.float32)}

    return Compression(pack, unpack, layout)


def int8(*, block: Annotated[int, Field(ge=16, le=1 << 20)] = 512) -> Compression:
    """Send each block of values as whole numbers from -127 to 127 and one scale (Alistarh et al., NeurIPS 2017, without the dice).

    Rounding is to the nearest number, not at random: the same run gives the same bits, and error feedback takes care of the bias.
    """

    def pack(change: np.ndarray) -> State:
        blocks = _blocks(change, block)
        scale = (np.max(np.abs(blocks), axis=1) / 127).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = np.where(scale[:, None] > 0, np.rint(blocks / scale[:, None]), 0)
            return {"value": np.clip(value, -127, 127).astype(np.int8).reshape(-1)[: change.size], "scale": scale}

    def unpack(parts: State, size: int) -> np.ndarray:
        return (_blocks(parts["value"], block).astype(np.float32) * parts["scale"][:, None]).reshape(-1)[:size]

    def layout(size: int, dtype: np.dtype) -> State:
        del dtype
        return {"value": np.empty(size, np.int8), "scale": np.empty(-(-size // block), np.float32)}

    return Compression(pack, unpack, layout)


def top_k(*, keep: Annotated[float, Field(gt=0, le=1)] = 0.1) -> Compression:
    """Send the share `keep` of each array's values, those of largest magnitude, with their places (Stich et al., NeurIPS 2018)."""

    def count(size: int) -> int:
        return min(size, max(1, int(np.ceil(keep * size))))

    def pack(change: np.ndarray) -> State:
        chosen = np.argsort(-np.abs(change), kind="stable")[: count(change.size)]  # stable: equal values give the same choice everywhere
        index = np.sort(chosen)
        return {"value": change[index].astype(np.float32), "index": index.astype(np.int32)}

    def unpack(parts: State, size: int) -> np.ndarray:
        index = parts["index"]
        if index.size and (index[0] < 0 or index[-1] >= size or bool((np.diff(index) <= 0).any())):
            raise BadState("places must rise and lie within their array", value=int(index.size))
        change = np.zeros(size, np.float32)
        change[index] = parts["value"]
        return change

    def layout(size: int, dtype: np.dtype) -> State:
        del dtype
        return {"value": np.empty(count(size), np.float32), "index": np.empty(count(size), np.int32)}

    return Compression(pack, unpack, layout)


COMPRESSIONS: dict[str, Callable[..., Compression | None]] = {"none": none, "fp16": fp16, "int8": int8, "top_k": top_k}


def compression_of(choice: Choice) -> Compression | None:
    """Return the configured packing, None for ``none``.

    Raises
    ------
    BadChoice
        Unknown name or knob.
    """
    return pick(COMPRESSIONS, choice, kind="compression")()


def compress(state: State, current: State, residual: State, compression: Compression) -> tuple[State, State]:
    """Pack the change from `current` to `state` and return ``(packed, residual)``.

    Parameters
    ----------
    state, current : State
        The site's weights and the global ones, of one layout.
    residual : State
        What earlier rounds left out, by floating-point key; empty before the first.
    compression : Compression
        From `compression_of`.

    Examples
    --------
    >>> current, state = {"w": np.zeros(4, np.float32)}, {"w": np.array([4, -8, 1, 0], np.float32)}
    >>> packed, left = compress(state, current, {}, top_k(keep=0.5))
    >>> packed["value/w"], packed["index/w"], left["w"]
    (array([ 4., -8.], dtype=float32), array([0, 1], dtype=int32), array([0., 0., 1., 0.], dtype=float32))
    >>> decompress(packed, current, top_k(keep=0.5))["w"]
    array([ 4., -8.,  0.,  0.], dtype=float32)
    """
    same_layout(state, current)
    floats = {key: value for key, value in state.items() if _is_packed(value)}
    change = subtract(floats, {key: current[key] for key in floats})
    if residual:
        change = add(change, residual)
    packed, left = {f"whole/{key}": value for key, value in state.items() if key not in floats}, {}
    for key, value in change.items():
        flat = value.reshape(-1)
        parts = compression.pack(flat)
        left[key] = (flat - compression.unpack(parts, flat.size)).astype(value.dtype).reshape(value.shape)
        packed |= {f"{part}/{key}": array for part, array in parts.items()}
    return packed, left


def decompress(packed: State, current: State, compression: Compression) -> State:
    """Return the state that `packed` stands for, with the layout of `current`.

    Raises
    ------
    BadState
        Other arrays than `compress` gives, or places outside an array.
    """
    same_layout(packed, packed_layout(current, compression))
    state = {}
    for key, value in current.items():
        if not _is_packed(value):
            state[key] = packed[f"whole/{key}"]
            continue
        parts = {part: packed[f"{part}/{key}"] for part in ("value", "scale", "index") if f"{part}/{key}" in packed}
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by the update check
            state[key] = (value.reshape(-1) + compression.unpack(parts, value.size)).astype(value.dtype).reshape(value.shape)
    return state


def packed_layout(current: State, compression: Compression) -> State:
    """Return arrays of the keys, shapes and types that a packed update of `current` has; their values mean nothing."""
    layout = {}
    for key, value in current.items():
        if _is_packed(value):
            layout |= {f"{part}/{key}": array for part, array in compression.layout(value.size, value.dtype).items()}
        else:
            layout[f"whole/{key}"] = value
    return layout


def _is_packed(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" and value.size > 0


def _blocks(flat: np.ndarray, block: int) -> np.ndarray:
    return np.pad(flat, (0, -flat.size % block)).reshape(-1, block)
