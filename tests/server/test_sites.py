"""The register: one site's change touches no other; every wrong request is refused; what a kit says is signed."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.flower import FlowerFailed
from server.folder import ServerFolder, init_folder
from server.sites import approve_site, consortium_fingerprint, invite, on_roster, read_sites, revoke
from shared_models.core.errors import BadInput, FedILDError, Refused
from shared_models.papers import fingerprint, read_kit, read_request, replacing, signed
from shared_models.signing import public_half


class FlowerRegister:
    """Flower's register in a dict: number to name and key."""

    def __init__(self) -> None:
        self.nodes: dict[int, tuple[str, str]] = {}
        self.made = 0
        self.away = self.away_for_unregister = False

    def register(self, server: ServerFolder, *, name: str, public_key: Path) -> int:
        if self.away:
            raise FlowerFailed("away")
        self.made += 1
        self.nodes[self.made] = (name, public_key.read_text().strip())
        return self.made

    def unregister(self, server: ServerFolder, node: int) -> None:
        if self.away or self.away_for_unregister:
            raise FlowerFailed("away")
        del self.nodes[node]


def request_of(name: str, seed: int, **changes: Any) -> dict[str, Any]:
    secret = bytes([seed]) * 32
    key = ec.derive_private_key(seed + 1, ec.SECP384R1()).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    body = {"paper": "request", "version": 1, "name": name, "public_key": key, "signing_key": public_half(secret), "made": "2026-11-22T00:00:00Z"}
    body["fingerprint"] = fingerprint(name, key, body["signing_key"])
    return signed({**body, **changes}, secret)


def rotation_of(name: str, seed: int, old: int) -> dict[str, Any]:
    """A request for new keys that the old signing key speaks for."""
    body = request_of(name, seed)
    return signed({**body, "replaces": replacing(body, bytes([old]) * 32)}, bytes([seed]) * 32)


@pytest.fixture
def server(tmp_path: Path) -> ServerFolder:
    return init_folder(tmp_path / "server", name="consortium", address="fl.example.org:8443")


@pytest.fixture
def flower() -> FlowerRegister:
    return FlowerRegister()


@pytest.fixture
def approve(server: ServerFolder, flower: FlowerRegister, tmp_path: Path) -> Callable[..., tuple[str, Path]]:
    def run(document: Any, **more: Any) -> tuple[str, Path]:
        path = tmp_path / "request.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return approve_site(server, path, register=flower.register, unregister=flower.unregister, **more)

    return run


def test_an_approved_site_is_registered_and_gets_a_signed_kit(server: ServerFolder, flower: FlowerRegister, approve: Callable) -> None:
    request = request_of("alpha", 1)
    found, kit_file = approve(request)
    assert found == request["fingerprint"]
    assert flower.nodes == {1: ("alpha", f"{request['public_key']} alpha")}
    kit = read_kit(kit_file)
    assert (kit.name, kit.address, kit.consortium, kit.fingerprint) == ("alpha", "fl.example.org:8443", "consortium", found)
    assert kit.ca == (server.secrets / "ca.crt").read_text()
    assert fingerprint(kit.ca, kit.signing_key) == consortium_fingerprint(server)
    entry = read_sites(server)["alpha"]
    assert (entry.state, entry.node_id, entry.signing_key) == ("approved", "1", request["signing_key"])
    assert stat.S_IMODE((server.path / "sites.json").stat().st_mode) == 0o600


def test_no_secret_is_in_kit_or_register(server: ServerFolder, approve: Callable) -> None:
    _, kit = approve(request_of("alpha", 1))
    said = kit.read_text() + (server.path / "sites.json").read_text()
    for name in ("signing.key", "superexec.secret"):
        assert (server.secrets / name).read_text().strip() not in said
    assert "PRIVATE" not in said


def test_one_sites_change_touches_no_other(server: ServerFolder, flower: FlowerRegister, approve: Callable) -> None:
    approve(request_of("alpha", 1))
    approve(request_of("beta", 2))
    before, kit = read_sites(server)["alpha"], (server.path / "kits" / "alpha.json").read_bytes()
    invite(server, "gamma")
    approve(request_of("gamma", 3))
    revoke(server, "beta", unregister=flower.unregister)
    approve(request_of("beta", 4))
    assert read_sites(server)["alpha"] == before
    assert (server.path / "kits" / "alpha.json").read_bytes() == kit
    assert {name for name, _ in flower.nodes.values()} == {"alpha", "beta", "gamma"}
    assert flower.made == 4


def test_the_same_request_again_only_writes_the_kit_again(server: ServerFolder, flower: FlowerRegister, approve: Callable) -> None:
    _, kit = approve(request_of("alpha", 1))
    kit.unlink()
    _, again = approve(request_of("alpha", 1))
    assert again.exists()
    assert flower.made == 1


