"""Arithmetic on model states (`dict[str, ndarray]`). Plain functions; no state is changed in place unless the name says so."""

from __future__ import annotations

import hashlib

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadState

_BLOCK = 1 << 20
"""Values that are summed in float64 at a time."""


def same_layout(state: State, like: State) -> None:
    """Check that `state` has the keys, shapes and types of `like`.

    Raises
    ------
    BadState
        Naming the first key that differs.
    """
    missing, extra = sorted(like.keys() - state.keys()), sorted(state.keys() - like.keys())
    if missing or extra:
        raise BadState("two states must have the same keys", value={"missing": missing[:3], "extra": extra[:3]})
    for key, array in like.items():
        if state[key].shape != array.shape or state[key].dtype != array.dtype:
            raise BadState(f"{key!r} must be {array.dtype}{list(array.shape)}", value=f"{state[key].dtype}{list(state[key].shape)}")


def add(a: State, b: State) -> State:
    """Return ``a + b`` key by key.

    Examples
    --------
    >>> add({"w": np.array([1.0])}, {"w": np.array([2.0])})
    {'w': array([3.])}
    """
    same_layout(b, a)
    return {key: a[key] + b[key] for key in a}


def subtract(a: State, b: State) -> State:
    """Return ``a - b`` key by key."""
    same_layout(b, a)
    return {key: a[key] - b[key] for key in a}


def scale(a: State, factor: float) -> State:
    """Return ``factor * a`` with the types of `a`."""
    return {key: (value * factor).astype(value.dtype) for key, value in a.items()}


def norm(a: State) -> float:
    """Return the Euclidean norm over all floating-point keys, summed in float64.

    Examples
    --------
    >>> norm({"w": np.array([3.0, 4.0])})
    5.0
    """
    return float(np.sqrt(sum(_square(a[key]) for key in sorted(a) if a[key].dtype.kind == "f")))


def distance(a: State, b: State) -> float:
    """Return ``norm(subtract(a, b))`` at the memory of a few blocks, not of a whole state.

    Examples
    --------
    >>> distance({"w": np.array([3.0, 5.0])}, {"w": np.array([0.0, 1.0])})
    5.0
    """
    same_layout(b, a)
    return float(np.sqrt(sum(_square(a[key], b[key]) for key in sorted(a) if a[key].dtype.kind == "f")))


def _square(value: np.ndarray, less: np.ndarray | None = None) -> float:
    total, flat = 0.0, value.reshape(-1)
    other = None if less is None else less.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.float64)
        if other is not None:
            block -= other[start : start + _BLOCK]
        total += float(np.vdot(block, block))
    return total


def is_finite(a: State) -> bool:
    """Return whether no floating-point value is NaN or infinite."""
    return all(bool(np.isfinite(v).all()) for v in a.values() if v.dtype.kind == "f")


def size_bytes(a: State) -> int:
    """Return the bytes of all arrays."""
    return sum(v.nbytes for v in a.values())


def digest(a: State) -> str:
    """Return a SHA-256 over keys, types, shapes and bits: equal exactly when the states are bit-equal."""
    h = hashlib.sha256()
    for key in sorted(a):
        value = np.asarray(a[key], order="C")
        h.update(f"{key}|{value.dtype.str}|{value.shape}|".encode())
        h.update(value.reshape(-1).view(np.uint8).data)
    return h.hexdigest()
