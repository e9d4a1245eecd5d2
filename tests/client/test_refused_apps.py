"""Apps that may not run, taken all the way: Flower's own unpacking and import behind our look at the bundle. Every bundle would write a
marker file the moment its code is imported; the marker never appears, nothing is unpacked, and the refusal stands in the audit log."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli_w

from client.approval import Approvals
from client.audit import AuditLog
from client.identity import make_site
from client.messenger import main
from shared_models.core.errors import Refused
from shared_models.core.files import canonical_json, sha256
from shared_models.signing import sign

CODE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from flwr.clientapp import ClientApp
app = ClientApp()
# version {version}
"""


@dataclass
class Hospital:
    """A site folder, and the marker that an app's code would write."""

    folder: Path
    marker: Path

    @property
    def approvals(self) -> Approvals:
        return Approvals(self.folder)

    def decide(self, decision: str, content: bytes) -> None:
        self.approvals.decide(decision, kind="app", name="shop.visitor", digest=sha256(content))  # type: ignore[arg-type]

    def code(self, version: int) -> bytes:
        return CODE.format(marker=str(self.marker), version=version).encode()

    def app(self, version: int = 1) -> bytes:
        return bundle({"visitor.py": self.code(version)})


def bundle(files: dict[str, bytes], *, component: str = "visitor:app", again: dict[str, bytes] | None = None) -> bytes:
    """An app as Flower packs it: description, files, and their digests; `again` adds files under names that may be there already."""
    app = {"publisher": "shop", "components": {"serverapp": "visitor:server", "clientapp": component}}
    document = {"project": {"name": "visitor", "version": "1.0.0", "license": "Apache-2.0"}, "tool": {"flwr": {"app": app}}}
    content = {"pyproject.toml": tomli_w.dumps(document).encode(), **files}
    listed = "\n".join(f"{name},{hashlib.sha256(data).hexdigest()},{8 * len(data)}" for name, data in content.items())
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of a name that is written twice
        for name, data in [*content.items(), (".info/CONTENT", listed.encode()), *(again or {}).items()]:
            archive.writestr(name, data)
    return file.getvalue()


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospital]:
    make_site(tmp_path / "site", "alpha")
    monkeypatch.setenv("FEDILD_SITE", str(tmp_path / "site"))
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    known, places = set(sys.modules), list(sys.path)
    yield Hospital(tmp_path / "site", tmp_path / "marker")
    for name in set(sys.modules) - known:
        if name == "visitor":
            del sys.modules[name]
    sys.path[:] = places


