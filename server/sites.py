"""The register of sites. Every change touches one site; the others' entries, keys and connections stay as they are.

invited    its name is kept free for it; nobody can connect under it yet
approved   its key is registered with Flower, its kit was written; it connects and may be on a run's roster
revoked    its key is refused; its name stays taken until a new request under it is approved
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from server.flower import register_node, unregister_node
from server.folder import ServerFolder
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import read_json, write_atomic, write_json
from shared_models.core.locks import lock
from shared_models.papers import Kit, Request, fingerprint, is_name, read_request, signed
from shared_models.signing import signing_key

State = Literal["invited", "approved", "revoked"]


@dataclass
class SiteEntry:
    """What the server knows of a site: public keys, Flower's number for it, and when what happened (UTC)."""

    state: State = "invited"
    fingerprint: str = ""
    public_key: str = ""
    signing_key: str = ""
    node_id: str = ""
    leaving: str = ""
    """Node number of the keys that were replaced, until Flower has been told."""
    invited: str = ""
    approved: str = ""
    revoked: str = ""


def read_sites(server: ServerFolder) -> dict[str, SiteEntry]:
    """Return the register, sorted by name."""
    path = server.path / "sites.json"
    if not path.exists():
        return {}
    return {name: SiteEntry(**entry) for name, entry in sorted(read_json(path).items())}


def invite(server: ServerFolder, name: str) -> None:
    """Keep `name` for a site that is to come.

    Raises
    ------
    BadInput
        No name for a site, or one that is taken.
    """
    if not is_name(name):
        raise BadInput("a site's name is a letter and up to 63 letters, digits, - or _", value=name)
    with _register(server) as sites:
        if name in sites and sites[name].state != "revoked":
            raise BadInput("a site's name is taken once", value=name, remedy="choose another one, or revoke the old site first")
        sites[name] = SiteEntry(invited=_now())


def approve_site(
    server: ServerFolder,
    request_file: Path,
    *,
    expected: str | None = None,
    register: Callable[..., int] = register_node,
    unregister: Callable[[ServerFolder, int], None] = unregister_node,
) -> tuple[str, Path]:
    """Register the site of a request with Flower and write its kit; return its fingerprint and the kit's path.

    Approving the same request again writes the kit anew (after a change of address, say). Other keys under a name that is approved are
    taken when the registered signing key speaks for them (a rotation: the new node is registered, then the old one goes, no other site is
    touched); without its word a name changes hands only after `revoke`.

    Parameters
    ----------
    request_file : Path
        The site's ``request.json``.
    expected : str, optional
        The fingerprint that the site read out over the telephone.

    Raises
    ------
    BadInput, Refused, FlowerFailed
        A bad request, a fingerprint that differs, a name or key that is taken, or a SuperLink that does not answer.
    """
    request = read_request(request_file)
    if expected is not None and _plain(expected) != _plain(request.fingerprint):
        raise Refused("the request's fingerprint is the one that the site read out", value=request.fingerprint, code="E_FINGERPRINT")
    with _register(server) as sites:
        before = sites.get(request.name, SiteEntry())
        same = before.state == "approved" and before.fingerprint == request.fingerprint
        if before.state == "approved" and not same and not _speaks_for(before, request):
            raise Refused(
                "a name belongs to one pair of keys until these speak for others",
                value=request.name,
                remedy=f"`fedild server revoke {request.name}` first, or ask the site to rotate its keys",
                code="E_TAKEN",
            )
        for name, entry in sites.items():
            if name != request.name and entry.state == "approved" and entry.public_key == request.public_key:
                raise Refused("a key belongs to one site", value=name, remedy="ask the site to make keys of its own", code="E_TAKEN")
        stays = before.state == "approved" and before.public_key == request.public_key  # Flower takes a key once: it knows this one
        node = before.node_id if stays else _registered(server, request.name, request.public_key, register)
        sites[request.name] = SiteEntry(
            state="approved",
            fingerprint=request.fingerprint,
            public_key=request.public_key,
            signing_key=request.signing_key,
            node_id=node,
            leaving=before.leaving if stays else before.node_id,
            invited=before.invited,
            approved=before.approved if same else _now(),
        )
    # Only when the register names the new node: interrupted between the two, the same request approved again ends what was begun.
    _let_go(server, request.name, unregister)
    return request.fingerprint, write_kit(server, request.name, request.fingerprint)


