"""The site's two keys that the server knows, and their change: new ones lie beside the old until the kit for them has come.

secrets/signing.key.new   made first, takes its place first
secrets/node.key.new      made last, takes its place last

So a lone ``node.key.new`` can only mean that the change was interrupted between its two renames: whoever comes next finishes it.
"""

from __future__ import annotations

from pathlib import Path

from client.site import Site
from shared_models.core.errors import Refused
from shared_models.core.files import write_atomic
from shared_models.papers import fingerprint
from shared_models.signing import new_signing_key, public_half, read_private, signing_key, write_private

NODE, SIGNING, NEW = "node.key", "signing.key", ".new"


def new_node_key(path: Path) -> str:
    """Make an EC P-384 key at `path` (0600, OpenSSH form, as Flower reads it) and return its public half.

    Raises
    ------
    BadInput
        The file exists: a key is never overwritten.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = ec.generate_private_key(ec.SECP384R1())
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def node_public_key(path: Path) -> str:
    """Return the public half of the node key at `path` as OpenSSH text without a comment.

    Raises
    ------
    Refused
        E_KEY_FILE.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        key = load_ssh_private_key(read_private(path), None)
    except ValueError:
        raise Refused("the node key must be readable", remedy=f"restore secrets/{path.name}", code="E_KEY_FILE") from None
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def public_halves(folder: Path, ending: str = "") -> tuple[str, str]:
    """Return node key and signing key, public halves; `ending` ``.new`` for those that wait for their kit."""
    secrets = folder / "secrets"
    return node_public_key(secrets / f"{NODE}{ending}"), public_half(signing_key(secrets / f"{SIGNING}{ending}"))


def own_fingerprint(folder: Path, ending: str = "") -> str:
    """Return the fingerprint of this site's own keys, computed from the private halves."""
    return fingerprint(Site.load(folder / "site.toml").site.name, *public_halves(folder, ending))


def make_new_keys(folder: Path) -> tuple[str, str]:
    """Make the keys that will replace the present ones, or find those that were made before; return their public halves."""
    secrets = folder / "secrets"
    if not (secrets / f"{SIGNING}{NEW}").exists():
        new_signing_key(secrets / f"{SIGNING}{NEW}")
    if not (secrets / f"{NODE}{NEW}").exists():
        new_node_key(secrets / f"{NODE}{NEW}")
    return public_halves(folder, NEW)


def are_waiting(folder: Path) -> bool:
    """Say whether new keys wait for their kit."""
    return all((folder / "secrets" / f"{name}{NEW}").exists() for name in (SIGNING, NODE))


def change_keys(folder: Path) -> None:
    """Put the new keys in the place of the old ones, which are gone then."""
    secrets = folder / "secrets"
    (secrets / f"{SIGNING}{NEW}").replace(secrets / SIGNING)
    finish_change(folder)


def finish_change(folder: Path) -> None:
    """Finish a change of keys that was interrupted between its two renames; otherwise do nothing."""
    secrets = folder / "secrets"
    if (secrets / f"{NODE}{NEW}").exists() and not (secrets / f"{SIGNING}{NEW}").exists():
        (secrets / f"{NODE}{NEW}").replace(secrets / NODE)
        name = Site.load(folder / "site.toml").site.name
        write_atomic(secrets / "node.pub", f"{node_public_key(secrets / NODE)} {name}\n".encode())
