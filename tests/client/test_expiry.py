"""Certificates that run out are named weeks ahead: by the doctor, in the status, in the log of `up`."""

from __future__ import annotations

import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from client.doctor import CHECKS, Subject
from client.expiry import DAY_S, EVERY_S, ExpiryWatch, authority_days, days_left
from client.identity import join, make_site
from client.link import Answer
from client.site import Site
from client.station import standing
from shared_models.core.errors import Refused
from shared_models.core.supervision import event_log
from tests.client.papers import authority_pem, write_kit


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "a"
    join(folder, write_kit(tmp_path / "kit.json", make_site(folder, "alpha")))
    return folder


def authority_lasts(folder: Path, days: float) -> None:
    (folder / "secrets" / "ca.crt").write_text(authority_pem(days))


def lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "logs" / "up.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def watch(folder: Path, days: float) -> ExpiryWatch:
    return ExpiryWatch(folder, event_log(folder / "logs" / "up.log", "supervisor"), ask=lambda *_: Answer(0.0, days))


@pytest.mark.parametrize(("days", "grade"), [(365, "good"), (91, "good"), (89, "warning"), (1, "warning"), (-1, "fault")])
def test_the_doctor_sees_the_authority(days: float, grade: str, site: Path) -> None:
    authority_lasts(site, days)
    finding = CHECKS["authority"](Subject(site, Site.load(site / "site.toml")))
    assert (finding.grade, finding.found) == (grade, f"{days:.0f} days left")
    assert bool(finding.remedy) == (grade != "good")


@pytest.mark.parametrize(
    ("server", "authority", "named"),
    [(200, 365, set()), (31, 91, set()), (29, 365, {"certificate"}), (200, 89, {"authority"}), (5, 5, {"certificate", "authority"})],
)
def test_log_and_status(server: float, authority: float, named: set[str], site: Path) -> None:
    authority_lasts(site, authority)
    watch(site, server)()
    assert {line["certificate"] for line in lines(site) if line["level"] == "warning"} == named
    now = standing(site)
    assert (now["certificate days"], now["authority days"]) == (server, authority)
    assert ("renew" in now["warnings"], "new authority" in now["warnings"]) == ("certificate" in named, "authority" in named)
    assert (site / "expiry.json").stat().st_mode & 0o777 == 0o600


def test_it_looks_twice_a_day(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, one = watch(site, 5), time.monotonic()
    for later in (0.0, 5.0, EVERY_S - 1):
        monkeypatch.setattr("client.expiry.time.monotonic", lambda later=later: one + later)
        looks()
    assert len(lines(site)) == 1
    monkeypatch.setattr("client.expiry.time.monotonic", lambda: one + EVERY_S + 1)
    looks()
    assert len(lines(site)) == 2


def test_a_server_that_is_away_is_asked_again_soon(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def ask(address: str, authority: Path) -> Answer:
        asked.append(time.monotonic())
        raise ConnectionRefusedError

    looks, one = ExpiryWatch(site, event_log(site / "logs" / "up.log", "supervisor"), ask=ask), time.monotonic()
    looks()
    monkeypatch.setattr("client.expiry.time.monotonic", lambda: one + 700)
    looks()
    assert len(asked) == 2
    assert not lines(site)
    assert "certificate days" not in standing(site)


def test_one_that_has_run_out_already(site: Path) -> None:
    def ask(address: str, authority: Path) -> Answer:
        raise ssl.SSLCertVerificationError(1, "certificate has expired")

    authority_lasts(site, -1)
    ExpiryWatch(site, event_log(site / "logs" / "up.log", "supervisor"), ask=ask)()
    assert ["doctor" in line["warning"] for line in lines(site)] == [True, False]
    assert "-1 days left" in standing(site)["warnings"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"certificate_until": "x"}', b"\xff"])
def test_a_note_that_is_none(content: bytes, site: Path) -> None:
    (site / "expiry.json").write_bytes(content)
    assert set(days_left(site)) == {"authority"}


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_an_authority_that_is_none(content: bytes | None, site: Path) -> None:
    path = site / "secrets" / "ca.crt"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(Refused) as caught:
        authority_days(site)
    assert caught.value.code == "E_AUTHORITY"
    assert days_left(site) == {}


def test_days_are_days(site: Path) -> None:
    authority_lasts(site, 10)
    assert authority_days(site) == pytest.approx(10, abs=60 / DAY_S)
