"""Kits as a server would write them, and a certificate authority for them."""

from __future__ import annotations

import datetime
import functools
import json
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from shared_models.papers import Request, signed
from shared_models.signing import public_half

CONSORTIUM = b"c" * 32


@functools.cache
def authority(days: float = 365) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _certificate("test authority", key, None, days=days)


def server_files(folder: Path, *, days: float = 30, host: str = "localhost", since_days: float = 400, self_signed: bool = False) -> tuple[Path, Path]:
    """A server's certificate and key, signed by the authority, valid since `since_days` ago for the next `days`."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(host, key, None if self_signed else authority(), days=days, since_days=since_days)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "server.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "server.crt", folder / "server.key"


def authority_pem(days: float = 365) -> str:
    return (authority() if days == 365 else authority(days))[1].public_bytes(Encoding.PEM).decode()


def kit_for(request: Request, *, address: str = "localhost:9443") -> dict[str, Any]:
    document = {
        "paper": "kit",
        "version": 1,
        "consortium": "lungs",
        "name": request.name,
        "address": address,
        "fingerprint": request.fingerprint,
        "ca": authority_pem(),
        "signing_key": public_half(CONSORTIUM),
        "made": "2026-01-01T00:00:00Z",
    }
    return signed(document, CONSORTIUM)


def write_kit(path: Path, request: Request, *, address: str = "localhost:9443") -> Path:
    path.write_text(json.dumps(kit_for(request, address=address)))
    return path


def _certificate(name: str, key: ec.EllipticCurvePrivateKey, issuer: Any, *, days: float, since_days: float = 400) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[1].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=since_days))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name.replace(" ", "-"))]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is None:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[0].public_key()), critical=False)
    return builder.sign(key if issuer is None else issuer[0], hashes.SHA256())