def _no_hex(document: dict) -> dict:
    return {**document, "signing_key": "xx"}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({**request_of("alpha", 1), "name": "beta"}, "E_FINGERPRINT"),
        ({**request_of("alpha", 1), "public_key": request_of("alpha", 2)["public_key"]}, "E_FINGERPRINT"),
        ({**request_of("alpha", 1), "signing_key": request_of("alpha", 2)["signing_key"]}, "E_FINGERPRINT"),
        ({**request_of("alpha", 1), "made": "2027-01-01T00:00:00Z"}, "E_SIGNATURE"),
        ({**request_of("alpha", 1), "signature": "00" * 64}, "E_SIGNATURE"),
        ({**request_of("alpha", 1), "signature": request_of("alpha", 2)["signature"]}, "E_SIGNATURE"),
        (_no_hex(request_of("alpha", 1)), "E_EXPERIMENT"),
        ({**request_of("alpha", 1), "extra": 1}, "E_EXPERIMENT"),
        ({**request_of("alpha", 1), "paper": "kit"}, "E_EXPERIMENT"),
        ({**request_of("alpha", 1), "version": 2}, "E_EXPERIMENT"),
        (request_of("../alpha", 1), "E_EXPERIMENT"),
        (request_of("alpha", 1, public_key="ssh-rsa AAAA"), "E_EXPERIMENT"),
        ({k: v for k, v in request_of("alpha", 1).items() if k != "signature"}, "E_EXPERIMENT"),
        ("not json", "E_INPUT"),
        ("[]", "E_INPUT"),
        ("{" + " " * 70000 + "}", "E_INPUT"),
    ],
)
def test_a_wrong_request_registers_nothing(server: ServerFolder, flower: FlowerRegister, approve: Callable, bad: Any, code: str) -> None:
    with pytest.raises(FedILDError) as found:
        approve(bad)
    assert found.value.code == code
    assert not flower.nodes
    assert not read_sites(server)
    assert not list((server.path / "kits").iterdir())


def test_the_fingerprint_on_the_telephone_must_be_that_of_the_request(flower: FlowerRegister, approve: Callable) -> None:
    request = request_of("alpha", 1)
    with pytest.raises(Refused) as found:
        approve(request, expected=request_of("alpha", 2)["fingerprint"])
    assert found.value.code == "E_FINGERPRINT"
    assert not flower.nodes
    approve(request, expected=request["fingerprint"].upper().replace("-", " "))
    assert len(flower.nodes) == 1


def test_a_name_and_a_key_belong_to_one_site(flower: FlowerRegister, approve: Callable) -> None:
    approve(request_of("alpha", 1))
    for taken in (request_of("alpha", 2), request_of("beta", 1)):
        with pytest.raises(Refused) as found:
            approve(taken)
        assert found.value.code == "E_TAKEN"
    assert flower.made == 1


def test_a_site_that_rotates_its_keys_keeps_its_name_and_touches_no_other(server: ServerFolder, flower: FlowerRegister, approve: Callable) -> None:
    approve(request_of("alpha", 1))
    approve(request_of("beta", 2))
    beta, kit = read_sites(server)["beta"], (server.path / "kits" / "beta.json").read_bytes()
    new = rotation_of("alpha", 3, old=1)
    found, paper = approve(new, expected=new["fingerprint"])
    entry = read_sites(server)["alpha"]
    assert (entry.state, entry.fingerprint, entry.signing_key, entry.leaving) == ("approved", found, new["signing_key"], "")
    assert flower.nodes == {2: ("beta", f"{beta.public_key} beta"), 3: ("alpha", f"{new['public_key']} alpha")}
    assert entry.node_id == "3"
    assert read_kit(paper).fingerprint == found
    assert read_sites(server)["beta"] == beta
    assert (server.path / "kits" / "beta.json").read_bytes() == kit
    assert on_roster(server, ["alpha", "beta"]) == ["alpha", "beta"]
    approve(new)  # the same paper again only writes the kit
    assert flower.made == 3


def test_a_change_of_the_signing_key_alone_keeps_the_node(server: ServerFolder, flower: FlowerRegister, approve: Callable) -> None:
    first = request_of("alpha", 1)
    approve(first)
    body = {**request_of("alpha", 4), "public_key": first["public_key"]}
    body["fingerprint"] = fingerprint("alpha", body["public_key"], body["signing_key"])
    approve(signed({**body, "replaces": replacing(body, bytes([1]) * 32)}, bytes([4]) * 32))
    assert list(flower.nodes) == [1]
    assert read_sites(server)["alpha"].signing_key == body["signing_key"]


