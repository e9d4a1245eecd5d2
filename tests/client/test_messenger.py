"""The look at an app bundle before it is unpacked: descriptions pass, code passes only when exactly its bytes were approved."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import tomli_w

from client.approval import Approvals
from client.audit import AuditLog
from client.identity import make_site
from client.messenger import check_bundle, is_codeless
from shared_models.core.errors import Refused
from shared_models.core.files import sha256

COMPONENTS = {"serverapp": "server.app:app", "clientapp": "client.app:app"}


def bundle(files: dict[str, bytes] | None = None, components: dict[str, str] | None = None) -> bytes:
    document = {"project": {"name": "x"}, "tool": {"flwr": {"app": {"components": components or COMPONENTS}}}}
    content = {"pyproject.toml": tomli_w.dumps(document).encode(), "README.md": b"x", ".info/CONTENT": b"", **(files or {})}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file.getvalue()


REFUSED = {
    "our client app shadowed": bundle({"client/app.py": b"app = 1"}),
    "any module": bundle({"x.py": b""}),
    "compiled": bundle({"client/app.pyc": b""}),
    "extension": bundle({"torch.so": b""}),
    "no ending": bundle({"client/app": b""}),
    "path hook": bundle({"x.pth": b"import os"}),
    "another component": bundle(components={"clientapp": "os:system"}),
    "no component": bundle(components={"serverapp": "server.app:app"}),
    "no archive": b"nonsense",
    "empty": b"",
    "no description": zipfile and b"PK\x05\x06" + bytes(18),
    "bomb": bundle({"README.md": b"0" * (21 << 20)}),
}


def test_a_bundle_without_code_passes(tmp_path: Path) -> None:
    make_site(tmp_path, "alpha")
    assert is_codeless(bundle())
    check_bundle(bundle(), tmp_path)
    assert AuditLog(tmp_path).entries() == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    make_site(tmp_path, "alpha")
    content = REFUSED[name]
    with pytest.raises(Refused) as refused:
        check_bundle(content, tmp_path)
    assert refused.value.code == "E_APP"
    assert [entry["event"] for entry in AuditLog(tmp_path).entries()] == ["app refused"]


def test_an_approved_bundle_passes_until_it_is_revoked_or_altered(tmp_path: Path) -> None:
    make_site(tmp_path, "alpha")
    old, new = bundle({"x.py": b"1"}), bundle({"x.py": b"2"})
    approvals = Approvals(tmp_path)
    approvals.decide("approved", kind="app", name="shop.tool", digest=sha256(old))
    check_bundle(old, tmp_path)
    with pytest.raises(Refused):
        check_bundle(new, tmp_path)
    approvals.decide("approved", kind="app", name="shop.tool", digest=sha256(new))
    check_bundle(new, tmp_path)
    with pytest.raises(Refused):
        check_bundle(old, tmp_path)  # an older version does not come back
    approvals.decide("revoked", kind="app", name="shop.tool", digest=sha256(new))
    with pytest.raises(Refused):
        check_bundle(new, tmp_path)


def test_flower_has_the_three_names_that_are_replaced() -> None:
    from flwr.supernode.runtime import run_clientapp

    for name in ("install_from_fab", "push_task_output", "Error"):
        assert callable(getattr(run_clientapp, name))
