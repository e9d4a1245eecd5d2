"""The peers' keys at a site: listed, kept, and changed by a person alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from client.audit import AuditLog
from client.identity import make_site
from client.privacy.secure_sum.peers import Peers
from shared_models.core.errors import BadInput, Refused
from shared_models.secure_sum.roster import certify
from shared_models.signing import public_half
from sim.cli import main
from tests.client.papers import CONSORTIUM, write_kit


def fedild(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fedild", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_a_new_key_counts_once_a_person_has_forgotten_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kit(tmp_path / "kit.json", make_site(tmp_path, "alpha"))
    keys = {name: public_half(os.urandom(32)) for name in ("alpha", "beta", "gamma")}
    peers = Peers(tmp_path)
    assert peers.known() == {}
    peers.accept(certify("one", keys, CONSORTIUM), run="one")
    renewed = {**keys, "beta": public_half(os.urandom(32))}
    with pytest.raises(Refused, match="fedild site peers forget beta") as refused:
        peers.accept(certify("two", renewed, CONSORTIUM), run="two")
    assert refused.value.code == "E_PEER_KEY"
    with pytest.raises(BadInput, match="alpha, beta, gamma"):
        peers.forget("delta")

    assert fedild(monkeypatch, "site", "peers", "--folder", str(tmp_path)) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [[name, key] for name, key in sorted(keys.items())]
    assert fedild(monkeypatch, "site", "peers", "forget", "beta", "--folder", str(tmp_path)) == 0
    peers.accept(certify("two", renewed, CONSORTIUM), run="two")
    assert peers.known() == renewed
    noted = [(entry["event"], entry["digest"]) for entry in AuditLog(tmp_path).entries() if entry.get("name") == "beta"]
    assert noted == [("peer", keys["beta"]), ("peer forgotten", keys["beta"]), ("peer", renewed["beta"])]
    assert peers.path.stat().st_mode & 0o077 == 0
