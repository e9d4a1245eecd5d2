"""One site as a member of groups: its name, keys, store and peers; and how it reads what a server asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.privacy.secure_sum.peers import Peers
from client.privacy.secure_sum.store import MaskStore
from shared_models.core.errors import Refused
from shared_models.messages import Job
from shared_models.secure_sum.group import LEAST_SITES, MOST_AHEAD, box_context
from shared_models.secure_sum.masks import agreed_key
from shared_models.secure_sum.shares import seal, unseal
from shared_models.signing import sign


@dataclass(frozen=True)
class Member:
    """One site in secure sums.

    Parameters
    ----------
    store : MaskStore
        Secrets between the stages.
    site : str
        Its name.
    key : bytes or None
        Its signing key; None in a simulation, where nobody signs.
    peers : Peers or None
        The others' signing keys; None in a simulation.
    """

    store: MaskStore
    site: str
    key: bytes | None = None
    peers: Peers | None = None

    @staticmethod
    def of(workspace: Path, site: str, *, key: bytes | None, peers: Peers | None) -> Member:
        """Return the member that keeps its secrets in ``workspace/secure-sum``."""
        return Member(MaskStore(workspace / "secure-sum"), site, key, peers)

    def signature(self, text: bytes) -> str:
        """Sign `text`; empty in a simulation."""
        return "" if self.key is None else sign(self.key, text)

    def sealed(self, share: bytes, kept: Mapping[str, Any], public: bytes, *, kind: str, slot: int, to: str) -> bytes:
        """Return a share in a box that only `to`, the owner of the key `public`, opens, and only as what it is."""
        context = box_context(kept["digest"], kind=kind, slot=slot, sender=self.site, receiver=to)
        return seal(share, agreed_key(bytes.fromhex(kept["seal"]), public, "seal"), context)

    def opened(self, box: bytes, kept: Mapping[str, Any], *, kind: str, slot: int, sender: str) -> bytes | None:
        """Return the share in a box from `sender`, None when it is not what it is said to be."""
        key = agreed_key(bytes.fromhex(kept["seal"]), bytes.fromhex(kept["members"][sender]["seal"]), "seal")
        return unseal(box, key, box_context(kept["digest"], kind=kind, slot=slot, sender=sender, receiver=self.site))

    def checked(self, names: Any, *, within: Mapping[str, Any] | Sequence[str], least: int = LEAST_SITES) -> list[str]:
        """Return a list of sites, this one among them, or refuse it.

        Raises
        ------
        Refused
            E_MASK_SITES.
        """
        if not isinstance(names, list) or not all(isinstance(name, str) and name in within for name in names) or names != sorted(set(names)):
            raise Refused("sites are named in order, each once, and belong to the group", code="E_MASK_SITES")
        if self.site not in names or len(names) < least:
            raise Refused("a site sums only with enough others", value=len(names), code="E_MASK_SITES")
        return names


def group_in(rule: Mapping[str, Any]) -> str:
    """Return the group that a job names."""
    value = rule.get("group")
    if not isinstance(value, str):
        raise Refused("a stage of the secure sum names its group", code="E_MASK_GROUP")
    return value


def number_in(rule: Mapping[str, Any], name: str, *, least: int = 0, below: int = MOST_AHEAD + 1) -> int:
    """Return a number that a job names: a slot, or how many of them."""
    value = rule.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < below:
        raise Refused("a stage of the secure sum counts its slots", code="E_MASK_GROUP")
    return value


def masks_of(job: Job) -> dict[str, Any]:
    """Return what a fit or judge says about masks."""
    rule = job.rule.get("masks")
    return rule if isinstance(rule, dict) else {}
