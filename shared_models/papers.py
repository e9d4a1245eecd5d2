"""The two papers that a hospital and the server exchange before anything runs: the site's request and the server's kit.

A request carries public keys only; the kit carries the address, the consortium's certificate authority and its signing key. Both are JSON
files signed with Ed25519 (RFC 8032). A signature shows that a paper was not altered; *whose* it is, two people settle by reading the
fingerprint to each other over a second way (telephone).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from shared_models.core.choices import Section, validated
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import canonical_json, read_json, sha256
from shared_models.experiment import Name
from shared_models.signing import public_half, sign, verifies

LARGEST_PAPER = 64 << 10
"""Bytes; a longer file is no paper of ours and is not read."""

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class Replaces(Section):
    """The old key's word for a change of keys, inside a request: ``{"signing_key": ..., "signature": ...}``.

    `signing_key` is the site's registered Ed25519 key, which goes; `signature` is made by it over the canonical JSON of the request without
    ``signature`` and ``replaces`` (see `replacing`). The request's own signature, by the new key, covers this table too.
    """

    signing_key: Hex32
    signature: Signature


class Request(Section):
    """A site asks to take part. Signed with the site's own signing key, which shows that it has the private half.

    `public_key` is the node's EC P-384 key in OpenSSH form (Flower registers it), `signing_key` the Ed25519 key that signs its updates.
    `replaces` stands in the request of a site that has changed its keys: without it a name that is taken is refused.
    """

    paper: Annotated[str, Field(pattern="^request$")] = "request"
    version: Annotated[int, Field(ge=1, le=1)] = 1
    name: Name
    public_key: Annotated[str, Field(pattern=r"^ecdsa-sha2-nistp384 [A-Za-z0-9+/=]{100,400}$")]
    signing_key: Hex32
    fingerprint: str
    made: Time
    replaces: Replaces | None = None
    signature: Signature


class Kit(Section):
    """What a site needs to take part. Signed with the consortium's key, which the kit itself names: compare its fingerprint by telephone.

    `fingerprint` repeats that of the request, so that a kit made for other keys is noticed; `ca` is a PEM certificate.
    """

    paper: Annotated[str, Field(pattern="^kit$")] = "kit"
    version: Annotated[int, Field(ge=1, le=1)] = 1
    consortium: Name
    name: Name
    address: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+:\d{1,5}$")]
    fingerprint: str
    ca: Annotated[str, Field(pattern=r"^-----BEGIN CERTIFICATE-----\n")]
    signing_key: Hex32
    made: Time
    signature: Signature


def fingerprint(*parts: str) -> str:
    """Return what two people read to each other: the first 128 bits of the SHA-256 over all parts, in groups of four.

    A site's parts are its name, its node's public key and its signing key; the consortium's are its CA certificate and its signing key.

    Examples
    --------
    >>> fingerprint("alpha", "ecdsa-sha2-nistp384 AAAA", "00" * 32)
    '8f9c-45eb-1028-52cb-5a07-2dc6-6b76-204b'
    """
    digest = sha256(canonical_json(list(parts)).encode())[:32]
    return "-".join(digest[i : i + 4] for i in range(0, 32, 4))


def signed(document: dict[str, Any], secret: bytes) -> dict[str, Any]:
    """Return `document` with ``signature``: Ed25519 over the canonical JSON of everything else, in hexadecimal.

    `secret` is the 32 bytes of `signing.signing_key`.
    """
    body = {name: value for name, value in document.items() if name != "signature"}
    return {**body, "signature": sign(secret, canonical_json(body).encode())}


def replacing(body: dict[str, Any], secret: bytes) -> dict[str, str]:
    """Return the table ``replaces`` of a request: the old signing key `secret` (32 bytes) speaks for the new keys in `body`.

    Examples
    --------
    >>> found = replacing({"name": "alpha", "signing_key": "00" * 32}, b"k" * 32)
    >>> sorted(found), len(found["signature"])
    (['signature', 'signing_key'], 128)
    """
    return {"signing_key": public_half(secret), "signature": sign(secret, _body_of_request(body))}


def _body_of_request(document: dict[str, Any]) -> bytes:
    return canonical_json({name: value for name, value in document.items() if name not in ("signature", "replaces")}).encode()


def check_signature(document: dict[str, Any], public_key: str) -> None:
    """Refuse a document that was not signed by the private half of `public_key` (32 bytes in hexadecimal).

    Raises
    ------
    Refused
        E_SIGNATURE.
    """
    body = {name: value for name, value in document.items() if name != "signature"}
    if not verifies(public_key, canonical_json(body).encode(), str(document.get("signature", ""))):
        raise Refused("a paper must be unaltered since it was signed", remedy="ask for it again", code="E_SIGNATURE")


def read_request(path: Path) -> Request:
    """Read a site's request; check its form, its fingerprint, its signature and, in a change of keys, that of the old key.

    Raises
    ------
    BadInput, Refused
        No request, or an altered one.
    """
    document = _read(path)
    request: Request = validated(Request, document, what="request")
    if request.fingerprint != fingerprint(request.name, request.public_key, request.signing_key):
        raise Refused("a request's fingerprint is that of its keys", remedy="ask the site for a new request", code="E_FINGERPRINT")
    check_signature(document, request.signing_key)
    if request.replaces is not None and not verifies(request.replaces.signing_key, _body_of_request(document), request.replaces.signature):
        raise Refused("a change of keys is signed by the old key", remedy="ask the site for a new request", code="E_SIGNATURE")
    return request


def read_kit(path: Path) -> Kit:
    """Read the server's kit; check its form and its signature (by the key that it names: compare the consortium's fingerprint).

    Raises
    ------
    BadInput, Refused
        No kit, or an altered one.
    """
    document = _read(path)
    kit: Kit = validated(Kit, document, what="kit")
    check_signature(document, kit.signing_key)
    return kit


def _read(path: Path) -> dict[str, Any]:
    try:
        document = read_json(path) if path.stat().st_size <= LARGEST_PAPER else None
    except FileNotFoundError:
        raise BadInput("the paper must exist", value=str(path), remedy="check the path") from None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise BadInput("a paper is a small JSON file", value=path.name, remedy="send the file as it was made")
    return document


def is_name(text: str) -> bool:
    """Say whether `text` can be a site's name: a letter, then letters, digits, ``_`` or ``-``.

    Examples
    --------
    >>> is_name("st-mary"), is_name("../etc")
    (True, False)
    """
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", text) is not None