def _for_other_keys(new: dict[str, Any]) -> dict[str, Any]:
    return signed({**request_of("alpha", 4), "replaces": new["replaces"]}, bytes([4]) * 32)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (rotation_of("alpha", 3, old=2), "E_TAKEN"),  # another site's key speaks
        (rotation_of("alpha", 3, old=3), "E_TAKEN"),  # the new key speaks for itself
        ({**rotation_of("alpha", 3, old=1), "replaces": None}, "E_SIGNATURE"),  # taken out
        (_for_other_keys(rotation_of("alpha", 3, old=1)), "E_SIGNATURE"),  # put into a thief's request
        (_for_other_keys(rotation_of("beta", 4, old=1)), "E_SIGNATURE"),  # for another name
        ({**rotation_of("alpha", 3, old=1), "replaces": {"signing_key": "00" * 32}}, "E_EXPERIMENT"),
    ],
)
def test_only_the_registered_key_speaks_for_new_ones(flower: FlowerRegister, server: ServerFolder, approve: Callable, bad: Any, code: str) -> None:
    approve(request_of("alpha", 1))
    approve(request_of("beta", 2))
    before, nodes = (server.path / "sites.json").read_bytes(), dict(flower.nodes)
    with pytest.raises(FedILDError) as found:
        approve(bad)
    assert found.value.code == code
    assert (server.path / "sites.json").read_bytes() == before
    assert flower.nodes == nodes


def test_an_old_rotation_is_not_replayed(flower: FlowerRegister, approve: Callable) -> None:
    approve(request_of("alpha", 1))
    approve(rotation_of("alpha", 3, old=1))
    approve(rotation_of("alpha", 5, old=3))
    with pytest.raises(Refused) as found:
        approve(rotation_of("alpha", 3, old=1))
    assert found.value.code == "E_TAKEN"
    assert list(flower.nodes) == [3]


def test_a_rotation_that_broke_off_is_ended_by_the_same_request(server: ServerFolder, flower: FlowerRegister, approve: Callable) -> None:
    approve(request_of("alpha", 1))
    flower.away_for_unregister = True
    with pytest.raises(FlowerFailed):
        approve(rotation_of("alpha", 3, old=1))
    assert sorted(flower.nodes) == [1, 2]
    flower.away_for_unregister = False
    approve(rotation_of("alpha", 3, old=1))
    assert list(flower.nodes) == [2]
    assert (read_sites(server)["alpha"].node_id, read_sites(server)["alpha"].leaving) == ("2", "")


def test_a_revoked_site_is_out_until_it_is_approved_again(server: ServerFolder, flower: FlowerRegister, approve: Callable) -> None:
    _, kit = approve(request_of("alpha", 1))
    revoke(server, "alpha", unregister=flower.unregister)
    revoke(server, "alpha", unregister=flower.unregister)  # twice is once
    assert not flower.nodes
    assert not kit.exists()
    assert read_sites(server)["alpha"].state == "revoked"
    with pytest.raises(BadInput):
        on_roster(server, ["alpha"])
    approve(request_of("alpha", 5))
    assert on_roster(server, ["alpha"]) == ["alpha"]


def test_a_superlink_that_is_away_changes_nothing(server: ServerFolder, flower: FlowerRegister, approve: Callable) -> None:
    approve(request_of("alpha", 1))
    before = (server.path / "sites.json").read_bytes()
    flower.away = True
    with pytest.raises(FlowerFailed):
        approve(request_of("beta", 2))
    with pytest.raises(FlowerFailed):
        revoke(server, "alpha", unregister=flower.unregister)
    assert (server.path / "sites.json").read_bytes() == before


@pytest.mark.parametrize("name", ["", "1a", "a/b", "a b", "a" * 65, "ä"])
def test_a_sites_name_is_plain(server: ServerFolder, name: str) -> None:
    with pytest.raises(BadInput):
        invite(server, name)


def test_a_taken_name_is_not_invited_twice(server: ServerFolder) -> None:
    invite(server, "alpha")
    with pytest.raises(BadInput):
        invite(server, "alpha")


@pytest.mark.parametrize("wanted", [[], ["alpha", "alpha"], ["alpha", "beta"], ["gamma"], [""]])
def test_a_roster_names_approved_sites_once(server: ServerFolder, approve: Callable, wanted: list[str]) -> None:
    approve(request_of("alpha", 1))
    invite(server, "beta")
    with pytest.raises(BadInput):
        on_roster(server, wanted)


def test_a_kit_that_was_altered_is_noticed(approve: Callable, tmp_path: Path) -> None:
    _, path = approve(request_of("alpha", 1))
    kit = json.loads(path.read_text())
    for change in ({"address": "evil.example.org:8443"}, {"name": "beta"}, {"ca": kit["ca"].replace("A", "B", 1)}, {"fingerprint": "x"}):
        (tmp_path / "bad.json").write_text(json.dumps({**kit, **change}))
        with pytest.raises(FedILDError):
            read_kit(tmp_path / "bad.json")


def test_papers_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        read_request(tmp_path / "none.json")
