"""The consortium's identities: a certificate authority of its own, the server's certificate, the key that signs kits.

X.509 after RFC 5280, keys EC P-256 and P-384; nothing is asked of a public authority, because the hospitals trust this one alone. The
authority's key is used when the server's certificate is made or renewed and may lie in a safe between.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import write_atomic
from shared_models.signing import new_signing_key, read_private, write_private

CA_DAYS = 3650
SERVER_DAYS = 397
"""A year and a month: the longest that common TLS clients accept of a leaf."""
WARN_DAYS = {"server.crt": 30, "ca.crt": 90}
"""Days ahead that an expiry is announced. A new server certificate is a matter of one command; a new authority reaches every hospital."""
ALWAYS = ("localhost", "127.0.0.1")
"""Names under which the programs on the server's own machine reach it."""

SECRETS = ("ca.key", "server.key", "superlink.key", "superexec.secret", "signing.key")
MAY_BE_AWAY = ("ca.key", "superlink.key")
"""The authority's key may lie in a safe; servers of before the SuperLink had a certificate of its own have no key for it."""


def make_identities(folder: Path, *, name: str, hosts: Sequence[str]) -> None:
    """Make the authority, the server's certificate, the superexec's secret and the signing key in `folder` (0700; secrets 0600).

    Parameters
    ----------
    folder : Path
        Nothing in it is overwritten.
    name : str
        The consortium's.
    hosts : sequence of str
        Names and addresses under which hospitals dial the server.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    make_authority(folder, name=name)
    make_server_certificate(folder, hosts=hosts)
    # Seen by this server's own programs alone: it lives as long as the authority, so that a renewal stops nothing.
    make_server_certificate(folder, hosts=ALWAYS, days=CA_DAYS - 1, name="superlink")
    write_private(folder / "superexec.secret", secrets.token_hex(32).encode() + b"\n")
    public = new_signing_key(folder / "signing.key")
    write_atomic(folder / "signing.pub", public.encode() + b"\n")


def make_authority(folder: Path, *, name: str, days: int = CA_DAYS) -> None:
    """Make ``ca.key`` and the self-signed ``ca.crt``, which may sign leaves only."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name), x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
    certificate = (
        _dated(days)
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    write_private(folder / "ca.key", _pem(key))
    write_atomic(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))


def make_server_certificate(folder: Path, *, hosts: Sequence[str], days: int = SERVER_DAYS, name: str = "server") -> None:
    """Make or renew ``<name>.key`` and ``<name>.crt``, signed by the folder's authority. Hospitals need nothing new: they trust the authority.

    Raises
    ------
    BadInput
        A host that is neither a name nor an address.
    """
    authority = read_certificate(folder / "ca.crt")
    signer = serialization.load_pem_private_key(read_private(folder / "ca.key"), password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey) or signer.public_key() != authority.public_key():
        raise Refused("ca.key is the key of ca.crt", remedy="restore both from the same backup", code="E_KEY_FILE")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _dated(days)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in dict.fromkeys([*hosts, *ALWAYS])]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA384())
    )
    write_atomic(folder / f"{name}.key", _pem(key), mode=0o600)
    write_atomic(folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def read_certificate(path: Path) -> x509.Certificate:
    """Read a PEM certificate.

    Raises
    ------
    BadInput
        Missing, or no certificate.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise BadInput("the certificate must be a PEM file", value=path.name, remedy="restore it, or make new identities") from None


def days_left(certificate: x509.Certificate, *, now: datetime.datetime | None = None) -> float:
    """Return the days until `certificate` expires; negative when it has."""
    return (certificate.not_valid_after_utc - (now or datetime.datetime.now(datetime.UTC))).total_seconds() / 86400


def expiry_warnings(folder: Path, *, now: datetime.datetime | None = None) -> list[str]:
    """Return a sentence for each certificate of `folder` that expires within its `WARN_DAYS` or has expired."""
    sentences = []
    for name, remedy in (("server.crt", "run `fedild server renew`"), ("ca.crt", "make new identities and send every site a new kit")):
        left = days_left(read_certificate(folder / name), now=now)
        if left < WARN_DAYS[name]:
            sentences.append(f"{name} {'has expired' if left < 0 else f'expires in {left:.0f} days'}: {remedy}")
    return sentences


def check_secrets(folder: Path) -> None:
    """Refuse key files that are missing or that others than their owner may read; those of `MAY_BE_AWAY` may be missing.

    Raises
    ------
    Refused
        E_KEY_FILE.
    """
    for name in SECRETS:
        if name not in MAY_BE_AWAY or (folder / name).exists():
            read_private(folder / name)


def _dated(days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    # An hour back: a hospital whose clock is a little behind must not refuse a new certificate.
    begins = now - datetime.timedelta(hours=1)
    return (
        x509.CertificateBuilder().serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(now + datetime.timedelta(days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise BadInput("a host is a DNS name or an IP address", value=host) from None


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
