"""Keys are made on the spot, never overwritten, for their owner alone; a kit is taken only when it is for these keys and unaltered."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from client.identity import check_keys, join, make_site, own_fingerprint, with_server
from client.site import Site
from shared_models.core.errors import BadExperiment, BadInput, Refused
from shared_models.papers import Kit, read_kit, read_request, signed
from shared_models.signing import public_half
from tests.client.papers import CONSORTIUM, kit_for, write_kit


def test_a_new_site(tmp_path: Path) -> None:
    request = make_site(tmp_path / "a", "alpha")
    assert read_request(tmp_path / "a" / "request.json") == request
    assert request.fingerprint == own_fingerprint(tmp_path / "a")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "secrets").iterdir()}
    assert {name: mode for name, mode in modes.items() if name.endswith(".key")} == dict.fromkeys(("node.key", "signing.key", "approver.key"), 0o600)
    assert (tmp_path / "a" / "secrets").stat().st_mode & 0o777 == 0o700
    assert Site.load(tmp_path / "a" / "site.toml").site.name == "alpha"
    sent = (tmp_path / "a" / "request.json").read_text()
    assert "PRIVATE" not in sent
    for name in ("signing.key", "approver.key"):
        assert (tmp_path / "a" / "secrets" / name).read_text().strip() not in sent


def test_flower_reads_the_node_key(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    make_site(tmp_path / "a", "alpha")
    key = load_ssh_private_key((tmp_path / "a" / "secrets" / "node.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP384R1)


def test_two_sites_never_share_a_key(tmp_path: Path) -> None:
    a, b = make_site(tmp_path / "a", "alpha"), make_site(tmp_path / "b", "alpha")
    assert a.public_key != b.public_key
    assert a.signing_key != b.signing_key
    assert a.fingerprint != b.fingerprint


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    before = make_site(tmp_path / "a", "alpha")
    with pytest.raises(BadInput, match="never overwritten"):
        make_site(tmp_path / "a", "alpha")
    assert own_fingerprint(tmp_path / "a") == before.fingerprint


def test_an_existing_site_toml_is_kept(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('[site]\nname = "alpha"\npatches = "p.npz"\n')
    with pytest.raises(BadInput, match="name must be that"):
        make_site(tmp_path, "beta")
    make_site(tmp_path, "alpha")
    assert Site.load(tmp_path / "site.toml").site.patches == "p.npz"


@pytest.mark.parametrize("name", ["", "1a", "a/b", "../a", "a b", "a" * 65, "a\n"])
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        make_site(tmp_path / "a", name)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["node.key", "signing.key", "approver.key"])
@pytest.mark.parametrize("fault", ["open", "missing", "damaged", "link"])
def test_keys_that_are_refused(name: str, fault: str, tmp_path: Path) -> None:
    make_site(tmp_path, "alpha")
    path = tmp_path / "secrets" / name
    if fault == "open":
        path.chmod(0o640)
    elif fault == "missing":
        path.unlink()
    elif fault == "link":
        path.unlink()
        path.mkdir(mode=0o700)
    else:
        path.write_bytes(b"nonsense")
        path.chmod(0o600)
    with pytest.raises(Refused) as refused:
        check_keys(tmp_path)
    assert refused.value.code == "E_KEY_FILE"


def test_joining(tmp_path: Path) -> None:
    request = make_site(tmp_path / "a", "alpha")
    join(tmp_path / "a", write_kit(tmp_path / "kit.json", request))
    site = Site.load(tmp_path / "a" / "site.toml")
    assert site.server is not None
    assert (site.server.address, site.server.name) == ("localhost:9443", "lungs")
    assert (tmp_path / "a" / "secrets" / "ca.crt").read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert read_kit(tmp_path / "a" / "kit.json").name == "alpha"


def test_a_later_kit_moves_the_address(tmp_path: Path) -> None:
    request = make_site(tmp_path / "a", "alpha")
    join(tmp_path / "a", write_kit(tmp_path / "kit.json", request))
    join(tmp_path / "a", write_kit(tmp_path / "kit.json", request, address="other.example:443"))
    text = (tmp_path / "a" / "site.toml").read_text()
    assert text.count("[server]") == 1
    assert "min_cases = 10" in text  # what the site wrote stays
    assert Site.load(tmp_path / "a" / "site.toml").server.address == "other.example:443"  # type: ignore[union-attr]


BAD = {
    "altered": ("E_SIGNATURE", lambda kit, _: {**kit, "address": "evil.example:443"}),
    "unsigned": ("E_SIGNATURE", lambda kit, _: {**kit, "signature": "00" * 64}),
    "signed by another": ("E_SIGNATURE", lambda kit, _: {**signed(kit, b"x" * 32), "signing_key": public_half(CONSORTIUM)}),
    "for another site": ("E_FINGERPRINT", lambda kit, _: signed({**kit, "name": "beta"}, CONSORTIUM)),
    "for other keys": ("E_FINGERPRINT", lambda kit, _: signed({**kit, "fingerprint": "0000-1111"}, CONSORTIUM)),
}


@pytest.mark.parametrize("name", BAD)
def test_kits_that_are_refused(name: str, tmp_path: Path) -> None:
    request = make_site(tmp_path / "a", "alpha")
    code, change = BAD[name]
    (tmp_path / "kit.json").write_text(json.dumps(change(kit_for(request), request)))
    with pytest.raises(Refused) as refused:
        join(tmp_path / "a", tmp_path / "kit.json")
    assert refused.value.code == code
    assert not (tmp_path / "a" / "kit.json").exists()
    assert not (tmp_path / "a" / "secrets" / "ca.crt").exists()
    assert Site.load(tmp_path / "a" / "site.toml").server is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe", b'{"paper": "kit"}', b"{" * 100_000])
def test_files_that_are_no_kit(content: bytes, tmp_path: Path) -> None:
    make_site(tmp_path / "a", "alpha")
    (tmp_path / "kit.json").write_bytes(content)
    with pytest.raises((BadInput, BadExperiment)):
        join(tmp_path / "a", tmp_path / "kit.json")


def test_another_consortium_does_not_take_over(tmp_path: Path) -> None:
    request = make_site(tmp_path / "a", "alpha")
    join(tmp_path / "a", write_kit(tmp_path / "kit.json", request))
    other = signed({**kit_for(request), "signing_key": public_half(b"z" * 32)}, b"z" * 32)
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(Refused) as refused:
        join(tmp_path / "a", tmp_path / "other.json")
    assert refused.value.code == "E_CONSORTIUM"
    (tmp_path / "a" / "kit.json").unlink()  # an operator's decision
    join(tmp_path / "a", tmp_path / "other.json")


@pytest.mark.parametrize("toml", ["[site]\nname='a'\n", "[server]\naddress='x:1'\nname='x'\n[site]\nname='a'\n", "[site]\nname='a'\n\n[server]\nx=1"])
def test_the_server_table_is_replaced(toml: str, tmp_path: Path) -> None:
    request = make_site(tmp_path / "a", "alpha")
    kit = Kit.model_validate(kit_for(request))
    text = with_server(toml, kit)
    assert text.count("[server]") == 1
    assert with_server(text, kit) == text
    (tmp_path / "site.toml").write_text(text)
    assert Site.load(tmp_path / "site.toml").site.name == "a"
    assert os.linesep  # the file is plain text
