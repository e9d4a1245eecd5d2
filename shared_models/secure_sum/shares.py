"""Shares of a secret after Shamir (Commun. ACM 1979, over GF(2^128), by pycryptodome), and boxes that only one peer opens (RFC 8439)."""

from __future__ import annotations

import os

SECRET_BYTES = 32
SEALED_BYTES = 12 + SECRET_BYTES + 16
"""Nonce, share, tag."""


def split(secret: bytes, *, threshold: int, sites: int) -> list[bytes]:
    """Return one share of 32 bytes for each site, in their order: any `threshold` of them give the secret, fewer tell nothing about it.

    Examples
    --------
    >>> parts = split(b"s" * 32, threshold=3, sites=5)
    >>> combine({0: parts[0], 2: parts[2], 4: parts[4]}) == b"s" * 32
    True
    >>> combine({0: parts[0], 2: parts[2]}) == b"s" * 32
    False
    """
    from Crypto.Protocol.SecretSharing import Shamir

    halves = [Shamir.split(threshold, sites, secret[at : at + 16], False) for at in (0, 16)]
    return [first + second for (_, first), (_, second) in zip(*halves, strict=True)]


def combine(parts: dict[int, bytes]) -> bytes:
    """Return the secret from shares by their site's place, as many as the threshold was; from others comes another secret."""
    from Crypto.Protocol.SecretSharing import Shamir

    return b"".join(Shamir.combine([(place + 1, part[at : at + 16]) for place, part in sorted(parts.items())], False) for at in (0, 16))


def seal(share: bytes, key: bytes, context: str) -> bytes:
    """Return `share` in a box of `SEALED_BYTES` for the owner of the agreed `key`; it opens only under the same `context`."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    nonce = os.urandom(12)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, share, context.encode())


def unseal(box: bytes, key: bytes, context: str) -> bytes | None:
    """Return what is in a box, or None when it was made by another, for another or for another purpose.

    Examples
    --------
    >>> box = seal(b"s" * 32, b"k" * 32, "slot 1")
    >>> unseal(box, b"k" * 32, "slot 1") == b"s" * 32, unseal(box, b"k" * 32, "slot 2")
    (True, None)
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    try:
        return ChaCha20Poly1305(key).decrypt(box[:12], box[12:], context.encode())
    except (InvalidTag, ValueError):
        return None
