"""Randomness that nobody can foresee: what decides who is drawn and what hides them comes from a cipher keyed by the operating system.

PyTorch's and numpy's generators are made for speed: a few hundred outputs give their state away, and a seed can be tried out. Here AES-256
in counter mode (NIST SP 800-38A) is the source, and its key never leaves the site.
"""

from __future__ import annotations

import math
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from shared_models.core.arrays import State

BLOCK = 16
"""Bytes of one AES block."""


class SecretRandom:
    """A stream of random numbers.

    Parameters
    ----------
    key : bytes, optional
        32 bytes; by default from the operating system, a new one for every stream. Only a test or a resumed round gives one.

    Examples
    --------
    >>> one, two = SecretRandom(bytes(32)), SecretRandom(bytes(32))
    >>> bool((one.normal(5) == two.normal(5)).all()), bool((one.normal(5) == one.normal(5)).all())
    (True, False)
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = os.urandom(32) if key is None else key
        self._used = 0

    def uniform(self, count: int) -> np.ndarray:
        """Return `count` float64 numbers evenly in (0, 1], 53 bits each."""
        return ((self._words(count) >> np.uint64(11)) + np.uint64(1)) * 2.0**-53

    def normal(self, count: int) -> np.ndarray:
        """Return `count` float64 numbers of the standard normal distribution (Box & Muller, Ann Math Statist 29(2), 1958).

        With 53 bits of radius the tails reach 8.6 standard deviations.
        """
        pairs = math.ceil(count / 2)
        even = self.uniform(2 * pairs)
        radius = np.sqrt(-2 * np.log(even[:pairs]))
        angle = (2 * np.pi) * even[pairs:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]

    def state(self) -> State:
        """Return key and position: for a step checkpoint, which only the site can read."""
        return {"key": np.frombuffer(self._key, np.uint8).copy(), "used": np.array(self._used, np.int64)}

    def load(self, state: State) -> None:
        """Go on from where `state` was taken."""
        self._key, self._used = state["key"].tobytes(), int(state["used"])

    def _words(self, count: int) -> np.ndarray:
        stream = Cipher(algorithms.AES(self._key), modes.CTR(self._used.to_bytes(BLOCK, "big"))).encryptor()
        self._used += math.ceil(8 * count / BLOCK)
        return np.frombuffer(stream.update(bytes(8 * count)), np.uint64)
