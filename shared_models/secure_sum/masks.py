"""Masks: streams of AES-256 in counter mode, from seeds that two sites share (X25519, RFC 7748; HKDF-SHA256, RFC 5869) or one site keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import Refused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

BLOCK = 1 << 18
"""Bytes of a stream that are made and added at a time: they stay in the processor's cache."""

_ZEROS = bytes(BLOCK)


def public_key(secret: bytes) -> bytes:
    """Return the public half of an X25519 key: 32 bytes from 32."""
    return _private(secret).public_key().public_bytes_raw()


def agreed_key(secret: bytes, public: bytes, purpose: str) -> bytes:
    """Return the 32 bytes that the owners of two keys have in common for `purpose`; either end gives the same.

    Raises
    ------
    Refused
        E_MASK_KEYS: a public key of low order, whose shared secret everybody knows.

    Examples
    --------
    >>> a, b = b"a" * 32, b"b" * 32
    >>> agreed_key(a, public_key(b), "mask") == agreed_key(b, public_key(a), "mask") != agreed_key(a, public_key(b), "seal")
    True
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    try:
        shared = _private(secret).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Refused("a public key must be one of X25519 and not of low order", code="E_MASK_KEYS") from None
    return derived(shared, purpose)


def derived(secret: bytes, purpose: str) -> bytes:
    """Return 32 bytes made from `secret` for one purpose alone (HKDF-SHA256)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length=32, salt=None, info=f"fedild secure sum: {purpose}".encode()).derive(secret)


def apply_mask(words: State, seed: bytes, sign: Literal[1, -1]) -> None:
    """Add (1) or subtract (-1) the stream of `seed`, in place, to arrays of uint32 and uint64, in the order of their names.

    A seed is used for one message: its counter always begins at 0.

    Examples
    --------
    >>> words = {"a": np.arange(5, dtype=np.uint32), "b": np.arange(3, dtype=np.uint64)}
    >>> apply_mask(words, b"s" * 32, 1)
    >>> bool((words["a"] == np.arange(5)).any())
    False
    >>> apply_mask(words, b"s" * 32, -1)
    >>> words["a"]
    array([0, 1, 2, 3, 4], dtype=uint32)
    """
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    stream = Cipher(AES(seed), CTR(bytes(16))).encryptor()
    buffer = bytearray(BLOCK)
    act = np.add if sign > 0 else np.subtract
    for _, array in sorted(words.items()):
        flat = array.reshape(-1, copy=False)  # type: ignore[call-overload]
        per_block = BLOCK // flat.itemsize
        block = np.frombuffer(buffer, flat.dtype.newbyteorder("<"))
        for start in range(0, flat.size, per_block):
            part = flat[start : start + per_block]
            stream.update_into(_ZEROS[: part.nbytes], buffer)
            act(part, block[: part.size], out=part)


def _private(secret: bytes) -> X25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(secret)