def offer(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the site's program for one message whose app is `content`, as its daemon does; Flower's network is left out."""
    from flwr.cli.config_utils import get_fab_metadata
    from flwr.clientapp.utils import get_load_client_app_fn
    from flwr.supernode.runtime import run_clientapp

    def flowers_program() -> None:
        run_clientapp.install_from_fab(content, skip_prompt=True)
        load = get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)
        load(*get_fab_metadata(content), hashlib.sha256(content).hexdigest())

    with monkeypatch.context() as patch:
        for name in ("install_from_fab", "push_task_output", "Error"):  # what `main` replaces is put back afterwards
            patch.setattr(run_clientapp, name, getattr(run_clientapp, name))
        patch.setattr(importlib.import_module("flwr.supernode.cli.flwr_clientapp"), "flwr_clientapp", flowers_program)
        main()


def test_an_approved_app_runs_and_leaves_its_marker(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital.decide("approved", hospital.app())
    offer(hospital.app(), monkeypatch)
    assert hospital.marker.read_text() == "ran"


def _altered(hospital: Hospital) -> bytes:
    hospital.decide("approved", hospital.app())
    return bundle({"visitor.py": hospital.code(1).replace(b"# version 1", b"# version 7")})


def _bit_of_the_archive(hospital: Hospital) -> bytes:
    hospital.decide("approved", hospital.app())
    content = bytearray(hospital.app())
    content[content.index(b"# version 1") + 10] ^= 1
    return bytes(content)


def _revoked(hospital: Hospital) -> bytes:
    hospital.decide("approved", hospital.app())
    hospital.decide("revoked", hospital.app())
    return hospital.app()


def _rejected(hospital: Hospital) -> bytes:
    hospital.decide("rejected", hospital.app())
    return hospital.app()


def _older(hospital: Hospital) -> bytes:
    hospital.decide("approved", hospital.app(1))
    hospital.decide("approved", hospital.app(2))
    return hospital.app(1)


def _entry(hospital: Hospital, **changes: str) -> dict[str, object]:
    hospital.decide("approved", hospital.app(1))
    entry = json.loads(hospital.approvals.path.read_bytes())
    return {**entry, **changes}


def _write(hospital: Hospital, entry: dict[str, object]) -> bytes:
    hospital.approvals.path.write_bytes(canonical_json(entry).encode() + b"\n")
    return hospital.app(2)


def _signed_by_a_stranger(hospital: Hospital) -> bytes:
    entry = _entry(hospital, digest=sha256(hospital.app(2)))
    entry.pop("signature")
    return _write(hospital, {**entry, "signature": sign(b"s" * 32, canonical_json(entry).encode())})


def _changed_by_hand(hospital: Hospital) -> bytes:
    return _write(hospital, _entry(hospital, digest=sha256(hospital.app(2))))


def _list_of_yesterday(hospital: Hospital) -> bytes:
    hospital.decide("approved", hospital.app(1))
    before = hospital.approvals.path.read_bytes()
    hospital.decide("revoked", hospital.app(1))
    hospital.approvals.path.write_bytes(before)
    return hospital.app(1)


REFUSED: dict[str, tuple[str, Callable[[Hospital], bytes]]] = {
    "unsigned": ("E_APP", lambda hospital: hospital.app()),
    "altered by one byte": ("E_APP", _altered),
    "altered by one bit of the archive": ("E_APP", _bit_of_the_archive),
    "approval revoked": ("E_APP", _revoked),
    "rejected": ("E_APP", _rejected),
    "an older version": ("E_APP", _older),
    "an entry signed by a stranger": ("E_APPROVALS", _signed_by_a_stranger),
    "an entry changed by hand": ("E_APPROVALS", _changed_by_hand),
    "a list from before the revocation": ("E_APPROVALS", _list_of_yesterday),
    "code under the name of ours": ("E_APP", lambda hospital: bundle({"client/app.py": hospital.code(1)}, component="client.app:app")),
    "code beside the name of ours": ("E_APP", lambda hospital: bundle({"sitecustomize.py": hospital.code(1)}, component="client.app:app")),
    "the name of another app": ("E_APP", lambda hospital: bundle({"README.md": b"x"}, component="os:system")),
    "a name that leads out": ("E_APP", lambda hospital: bundle({"../../marker.md": b"x"}, component="client.app:app")),
    "a name that leads out further down": ("E_APP", lambda hospital: bundle({"a/../../../marker.md": b"x"}, component="client.app:app")),
    "a name from the root": ("E_APP", lambda hospital: bundle({f"{hospital.marker}.md": b"x"}, component="client.app:app")),
    "a name with backslashes": ("E_APP", lambda hospital: bundle({"..\\..\\marker.md": b"x"}, component="client.app:app")),
    "two descriptions": (
        "E_APP",
        lambda hospital: bundle({"README.md": b"x"}, component="os:system", again={"pyproject.toml": _ours()}),
    ),
}


def _ours() -> bytes:
    app = {"publisher": "shop", "components": {"serverapp": "server.app:app", "clientapp": "client.app:app"}}
    document = {"project": {"name": "visitor", "version": "1.0.0", "license": "Apache-2.0"}, "tool": {"flwr": {"app": app}}}
    return tomli_w.dumps(document).encode()


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_app_never_runs(name: str, hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    code, prepared = REFUSED[name]
    content = prepared(hospital)
    before = set(hospital.marker.parent.iterdir())
    with pytest.raises(Refused) as refused:
        offer(content, monkeypatch)
    assert refused.value.code == code
    assert not hospital.marker.exists()
    assert set(hospital.marker.parent.iterdir()) == before, "nothing is unpacked, here or elsewhere"
    last = AuditLog(hospital.folder).entries()[-1]
    assert (last["event"], last["reason"], last["digest"]) == ("app refused", code, sha256(content))


@pytest.mark.parametrize("name", ["../../marker.md", "a/../../../marker.md", "/tmp/fedild-marker.md"])
def test_not_even_an_approved_app_writes_outside_its_folder(name: str, hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    content = bundle({"visitor.py": hospital.code(1), name: b"x"})
    hospital.decide("approved", content)
    with pytest.raises(click.ClickException, match="Unsafe path"):
        offer(content, monkeypatch)
    assert not hospital.marker.exists()
    assert not (hospital.marker.parent / "marker.md").exists()
    assert not Path("/tmp/fedild-marker.md").exists()
