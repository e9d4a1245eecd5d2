"""Who this hospital is: keys made on the spot that never leave, the request that is sent to the server, the kit that comes back.

secrets/node.key      EC P-384, OpenSSH form: Flower authenticates the site with it
secrets/signing.key   Ed25519: signs every update that leaves
secrets/approver.key  Ed25519: signs what may run here
request.json          the public halves, to be sent to the server's administrator
kit.json              address and certificate authority of the server, pinned here by `join`
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from client.site import Site
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import write_atomic, write_json
from shared_models.papers import Kit, Request, fingerprint, is_name, read_kit, signed
from shared_models.signing import new_signing_key, public_half, read_private, signing_key, write_private

TOML = """\
[site]
name = "{name}"
inbox = "dicom"             # folder of DICOM files, read only
clinical = "clinical.csv"   # diagnoses by patient and study date
workspace = "workspace"     # what this site makes: cache, cohort, logs
device = "auto"             # auto, cpu, cuda or cuda:1

[policy]                    # what may leave, whatever an experiment asks for
min_cases = 10
min_per_class = 5
"""


def make_site(folder: Path, name: str) -> Request:
    """Make a site folder with new keys, a first ``site.toml`` and the request; an existing ``site.toml`` is kept.

    Raises
    ------
    BadInput
        No name for a site, or the folder has keys already: they are never overwritten.
    """
    if not is_name(name):
        raise BadInput("a site's name is a letter and up to 63 letters, digits, - or _", value=name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    toml = folder / "site.toml"
    if toml.exists() and Site.load(toml).site.name != name:
        raise BadInput("the name must be that of the folder's site.toml", value=name, remedy="use the same name, or another folder")
    secrets = folder / "secrets"
    public = _new_node_key(secrets / "node.key")
    write_atomic(secrets / "node.pub", f"{public} {name}\n".encode())
    verifying = new_signing_key(secrets / "signing.key")
    new_signing_key(secrets / "approver.key")
    if not toml.exists():
        write_atomic(toml, TOML.format(name=name).encode())
    return write_request(folder, name, public, verifying)


def write_request(folder: Path, name: str, public_key: str, verifying: str) -> Request:
    """Write ``request.json`` for the given public halves, signed with the site's signing key."""
    body = {
        "paper": "request",
        "version": 1,
        "name": name,
        "public_key": public_key,
        "signing_key": verifying,
        "fingerprint": fingerprint(name, public_key, verifying),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    document = signed(body, signing_key(folder / "secrets" / "signing.key"))
    write_json(folder / "request.json", document)
    return Request.model_validate(document)


def join(folder: Path, paper: Path) -> Kit:
    """Check a kit and pin it: ``kit.json``, ``secrets/ca.crt`` and ``[server]`` of ``site.toml``.

    A later kit (another address, a renewed certificate) must be signed by the consortium that was pinned first.

    Raises
    ------
    Refused
        E_SIGNATURE (altered), E_FINGERPRINT (made for other keys), E_CONSORTIUM (another consortium than the pinned one).
    """
    kit = read_kit(paper)
    site = Site.load(folder / "site.toml")
    if kit.name != site.site.name or kit.fingerprint != own_fingerprint(folder):
        raise Refused("a kit is made for this site's own keys", value=kit.name, remedy="send request.json again", code="E_FINGERPRINT")
    pinned = folder / "kit.json"
    if pinned.exists() and pinned.resolve() != paper.resolve() and read_kit(pinned).signing_key != kit.signing_key:
        raise Refused(
            "a later kit comes from the same consortium",
            value=kit.consortium,
            remedy="if the site is really to change to another consortium, remove kit.json first",
            code="E_CONSORTIUM",
        )
    write_atomic(folder / "secrets" / "ca.crt", kit.ca.encode())
    write_atomic(folder / "site.toml", with_server((folder / "site.toml").read_text(encoding="utf-8"), kit).encode())
    if pinned.resolve() != paper.resolve():
        write_atomic(pinned, paper.read_bytes())
    return kit


def with_server(toml: str, kit: Kit) -> str:
    """Return the text of a site TOML with its ``[server]`` table replaced or added; everything else stays as it is written."""
    rest = re.sub(r"(?ms)^\[server\]\n.*?(?=^\[|\Z)", "", toml).rstrip("\n")
    return f'{rest}\n\n[server]\naddress = "{kit.address}"\nname = "{kit.consortium}"\n'


def own_fingerprint(folder: Path) -> str:
    """Return the fingerprint of this site's own keys, computed from the private halves."""
    name = Site.load(folder / "site.toml").site.name
    verifying = public_half(signing_key(folder / "secrets" / "signing.key"))
    return fingerprint(name, node_public_key(folder), verifying)


def node_public_key(folder: Path) -> str:
    """Return the public half of the node key as OpenSSH text without a comment."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        key = load_ssh_private_key(read_private(folder / "secrets" / "node.key"), None)
    except ValueError:
        raise Refused("the node key must be readable", remedy="restore secrets/node.key", code="E_KEY_FILE") from None
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def check_keys(folder: Path) -> None:
    """Refuse keys that are missing, damaged or open to others; every program of the site calls it before it starts.

    Raises
    ------
    Refused
        E_KEY_FILE.
    """
    own_fingerprint(folder)
    signing_key(folder / "secrets" / "approver.key")


def _new_node_key(path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = ec.generate_private_key(ec.SECP384R1())
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