def revoke(server: ServerFolder, name: str, *, unregister: Callable[[ServerFolder, int], None] = unregister_node) -> None:
    """Make Flower refuse the site's key from now on.

    Raises
    ------
    BadInput, FlowerFailed
        No such site, or a SuperLink that does not answer.
    """
    with _register(server) as sites:
        entry = sites.get(name)
        if entry is None:
            raise BadInput("no such site", value=name, remedy="`fedild server sites` lists them")
        if entry.state == "revoked":
            return
        for node in filter(None, (entry.leaving, entry.node_id)):
            unregister(server, int(node))
        sites[name] = SiteEntry(**{**asdict(entry), "state": "revoked", "revoked": _now(), "node_id": "", "leaving": ""})
        (server.path / "kits" / f"{name}.json").unlink(missing_ok=True)


def write_kit(server: ServerFolder, name: str, site_fingerprint: str) -> Path:
    """Write the signed kit of a site and return its path."""
    authority = (server.secrets / "ca.crt").read_text(encoding="ascii")
    document = {
        "paper": "kit",
        "version": 1,
        "consortium": server.settings.server.name,
        "name": name,
        "address": server.settings.server.address,
        "fingerprint": site_fingerprint,
        "ca": authority,
        "signing_key": consortium_key(server),
        "made": _now(),
    }
    path = server.path / "kits" / f"{name}.json"
    kit = signed(document, signing_key(server.secrets / "signing.key"))
    Kit.model_validate(kit)
    write_json(path, kit)
    return path


def consortium_key(server: ServerFolder) -> str:
    """Return the public half of the consortium's signing key in hexadecimal."""
    return (server.secrets / "signing.pub").read_text(encoding="ascii").strip()


def consortium_fingerprint(server: ServerFolder) -> str:
    """Return what hospitals compare by telephone: of the authority's certificate and the signing key."""
    return fingerprint((server.secrets / "ca.crt").read_text(encoding="ascii"), consortium_key(server))


def on_roster(server: ServerFolder, wanted: list[str]) -> list[str]:
    """Return `wanted` sorted, after checking that each is an approved site.

    Raises
    ------
    BadInput
        A name that is unknown, not approved, or given twice.
    """
    sites = read_sites(server)
    bad = sorted({name for name in wanted if name not in sites or sites[name].state != "approved"})
    if bad or len(set(wanted)) != len(wanted) or not wanted:
        raise BadInput(
            "a roster names approved sites, each once", value=", ".join(bad or wanted), remedy="`fedild server sites` says who is approved"
        )
    return sorted(wanted)


@contextmanager
def _register(server: ServerFolder) -> Iterator[dict[str, SiteEntry]]:
    """Change the register: read, change, write, under a lock, so that two commands at once lose nothing."""
    with lock(server.path / "sites.lock", what="a change of the register", wait_s=60.0):
        sites = read_sites(server)
        yield sites
        write_json(server.path / "sites.json", {name: asdict(entry) for name, entry in sorted(sites.items())}, mode=0o600)


def _registered(server: ServerFolder, name: str, public_key: str, register: Callable[..., int]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.pub"
        write_atomic(path, f"{public_key} {name}\n".encode(), durable=False)
        return str(register(server, name=name, public_key=path))


def _let_go(server: ServerFolder, name: str, unregister: Callable[[ServerFolder, int], None]) -> None:
    with _register(server) as sites:
        if sites[name].leaving:
            unregister(server, int(sites[name].leaving))
            sites[name].leaving = ""


def _speaks_for(entry: SiteEntry, request: Request) -> bool:
    """Say whether the key that is registered now signed the request for the new ones (`read_request` has checked the signature)."""
    return request.replaces is not None and request.replaces.signing_key == entry.signing_key


def _plain(text: str) -> str:
    return "".join(text.split()).replace("-", "").lower()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
