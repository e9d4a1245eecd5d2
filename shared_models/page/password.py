"""The password of a live page: one file, 0600, with a scrypt hash (RFC 7914) of it; the password itself is kept nowhere."""

from __future__ import annotations

import getpass
import hashlib
import hmac
import json
import os
import sys
import unicodedata
from pathlib import Path

from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import write_json
from shared_models.signing import read_private

FEWEST_CHARACTERS, MOST_CHARACTERS = 12, 256
COST = 15
"""Base-2 logarithm of scrypt's N: 32 MiB and about a third of a second for each guess."""
BLOCK, LANES = 8, 3
MEMORY_BYTES = 1 << 28


def password_file(folder: Path) -> Path:
    """Return where a server or site folder keeps the password of its page."""
    return folder / "secrets" / "page.password"


def write_password(path: Path, password: str, *, cost: int = COST) -> None:
    """Write the hash of a new password; an older one is replaced, and whoever came in by it has to come in again.

    Parameters
    ----------
    cost : int
        Base-2 logarithm of scrypt's N.

    Raises
    ------
    BadInput
        It is too short or too long.
    """
    if not FEWEST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise BadInput(
            f"a password has {FEWEST_CHARACTERS} to {MOST_CHARACTERS} characters", value=len(password), remedy="four words that are no sentence"
        )
    salt = os.urandom(16)
    write_json(path, {"scrypt": {"cost": cost, "salt": salt.hex(), "hash": _hash(password, salt, cost).hex()}}, mode=0o600)


def ask_password(path: Path) -> Path:
    """Ask for a new password, twice at a terminal, once from standard input without one; write its hash and return the path.

    Raises
    ------
    BadInput
        Two different ones, or one that is too short or too long.
    """
    if sys.stdin.isatty():
        password = getpass.getpass("New password of the page: ")
        if password != getpass.getpass("Once more: "):
            raise BadInput("both times the password must be the same", remedy="try again")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    write_password(path, password)
    return path


def is_password(path: Path, password: str) -> bool:
    """Say whether `password` is the one of the file.

    Raises
    ------
    Refused
        E_KEY_FILE: the file is missing, damaged, or others may read it.
    """
    try:
        kept = json.loads(read_private(path))["scrypt"]
        cost, salt, wanted = int(kept["cost"]), bytes.fromhex(kept["salt"]), bytes.fromhex(kept["hash"])
        if not 8 <= cost <= 18:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise Refused("the password file of the page is damaged", remedy="make a new one with `page-password`", code="E_KEY_FILE") from None
    return len(password) <= MOST_CHARACTERS and hmac.compare_digest(_hash(password, salt, cost), wanted)


def _hash(password: str, salt: bytes, cost: int) -> bytes:
    text = unicodedata.normalize("NFKC", password).encode()
    return hashlib.scrypt(text, salt=salt, n=1 << cost, r=BLOCK, p=LANES, maxmem=MEMORY_BYTES, dklen=32)
