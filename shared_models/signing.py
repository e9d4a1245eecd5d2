"""Private key files that only their owner may read, and Ed25519 signatures (RFC 8032) as hexadecimal text."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import write_atomic

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def write_private(path: Path, data: bytes) -> None:
    """Write a new secret, 0600.

    Raises
    ------
    BadInput
        The file exists: a key is never overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        raise BadInput("a key is never overwritten", value=path.name, remedy="move the old one away first, if it is really to be replaced")
    write_atomic(path, data, mode=0o600)


def read_private(path: Path) -> bytes:
    """Read a secret.

    Raises
    ------
    Refused
        E_KEY_FILE: it is missing, or others than its owner may read it.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        raise Refused(f"the key file {path.name} must be there", remedy="`init` makes it", code="E_KEY_FILE") from None
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise Refused(
            f"the key file {path.name} is for its owner alone",
            value=oct(mode & 0o777),
            remedy=f"chmod 600 {path.name}; if others could read it, make a new one",
            code="E_KEY_FILE",
        )
    return path.read_bytes()


def new_signing_key(path: Path) -> str:
    """Make an Ed25519 key at `path` (0600, raw 32 bytes as hex) and return its public half as hex."""
    secret = os.urandom(32)
    write_private(path, secret.hex().encode() + b"\n")
    return public_half(secret)


def signing_key(path: Path) -> bytes:
    """Read the 32 secret bytes that `new_signing_key` wrote.

    Raises
    ------
    Refused
        E_KEY_FILE: missing, open to others or damaged.
    """
    try:
        secret = bytes.fromhex(read_private(path).decode("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise Refused(f"the key file {path.name} must hold 64 hexadecimal digits", remedy="restore it", code="E_KEY_FILE")
    return secret


def private_key(secret: bytes) -> Ed25519PrivateKey:
    """Return the library's form of an Ed25519 key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(secret)


def public_half(secret: bytes) -> str:
    """Return the public half of an Ed25519 key as hex.

    Examples
    --------
    RFC 8032, section 7.1, test 1:

    >>> public_half(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'
    """
    return private_key(secret).public_key().public_bytes_raw().hex()


def sign(secret: bytes, data: bytes) -> str:
    """Return the Ed25519 signature (RFC 8032) of `data` as hex.

    Examples
    --------
    >>> verifies(public_half(b"k" * 32), b"text", sign(b"k" * 32, b"text"))
    True
    """
    return private_key(secret).sign(data).hex()


def verifies(public: str, data: bytes, signature: str) -> bool:
    """Return whether `signature` (hex) is that of `data` under the public key (hex); False for anything malformed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError):
        return False
    return True
