"""The other hospitals' signing keys: certified by the consortium, and pinned here at first sight.

    peers.json      name and signing key of every site that this one has summed with

The consortium's key lies on the server. A server in other hands could certify keys of its own; what it cannot do unseen is to exchange the
key of a hospital that this site knows already, and each new name is written to the audit log.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client.audit import AuditLog
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import read_json, write_json
from shared_models.papers import read_kit
from shared_models.secure_sum.roster import read_certificate


class Peers:
    """The peers of the site in `folder`, whose kit names the consortium's key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "peers.json"

    def known(self) -> dict[str, str]:
        """Return the pinned signing key of every hospital that this one has summed with."""
        return dict(sorted(read_json(self.path).items())) if self.path.exists() else {}

    def forget(self, site: str) -> str:
        """Unpin the key of a hospital that has made new ones, and return it: the next certificate pins the new one.

        Raises
        ------
        BadInput
            No such hospital.
        """
        known = self.known()
        if site not in known:
            raise BadInput("a peer is forgotten by its name", value=site, remedy=f"known: {', '.join(known) or 'nobody'}")
        key = known.pop(site)
        write_json(self.path, known, mode=0o600)
        AuditLog(self.folder).note("peer forgotten", name=site, digest=key)
        return key

    def accept(self, certificate: Any, *, run: str) -> dict[str, str]:
        """Return the signing keys on a run's certificate, and pin those that are new.

        Raises
        ------
        Refused
            E_SIGNATURE, or E_PEER_KEY: a known hospital under another key.
        """
        kit = self.folder / "kit.json"
        if not kit.exists():
            raise Refused("a secure sum needs the consortium's kit", remedy="fedild site join", code="E_PEER_KEY")
        keys = read_certificate(certificate, run=run, public_key=read_kit(kit).signing_key)
        known = self.known()
        for site, key in keys.items():
            if known.get(site, key) != key:
                raise Refused(
                    "a hospital keeps the signing key under which it was met first",
                    value=site,
                    remedy=f"ask that hospital; if it has really made new keys: fedild site peers forget {site}",
                    code="E_PEER_KEY",
                )
        if new := keys.keys() - known.keys():
            write_json(self.path, dict(sorted({**known, **keys}.items())), mode=0o600)
            for site in sorted(new):
                AuditLog(self.folder).note("peer", name=site, digest=keys[site])
        return keys
