"""A group of sites that sum together: its public keys, its threshold, and the words that its sites sign."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadInput
from shared_models.core.files import canonical_json, sha256
from shared_models.messages import Update, signed_bytes

LEAST_SITES = 3
"""In the sum of two sites each of them reads the other's part."""

MOST_AHEAD = 64
"""Rounds that one exchange of keys may serve at most."""


def threshold_of(sites: int, share: float | None) -> int:
    """Return how many of `sites` must help to unmask: a strict majority, or the larger `share` of them.

    Above half, two sets of helpers always have a site in common; with c sites that work with the server it must be above ``(sites + c) / 2``.

    Examples
    --------
    >>> [threshold_of(n, None) for n in (3, 4, 5, 6)], threshold_of(6, 0.8)
    ([2, 3, 3, 4], 5)
    """
    return max(sites // 2 + 1, 0 if share is None else min(sites, int(np.ceil(share * sites - 1e-9))))


@dataclass(frozen=True)
class Advert:
    """A site's public keys: one X25519 key for each coming round's masks, one to which shares are sealed; and its signature of them."""

    masks: tuple[bytes, ...]
    seal: bytes
    signature: str = ""

    def arrays(self) -> State:
        """Return the keys as arrays of bytes, as they travel and as they are signed."""
        return {"mask": _bytes(b"".join(self.masks)).reshape(-1, 32), "seal": _bytes(self.seal)}

    @staticmethod
    def read(masks: np.ndarray | None, seal: np.ndarray | None, signature: str) -> Advert:
        """Read what `arrays` gave.

        Raises
        ------
        BadInput
            Arrays of another form.
        """
        good = (
            masks is not None
            and seal is not None
            and masks.dtype == seal.dtype == np.uint8
            and masks.ndim == 2
            and 1 <= len(masks) <= MOST_AHEAD
            and masks.shape[1:] == seal.shape == (32,)
        )
        if not good or masks is None or seal is None:
            raise BadInput("public keys are arrays of 32 bytes each")
        return Advert(tuple(row.tobytes() for row in masks), seal.tobytes(), signature)


def advert_bytes(advert: Advert, *, run: str, round: int, site: str, group: str) -> bytes:
    """Return what a site signs when it offers its keys: they hold for one group of one run."""
    return signed_bytes(Update(run=run, round=round, site=site, extra={**advert.arrays(), "group": word_array(group)}))


def agreement_bytes(statement: str, *, run: str, round: int, site: str) -> bytes:
    """Return what a site signs when it agrees to a list of survivors."""
    return signed_bytes(Update(run=run, round=round, site=site, extra={"agreed": word_array(statement)}))


def group_digest(adverts: Mapping[str, Advert], *, run: str, group: str, threshold: int) -> str:
    """Return a SHA-256 over all that the members of a group must see alike; it enters every seed and every box.

    So sites that were shown other keys, other members or another threshold neither share masks nor open each other's shares.
    """
    keys = {site: [*(key.hex() for key in one.masks), one.seal.hex()] for site, one in adverts.items()}
    return sha256(canonical_json({"run": run, "group": group, "threshold": threshold, "keys": keys}).encode())


def mask_purpose(digest: str, *, slot: int, sites: Sequence[str]) -> str:
    """Return the purpose of the seed that two sites share in one round: sites that were named other members share none."""
    return f"mask {digest} {slot} {sha256(canonical_json(sorted(sites)).encode())}"


def box_context(digest: str, *, kind: str, slot: int, sender: str, receiver: str) -> str:
    """Return to what a sealed share is bound: a share of a key never opens as one of an own mask."""
    return canonical_json([digest, kind, slot, sender, receiver])


def statement_of(digest: str, *, slot: int, sites: Sequence[str], alive: Sequence[str]) -> str:
    """Return the SHA-256 that stands for *in this round these members sent an update and these have answered*."""
    return sha256(canonical_json(["alive", digest, slot, sorted(sites), sorted(alive)]).encode())


def self_mask_check(seed: bytes) -> bytes:
    """Return a digest by which the server sees that it rebuilt the seed of a site's own mask rightly."""
    return hashlib.sha256(b"fedild own mask" + seed).digest()


def word_array(word: str) -> np.ndarray:
    """Return a short ASCII word as an array of bytes."""
    return _bytes(word.encode("ascii"))


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)
