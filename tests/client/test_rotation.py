"""A change of keys: the old ones serve until the kit comes, the old key speaks for the new ones, and no moment of it can be cut badly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.audit import AuditLog
from client.cli import app
from client.identity import check_keys, join, make_site, own_fingerprint, rotate
from client.site import Site
from shared_models.core.errors import BadInput, Refused
from shared_models.papers import Request, read_request, signed
from shared_models.signing import public_half, signing_key
from tests.client.papers import kit_for, write_kit


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "a"
    request = make_site(folder, "alpha")
    join(folder, write_kit(tmp_path / "kit.json", request))
    return folder


def secrets_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "secrets").iterdir() if path.name.startswith(("node", "signing", "approver"))}


def test_the_whole_change(site: Path, tmp_path: Path) -> None:
    old, before = own_fingerprint(site), secrets_of(site)
    request = rotate(site)
    assert read_request(site / "request.json") == request
    assert own_fingerprint(site) == old != request.fingerprint
    assert {name: data for name, data in secrets_of(site).items() if not name.endswith(".new")} == before
    assert {path.stat().st_mode & 0o777 for path in (site / "secrets").glob("*.new")} == {0o600}
    assert request.replaces is not None
    assert request.replaces.signing_key == public_half(signing_key(site / "secrets" / "signing.key"))

    join(site, write_kit(tmp_path / "kit.json", request))
    after = secrets_of(site)
    assert own_fingerprint(site) == request.fingerprint
    assert set(after) == set(before)  # nothing of the change is left lying about
    assert after["approver.key"] == before["approver.key"]
    assert {name for name in after if after[name] == before[name]} == {"approver.key"}
    assert after["node.pub"].decode() == f"{request.public_key} alpha\n"
    assert {path.stat().st_mode & 0o777 for path in (site / "secrets").glob("*.key")} == {0o600}
    check_keys(site)


def test_asked_again_it_is_the_same_request(site: Path) -> None:
    first, second = rotate(site), rotate(site)
    assert (first.public_key, first.signing_key) == (second.public_key, second.signing_key)


@pytest.mark.parametrize("part", ["public_key", "signing_key", "name", "replaces"])
def test_the_old_key_speaks_for_exactly_these(part: str, site: Path, tmp_path: Path) -> None:
    rotate(site)
    other = make_site(tmp_path / "b", "beta")
    new = signing_key(site / "secrets" / "signing.key.new")
    document = json.loads((site / "request.json").read_text())
    changed: dict[str, Any] = {**document, part: getattr(other, part)}
    if part == "replaces":
        changed["replaces"] = {**document["replaces"], "signing_key": other.signing_key}
    path = tmp_path / "request.json"
    path.write_text(json.dumps(signed(changed, new)))
    with pytest.raises(Refused):
        read_request(path)


def test_a_kit_for_the_old_keys_changes_nothing(site: Path, tmp_path: Path) -> None:
    old = own_fingerprint(site)
    request = read_request(site / "request.json")
    waiting = rotate(site).fingerprint
    join(site, write_kit(tmp_path / "kit.json", request, address="other.example:443"))
    assert (own_fingerprint(site), own_fingerprint(site, ".new")) == (old, waiting)
    assert Site.load(site / "site.toml").server.address == "other.example:443"  # type: ignore[union-attr]


@pytest.mark.parametrize("fault", ["another site", "another consortium"])
def test_a_kit_that_is_refused_leaves_the_old_keys(fault: str, site: Path, tmp_path: Path) -> None:
    old, request = own_fingerprint(site), rotate(site)
    kit = kit_for(request)
    if fault == "another site":
        kit = kit_for(make_site(tmp_path / "b", "alpha"))
    else:
        kit = signed({**kit, "signing_key": public_half(b"x" * 32)}, b"x" * 32)
    (tmp_path / "kit.json").write_text(json.dumps(kit))
    with pytest.raises(Refused):
        join(site, tmp_path / "kit.json")
    assert own_fingerprint(site) == old


class Killed(BaseException):
    pass


def killed_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Make the `call`-th file that is written or renamed the end of the process."""
    left, rename = [call], Path.replace

    def replace(path: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_killed_while_the_keys_are_made(call: int, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = own_fingerprint(site)
    with monkeypatch.context() as patch:
        killed_at(patch, call)
        with pytest.raises(Killed):
            rotate(site)
    check_keys(site)
    assert own_fingerprint(site) == old
    assert rotate(site) == read_request(site / "request.json")


@pytest.mark.parametrize("call", range(1, 7))
def test_killed_while_the_keys_change(call: int, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, request = own_fingerprint(site), rotate(site)
    kit = write_kit(tmp_path / "kit.json", request)
    with monkeypatch.context() as patch:
        killed_at(patch, call)
        with pytest.raises(Killed):
            join(site, kit)
    check_keys(site)  # as every program does when it starts
    assert own_fingerprint(site) == (old if call == 1 else request.fingerprint)  # one pair or the other, never half of each
    join(site, kit)
    assert own_fingerprint(site) == request.fingerprint
    assert not list((site / "secrets").glob("*.new"))


def test_nobody_knows_the_old_keys(tmp_path: Path) -> None:
    make_site(tmp_path, "alpha")
    with pytest.raises(BadInput, match="knows the old"):
        rotate(tmp_path)
    assert not list((tmp_path / "secrets").glob("*.new"))


def test_by_the_command(site: Path) -> None:
    said = CliRunner().invoke(app, ["rotate", "--folder", str(site)])
    assert said.exit_code == 0, said.output
    request: Request = read_request(site / "request.json")
    assert request.fingerprint in said.output
    assert AuditLog(site).entries()[-1]["event"] == "rotated"
