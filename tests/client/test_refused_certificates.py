"""A server's certificate that is not in order, shown by the real door: no site goes on, within seconds, and both `doctor` and the reason that
`status` gives name the cause. Nothing of a request is sent: behind the door nobody is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.doctor import CHECKS, Subject
from client.identity import join, make_site
from client.link import why_refused
from client.site import Link, Site
from tests.client.papers import authority_pem, server_files, write_kit
from tests.client.sites import table_site
from tests.server.test_door import QUICK, Place, Seen, open_door

SOON_S = 10.0

CASES = {
    "of another authority": ({}, "authority"),
    "signed by itself": ({"self_signed": True}, "authority"),
    "for another host": ({"host": "other.example"}, "another name"),
    "expired": ({"days": -1}, "expired"),
    "not yet valid": ({"since_days": -1}, "not valid yet"),
}
"""How the server's certificate is made, and the words that name the cause."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = table_site(tmp_path, "alpha").parent
    join(folder, write_kit(tmp_path / "kit.json", make_site(folder, "alpha")))
    return folder


def shown(name: str, folder: Path) -> Iterator[Place]:
    settings, _ = CASES[name]
    server_files(folder, **settings)
    if name == "of another authority":
        from tests.client import papers

        papers.authority.cache_clear()
        server_files(folder)
    (folder / "ca.crt").write_text(authority_pem())  # the door's own way to the SuperLink, which nobody reaches here
    with open_door(folder, Seen(), QUICK, 9) as door:
        yield door


def subject_of(folder: Path, port: int) -> Subject:
    settings = Site.load(folder / "site.toml")
    return Subject(folder, settings.model_copy(update={"server": Link(address=f"localhost:{port}", name="lungs")}))


@pytest.mark.parametrize("name", CASES)
def test_a_site_does_not_go_on_and_says_why(name: str, site: Path, tmp_path: Path) -> None:
    doors = shown(name, tmp_path / "door")
    door = next(doors)
    began = time.monotonic()
    finding = CHECKS["certificate"](subject_of(site, door.port))
    reason = why_refused(f"localhost:{door.port}", site / "secrets" / "ca.crt")
    assert time.monotonic() - began < SOON_S
    assert finding.grade == "fault"
    assert CASES[name][1] in finding.remedy
    assert CASES[name][1] in reason
    assert door.seen.requests == []
    next(doors, None)


def test_a_certificate_in_order_is_taken(site: Path, tmp_path: Path) -> None:
    (tmp_path / "door").mkdir()
    server_files(tmp_path / "door", since_days=1)
    (tmp_path / "door" / "ca.crt").write_text(authority_pem())
    with open_door(tmp_path / "door", Seen(), QUICK, 9) as door:
        assert CHECKS["certificate"](subject_of(site, door.port)).grade != "fault"
