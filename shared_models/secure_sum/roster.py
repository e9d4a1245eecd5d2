"""The roster certificate: which sites the consortium vouches for, each with its signing key, signed with the consortium's key.

Without it a server in the middle could offer keys of its own as those of the other hospitals. A site checks it with the key that its kit
pinned (`shared_models/papers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from shared_models.core.choices import Section, validated
from shared_models.experiment import Name
from shared_models.papers import Hex32, Signature, check_signature, signed


class RosterCertificate(Section):
    """The sites of one run with their Ed25519 signing keys."""

    paper: Annotated[str, Field(pattern="^roster$")] = "roster"
    version: Annotated[int, Field(ge=1, le=1)] = 1
    run: Annotated[str, Field(max_length=200)]
    sites: dict[Name, Hex32]
    signature: Signature


def certify(run: str, keys: Mapping[str, str], secret: bytes) -> dict[str, Any]:
    """Return the certificate of a run; a site without a key (revoked) is not on it.

    Examples
    --------
    >>> from shared_models.signing import public_half
    >>> paper = certify("r1", {"alpha": "aa" * 32, "beta": ""}, b"c" * 32)
    >>> read_certificate(paper, run="r1", public_key=public_half(b"c" * 32)) == {"alpha": "aa" * 32}
    True
    """
    sites = {site: key for site, key in sorted(keys.items()) if key}
    return signed({"paper": "roster", "version": 1, "run": run, "sites": sites}, secret)


def read_certificate(document: Any, *, run: str, public_key: str) -> dict[str, str]:
    """Return each site's signing key, or refuse.

    Raises
    ------
    FedILDError
        E_EXPERIMENT or E_SIGNATURE: no certificate, not of this run, or not signed by the consortium.
    """
    from shared_models.core.errors import Refused

    certificate: RosterCertificate = validated(RosterCertificate, document if isinstance(document, dict) else {}, what="roster certificate")
    check_signature(document, public_key)
    if certificate.run != run:
        raise Refused("a roster certificate is that of the run", value=certificate.run, code="E_SIGNATURE")
    return dict(certificate.sites)
