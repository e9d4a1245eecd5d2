"""Identities: what a certificate says, when it warns, what is refused on disk, what a signature covers."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from server import supervisor
from server.folder import ServerFolder, init_folder, open_folder
from server.identity import (
    CA_DAYS,
    MAY_BE_AWAY,
    SECRETS,
    SERVER_DAYS,
    WARN_DAYS,
    check_secrets,
    days_left,
    expiry_warnings,
    make_identities,
    make_server_certificate,
    read_certificate,
)
from server.status import server_status
from shared_models.core.errors import BadInput, FedILDError, Refused
from shared_models.core.wording import lines_of


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    make_identities(tmp_path / "secrets", name="consortium", hosts=["fl.example.org", "192.0.2.7"])
    return tmp_path / "secrets"


def test_secrets_are_for_their_owner_alone(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    for name in SECRETS:
        assert stat.S_IMODE((secrets / name).stat().st_mode) == 0o600, name
    check_secrets(secrets)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_an_open_key_file_is_refused(secrets: Path, name: str, mode: int) -> None:
    (secrets / name).chmod(mode)
    with pytest.raises(Refused) as found:
        check_secrets(secrets)
    assert found.value.code == "E_KEY_FILE"


@pytest.mark.parametrize("name", [name for name in SECRETS if name not in MAY_BE_AWAY])
def test_a_missing_key_file_is_refused_but_the_authority_may_be_in_a_safe(secrets: Path, name: str) -> None:
    for away in MAY_BE_AWAY:
        (secrets / away).unlink()
    check_secrets(secrets)
    (secrets / name).unlink()
    with pytest.raises(Refused):
        check_secrets(secrets)


def test_the_certificate_names_the_server_and_this_machine(secrets: Path) -> None:
    certificate = read_certificate(secrets / "server.crt")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.example.org", "localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "127.0.0.1"]
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_authority_signs_leaves_only_and_the_certificate_is_its_own(secrets: Path) -> None:
    authority, certificate = read_certificate(secrets / "ca.crt"), read_certificate(secrets / "server.crt")
    constraint = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraint.critical
    assert (constraint.value.ca, constraint.value.path_length) == (True, 0)
    certificate.verify_directly_issued_by(authority)
    key = authority.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp384r1"


def test_days_are_counted_and_the_warning_comes_weeks_ahead(secrets: Path) -> None:
    left = days_left(read_certificate(secrets / "server.crt"))
    assert SERVER_DAYS - 0.1 < left <= SERVER_DAYS
    now = datetime.datetime.now(datetime.UTC)
    assert expiry_warnings(secrets, now=now) == []
    before = now + datetime.timedelta(days=SERVER_DAYS - WARN_DAYS["server.crt"] - 1)
    assert expiry_warnings(secrets, now=before) == []
    soon = expiry_warnings(secrets, now=now + datetime.timedelta(days=SERVER_DAYS - 20))
    assert len(soon) == 1
    assert "server.crt expires in 20 days" in soon[0]
    assert "has expired" in expiry_warnings(secrets, now=now + datetime.timedelta(days=SERVER_DAYS + 1))[0]


def test_the_authority_is_announced_earlier_than_the_certificate(secrets: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    make_server_certificate(secrets, hosts=["fl.example.org"], days=CA_DAYS)  # lives as long: only the thresholds differ
    assert expiry_warnings(secrets, now=now + datetime.timedelta(days=CA_DAYS - 91)) == []
    (soon,) = expiry_warnings(secrets, now=now + datetime.timedelta(days=CA_DAYS - 60))
    assert soon.startswith("ca.crt expires in 60 days")
    assert len(expiry_warnings(secrets, now=now + datetime.timedelta(days=CA_DAYS - 10))) == 2


@pytest.mark.parametrize(("days", "warned"), [(31, False), (29, True), (0, True)])
def test_status_and_up_warn_of_a_certificate_that_is_about_to_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, warned: bool
) -> None:
    server = init_folder(tmp_path / "server", name="consortium", address="fl.example.org:8443")
    make_server_certificate(server.secrets, hosts=["fl.example.org"], days=days)
    said = server_status(server)
    assert said["certificate_days"] == days
    assert bool(said["warnings"]) == warned
    assert any("fedild server renew" in line for line in said["warnings"]) == warned
    assert ("server.crt" in "\n".join(lines_of(said))) == warned
    monkeypatch.setattr(supervisor.Supervisor, "run", lambda self: None)
    monkeypatch.setattr(supervisor.os, "umask", lambda mask: 0o077)
    supervisor.supervise(server)
    assert ("fedild server renew" in (server.path / "logs" / "runs.log").read_text()) == warned


def test_the_superlinks_own_certificate_names_this_machine_alone_and_outlives_every_renewal(secrets: Path) -> None:
    own = read_certificate(secrets / "superlink.crt")
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert CA_DAYS - 2 < days_left(own) < days_left(read_certificate(secrets / "ca.crt"))
    before = (secrets / "superlink.crt").read_bytes()
    make_server_certificate(secrets, hosts=["fl.example.org"])
    assert (secrets / "superlink.crt").read_bytes() == before


def test_a_renewed_certificate_is_of_the_same_authority(secrets: Path) -> None:
    before, authority = (secrets / "server.crt").read_bytes(), (secrets / "ca.crt").read_bytes()
    make_server_certificate(secrets, hosts=["fl.example.org"])
    assert (secrets / "server.crt").read_bytes() != before
    assert (secrets / "ca.crt").read_bytes() == authority
    read_certificate(secrets / "server.crt").verify_directly_issued_by(read_certificate(secrets / "ca.crt"))
    assert stat.S_IMODE((secrets / "server.key").stat().st_mode) == 0o600


def test_another_authoritys_key_signs_nothing(secrets: Path, tmp_path: Path) -> None:
    make_identities(tmp_path / "other", name="other", hosts=["x"])
    (secrets / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(Refused):
        make_server_certificate(secrets, hosts=["fl.example.org"])


def test_keys_are_never_overwritten(secrets: Path) -> None:
    before = (secrets / "signing.key").read_bytes()
    with pytest.raises(BadInput):
        make_identities(secrets, name="again", hosts=["x"])
    assert (secrets / "signing.key").read_bytes() == before


def test_a_damaged_certificate_is_named(secrets: Path) -> None:
    (secrets / "server.crt").write_text("-----BEGIN CERTIFICATE-----\nno\n")
    with pytest.raises(BadInput, match=r"server\.crt"):
        read_certificate(secrets / "server.crt")


# --- the folder around them ---


@pytest.fixture
def server(tmp_path: Path) -> ServerFolder:
    return init_folder(tmp_path / "server", name="consortium", address="fl.example.org:8443")


def test_a_new_folder_opens_with_its_settings(server: ServerFolder) -> None:
    again = open_folder(server.path)
    assert again == server
    assert again.settings.server.address == "fl.example.org:8443"
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("address", ["", "host", "host:0", "host:70000", "host:x", "a b:1", "https://host:1", "host:1/x"])
def test_an_address_is_host_and_port(tmp_path: Path, address: str) -> None:
    with pytest.raises(FedILDError):
        init_folder(tmp_path / "server", name="consortium", address=address)
    assert not (tmp_path / "server").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(BadInput):
        init_folder(tmp_path, name="consortium", address="a:1")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_open_folder_of_secrets_is_refused(server: ServerFolder) -> None:
    server.secrets.chmod(0o755)
    with pytest.raises(Refused, match="chmod 700"):
        open_folder(server.path)


def test_unknown_settings_are_named(server: ServerFolder) -> None:
    with open(server.path / "server.toml", "a", encoding="utf-8") as file:
        file.write("\n[server2]\nx = 1\n")
    with pytest.raises(BadInput, match="server2"):
        open_folder(server.path)


@pytest.mark.parametrize("run", ["../x", "", ".", "a/b", "nosuchrun"])
def test_a_runs_folder_is_inside(server: ServerFolder, run: str) -> None:
    with pytest.raises(BadInput):
        server.run_folder(run)
