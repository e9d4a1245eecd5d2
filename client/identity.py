"""Who this hospital is: keys made on the spot that never leave, the request that is sent to the server, the kit that comes back.

secrets/node.key      EC P-384, OpenSSH form: Flower authenticates the site with it
secrets/signing.key   Ed25519: signs every update that leaves
secrets/approver.key  Ed25519: signs what may run here
request.json          the public halves, to be sent to the server's administrator
secrets/*.key.new     after `rotate`: keys that wait for their kit
kit.json              address and certificate authority of the server, pinned here by `join`
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from client.keys import NEW, are_waiting, change_keys, finish_change, make_new_keys, new_node_key, own_fingerprint
from client.site import Site
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import write_atomic, write_json
from shared_models.papers import Kit, Request, fingerprint, is_name, read_kit, replacing, signed
from shared_models.signing import new_signing_key, signing_key

TOML = """\
[site]
name = "{name}"
inbox = "dicom"             # folder of DICOM files, read only
clinical = "clinical.csv"   # diagnoses by patient and study date
workspace = "workspace"     # what this site makes: cache, cohort, logs
device = "auto"             # auto, cpu, cuda or cuda:1

[policy]                    # what may leave, whatever an experiment asks for
min_cases = 10
# min_cases_in_sum = 2      # a small hospital may take part with fewer, through the secure sum alone
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
    public = new_node_key(secrets / "node.key")
    write_atomic(secrets / "node.pub", f"{public} {name}\n".encode())
    verifying = new_signing_key(secrets / "signing.key")
    new_signing_key(secrets / "approver.key")
    if not toml.exists():
        write_atomic(toml, TOML.format(name=name).encode())
    return write_request(folder, name, public, verifying)


def rotate(folder: Path) -> Request:
    """Make new node and signing keys beside the old ones and write a request for them, signed by the old signing key too.

    The site goes on with its old keys until `join` is given the kit for the new ones. Asked again before that, it writes the same request.
    The approver's key stays: it speaks to nobody outside.

    Raises
    ------
    BadInput
        The site has not joined a server: its keys are known to nobody yet.
    """
    if not (folder / "kit.json").exists():
        raise BadInput("keys are changed at a server that knows the old ones", remedy="`fedild site join KIT` first")
    check_keys(folder)
    return write_request(folder, Site.load(folder / "site.toml").site.name, *make_new_keys(folder), ending=NEW)


def write_request(folder: Path, name: str, public_key: str, verifying: str, *, ending: str = "") -> Request:
    """Write ``request.json`` for the given public halves, signed with the site's signing key; with `ending` ``.new``, with both of them."""
    body = {
        "paper": "request",
        "version": 1,
        "name": name,
        "public_key": public_key,
        "signing_key": verifying,
        "fingerprint": fingerprint(name, public_key, verifying),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    present = folder / "secrets" / "signing.key"
    replaces = {"replaces": replacing(body, signing_key(present))} if ending else {}
    document = signed(body | replaces, signing_key(present.with_name(present.name + ending)))
    write_json(folder / "request.json", document)
    return Request.model_validate(document)


def join(folder: Path, paper: Path) -> Kit:
    """Check a kit and pin it: ``kit.json``, ``secrets/ca.crt`` and ``[server]`` of ``site.toml``.

    A later kit (another address, a renewed certificate) must be signed by the consortium that was pinned first. One for the new keys of
    `rotate` puts them in the place of the old ones.

    Raises
    ------
    Refused
        E_SIGNATURE (altered), E_FINGERPRINT (made for other keys), E_CONSORTIUM (another consortium than the pinned one).
    """
    kit = read_kit(paper)
    site = Site.load(folder / "site.toml")
    finish_change(folder)
    changes = are_waiting(folder) and kit.fingerprint == own_fingerprint(folder, NEW)
    if kit.name != site.site.name or not (changes or kit.fingerprint == own_fingerprint(folder)):
        raise Refused("a kit is made for this site's own keys", value=kit.name, remedy="send request.json again", code="E_FINGERPRINT")
    pinned = folder / "kit.json"
    if pinned.exists() and pinned.resolve() != paper.resolve() and read_kit(pinned).signing_key != kit.signing_key:
        raise Refused(
            "a later kit comes from the same consortium",
            value=kit.consortium,
            remedy="if the site is really to change to another consortium, remove kit.json first",
            code="E_CONSORTIUM",
        )
    if changes:
        change_keys(folder)
    write_atomic(folder / "secrets" / "ca.crt", kit.ca.encode())
    write_atomic(folder / "site.toml", with_server((folder / "site.toml").read_text(encoding="utf-8"), kit).encode())
    if pinned.resolve() != paper.resolve():
        write_atomic(pinned, paper.read_bytes())
    return kit


def with_server(toml: str, kit: Kit) -> str:
    """Return the text of a site TOML with its ``[server]`` table replaced or added; everything else stays as it is written."""
    rest = re.sub(r"(?ms)^\[server\]\n.*?(?=^\[|\Z)", "", toml).rstrip("\n")
    return f'{rest}\n\n[server]\naddress = "{kit.address}"\nname = "{kit.consortium}"\n'


def check_keys(folder: Path) -> None:
    """Refuse keys that are missing, damaged or open to others; every program of the site calls it before it starts.

    A change of keys that was interrupted is finished here.

    Raises
    ------
    Refused
        E_KEY_FILE.
    """
    finish_change(folder)
    own_fingerprint(folder)
    signing_key(folder / "secrets" / "approver.key")
