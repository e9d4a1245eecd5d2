"""What may run: by default nothing; each decision signed, numbered, bound to the code; nothing older counts again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import client.approval
from client.approval import MOST_PENDING, Approvals, code_digest
from client.audit import AuditLog
from client.identity import make_site
from shared_models.core.choices import Choice
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import canonical_json
from shared_models.experiment import Experiment
from shared_models.signing import sign
from tests.client.sites import table_experiment


@pytest.fixture
def site(tmp_path: Path) -> Approvals:
    make_site(tmp_path, "alpha")
    return Approvals(tmp_path)


def approve(site: Approvals, experiment: Experiment, decision: str = "approved") -> None:
    site.decide(decision, kind="experiment", name=experiment.name, digest=experiment.digest)  # type: ignore[arg-type]


def refusal(site: Approvals, experiment: Experiment) -> str:
    with pytest.raises(Refused) as refused:
        site.check_experiment(experiment)
    return refused.value.code


def test_the_default_is_to_refuse_and_to_ask(site: Approvals) -> None:
    experiment = table_experiment()
    assert refusal(site, experiment) == "E_NOT_APPROVED"
    assert [one.digest for one in site.pending()] == [experiment.digest]
    assert site.entries() == []
    approve(site, experiment)
    site.check_experiment(experiment)
    assert site.pending() == []


def test_a_decision_is_for_exactly_these_settings(site: Approvals) -> None:
    approve(site, table_experiment())
    assert refusal(site, table_experiment(rounds=4)) == "E_NOT_APPROVED"
    assert refusal(site, table_experiment(Choice(name="svm"))) == "E_NOT_APPROVED"


@pytest.mark.parametrize("last", ["rejected", "revoked"])
def test_the_last_decision_counts(last: str, site: Approvals) -> None:
    experiment = table_experiment()
    approve(site, experiment)
    approve(site, experiment, last)
    assert refusal(site, experiment) == "E_NOT_APPROVED"
    assert site.pending() == []  # what was decided does not ask again
    approve(site, experiment)
    site.check_experiment(experiment)


def test_other_code_must_be_approved_anew(site: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = table_experiment()
    approve(site, experiment)
    monkeypatch.setattr(client.approval, "code_digest", lambda: "0" * 64)
    assert refusal(site, experiment) == "E_NOT_APPROVED"
    assert len(site.pending()) == 1
    approve(site, experiment)
    site.check_experiment(experiment)
    monkeypatch.undo()  # the old code is put back: its approval was replaced and is not valid again
    assert refusal(site, experiment) == "E_NOT_APPROVED"


def test_the_code_is_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(client.approval.__file__).parents[1]
    for package in ("client", "shared_models"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(client.approval, "__file__", str(tmp_path / "client" / "approval.py"))
    same = code_digest()
    monkeypatch.undo()
    assert same == code_digest()
    monkeypatch.setattr(client.approval, "__file__", str(tmp_path / "client" / "approval.py"))
    gate = tmp_path / "client" / "privacy" / "gate.py"
    gate.write_text(gate.read_text() + "\n")
    assert code_digest() != same
    (tmp_path / "shared_models" / "new.py").write_text("")
    assert code_digest() != same


def _lines(site: Approvals) -> list[bytes]:
    return site.path.read_bytes().splitlines()


def _flip(lines: list[bytes], **_: bytes) -> list[bytes]:
    return [*lines[:-1], lines[-1].replace(b'"decision":"revoked"', b'"decision":"approved"')]


def _foreign(lines: list[bytes], key: bytes = b"q" * 32) -> list[bytes]:
    entry = json.loads(lines[-1])
    entry.pop("signature")
    entry["decision"] = "approved"
    return [*lines[:-1], canonical_json({**entry, "signature": sign(key, canonical_json(entry).encode())}).encode()]


TAMPERINGS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "decision changed": _flip,
    "signed by another key": _foreign,
    "revocation cut off": lambda lines: lines[:-1],
    "old approval appended again": lambda lines: [*lines, lines[0]],
    "old approval in place of the revocation": lambda lines: [lines[0], lines[0]],
    "first line deleted": lambda lines: lines[1:],
    "order changed": lambda lines: lines[::-1],
    "file emptied": lambda lines: [],
    "nonsense": lambda lines: [*lines, b"nonsense"],
    "no signature": lambda lines: [b'{"counter":1}', *lines[1:]],
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_changed_list_allows_nothing(name: str, site: Approvals) -> None:
    experiment, other = table_experiment(), table_experiment(rounds=9)
    approve(site, experiment)
    approve(site, experiment, "revoked")
    lines = TAMPERINGS[name](_lines(site))
    site.path.write_bytes(b"".join(line + b"\n" for line in lines))
    assert refusal(site, experiment) == "E_APPROVALS"
    assert refusal(site, other) == "E_APPROVALS"
    with pytest.raises(Refused):
        approve(site, other)  # nothing is built on it


def test_an_older_copy_of_the_list_counts_for_nothing(site: Approvals) -> None:
    experiment = table_experiment()
    approve(site, experiment)
    older = site.path.read_bytes()
    approve(site, experiment, "revoked")
    site.path.write_bytes(older)
    assert refusal(site, experiment) == "E_APPROVALS"
    site.last.write_text("nonsense")
    assert refusal(site, experiment) == "E_APPROVALS"


def test_a_crash_between_list_and_number(site: Approvals) -> None:
    experiment = table_experiment()
    approve(site, experiment)
    number = site.last.read_bytes()
    approve(site, experiment, "revoked")
    site.last.write_bytes(number)
    assert refusal(site, experiment) == "E_NOT_APPROVED"  # the signed revocation counts
    approve(site, experiment)
    site.check_experiment(experiment)


def test_a_key_open_to_others_allows_nothing(site: Approvals) -> None:
    approve(site, table_experiment())
    (site.folder / "secrets" / "approver.key").chmod(0o644)
    assert refusal(site, table_experiment()) == "E_KEY_FILE"


def test_apps(site: Approvals) -> None:
    assert not site.allows_app("a" * 64)
    site.decide("approved", kind="app", name="shop.tool", digest="a" * 64)
    assert site.allows_app("a" * 64)
    site.decide("approved", kind="app", name="shop.tool", digest="b" * 64)
    assert (site.allows_app("a" * 64), site.allows_app("b" * 64)) == (False, True)  # an older version is not replayable
    site.decide("revoked", kind="app", name="shop.tool", digest="b" * 64)
    assert (site.allows_app("a" * 64), site.allows_app("b" * 64)) == (False, False)


def test_finding_what_is_meant(site: Approvals, tmp_path: Path) -> None:
    experiment = table_experiment()
    refusal(site, experiment)
    assert site.find(experiment.digest[:8]) == ("experiment", "table", experiment.digest)
    assert site.find("table") == ("experiment", "table", experiment.digest)
    approve(site, experiment)
    refusal(site, newer := table_experiment(rounds=5))
    assert site.find("table")[2] == newer.digest  # what waits
    refusal(site, table_experiment(rounds=6))
    for word in ("table", experiment.digest[:7], "nothing", "", str(tmp_path / "no.toml")):
        with pytest.raises(BadInput):
            site.find(word)
    (tmp_path / "shop.tool.1-0.ab12cd34.fab").write_bytes(b"zip")
    kind, name, digest = site.find(str(tmp_path / "shop.tool.1-0.ab12cd34.fab"))
    assert (kind, name, len(digest)) == ("app", "shop.tool", 64)


def test_a_flood_of_questions_fills_no_disk(site: Approvals) -> None:
    for number in range(MOST_PENDING + 5):
        refusal(site, table_experiment(rounds=number + 1))
    assert len(site.pending()) == MOST_PENDING


def test_every_decision_is_audited(site: Approvals) -> None:
    experiment = table_experiment()
    refusal(site, experiment)
    approve(site, experiment)
    approve(site, experiment, "revoked")
    audit = AuditLog(site.folder)
    assert [entry["event"] for entry in audit.entries()] == ["pending", "approved", "revoked"]
    assert audit.verify() == 3
