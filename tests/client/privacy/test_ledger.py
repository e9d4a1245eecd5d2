"""The ledger: written before the step, added up over everything, refused before the limit, and every way of forgetting is noticed."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client.audit import AuditLog
from client.identity import make_site
from client.privacy.accountant import epsilon
from client.privacy.chain import Patients
from client.privacy.ledger import Ledger, Limits
from client.privacy.spending import Spend
from shared_models.core.errors import BadInput, FedILDError, Refused

NAMES = tuple(f"p{number:03d}" for number in range(100))
COHORT = Patients("key", NAMES)
DELTA = 1e-5


def spend(number: int = 0, **change: object) -> Spend:
    return replace(Spend(1.2, 0.1, 20, 100, "patient", 1.0, DELTA, f"{number:032x}"), **change)  # type: ignore[arg-type]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    make_site(tmp_path / "alpha", "alpha")
    return tmp_path / "alpha"


def charged(folder: Path, rounds: int = 3, *, run: str = "run", first: int = 0, patients: Patients = COHORT, limits: Limits | None = None) -> Ledger:
    ledger = Ledger(folder)
    for number in range(rounds):
        assert ledger.charge(patients, spend(first + number), run=run, round=number + 1, limits=limits)
    return ledger


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(FedILDError) as refused:
        act()
    return refused.value.code


class TestSpending:
    def test_rounds_runs_experiments_and_restarts_add_up(self, site: Path) -> None:
        for place, run in enumerate(("one", "two", "three")):  # three experiments, a new process's ledger each
            charged(site, run=run, first=10 * place)
        assert Ledger(site).spent(COHORT, delta=DELTA) == pytest.approx(epsilon([(1.2, 0.1, 180)], DELTA), abs=1e-9)
        assert [entry.counter for entry in Ledger(site).entries()] == list(range(1, 10))

    def test_the_limit_refuses_before_the_step(self, site: Path) -> None:
        limit = epsilon([(1.2, 0.1, 60)], DELTA)
        ledger = charged(site, 3, limits=Limits(limit))
        assert refusal(lambda: ledger.charge(COHORT, spend(9), run="other", round=1, limits=Limits(limit))) == "E_BUDGET"
        assert refusal(lambda: Ledger(site).charge(COHORT, spend(9, steps=1), run="x", round=1, limits=Limits(limit))) == "E_BUDGET"
        assert len(ledger.entries()) == 3
        assert ledger.spent(delta=DELTA) <= limit + 1e-9
        ledger.charge(Patients("key", ("new",)), spend(9), run="other", round=1, limits=Limits(limit))  # who was never drawn may be

    def test_the_limit_of_one_run(self, site: Path) -> None:
        limits = Limits(None, epsilon([(1.2, 0.1, 40)], DELTA))
        ledger = charged(site, 2, run="one", limits=limits)
        assert refusal(lambda: ledger.charge(COHORT, spend(9), run="one", round=3, limits=limits)) == "E_BUDGET_RUN"
        charged(site, 2, run="two", first=20, limits=limits)

    def test_a_budget_follows_the_patient(self, site: Path) -> None:
        first, second = Patients("key", NAMES[:50]), Patients("key", NAMES[50:])
        charged(site, 2, patients=first)
        charged(site, 1, first=5, patients=second)
        ledger = Ledger(site)
        two, one = epsilon([(1.2, 0.1, 40)], DELTA), epsilon([(1.2, 0.1, 20)], DELTA)
        assert ledger.spent(first, delta=DELTA) == pytest.approx(two)
        assert ledger.spent(second, delta=DELTA) == pytest.approx(one)
        grown = Patients("key", (*NAMES[:50], "new"))
        assert grown.digest != first.digest
        assert ledger.spent(grown, delta=DELTA) == pytest.approx(two)  # one more patient resets nothing
        assert ledger.spent(Patients("key", ("new",)), delta=DELTA) == 0
        assert ledger.spent(COHORT, delta=DELTA) == pytest.approx(two)  # the worst-off
        charged(site, 1, first=7, patients=COHORT)
        assert Ledger(site).spent(first, delta=DELTA) == pytest.approx(epsilon([(1.2, 0.1, 60)], DELTA))

    def test_names_that_cannot_be_compared_may_be_the_same_patients(self, site: Path) -> None:
        ledger = charged(site, 2)
        renamed = Patients("another key", ("q1", "q2"))
        assert ledger.spent(renamed, delta=DELTA) == ledger.spent(COHORT, delta=DELTA) > 0

    def test_an_attempt_is_charged_once(self, site: Path) -> None:
        ledger = charged(site, 1)
        assert not Ledger(site).charge(COHORT, spend(0), run="run", round=1)
        assert len(ledger.entries()) == 1
        for change in ({"sigma": 0.1}, {"steps": 999}):
            assert refusal(lambda change=change: ledger.charge(COHORT, spend(0, **change), run="run", round=1)) == "E_SPEND"
        assert refusal(lambda: ledger.charge(COHORT, spend(0), run="run", round=2)) == "E_SPEND"
        assert refusal(lambda: ledger.charge(Patients("key", ("x",)), spend(0), run="run", round=1)) == "E_SPEND"

    @pytest.mark.parametrize(
        "change",
        [
            *({"sigma": v} for v in (0.0, -1.0, math.nan, math.inf)),
            *({"q": v} for v in (0.0, 1.5, math.nan)),
            *({"steps": v} for v in (0, -3)),
            *({"clip": 0.0}, {"delta": 1.0}, {"patients": 0}, {"nonce": ""}, {"unit": "slice"}),
        ],
        ids=str,
    )
    def test_what_is_no_private_step(self, change: dict, site: Path) -> None:
        assert refusal(lambda: Ledger(site).charge(COHORT, spend(**change), run="r", round=1)) == "E_SPEND"
        assert Ledger(site).entries() == []

    def test_the_course_never_falls(self, site: Path) -> None:
        charged(site, 4)
        values = [value for _, value in Ledger(site).course(delta=DELTA)]
        assert values == sorted(values)
        row = Ledger(site).cohorts(delta=DELTA)[0]
        assert (row["patients"], row["entries"], row["runs"], row["steps"]) == (100, 4, 1, 80)
        assert row["rdp"] == pytest.approx(values[-1])
        assert 0 < row["prv"] < row["rdp"]


CHILD = """
import os, signal, sys
from pathlib import Path
from client.privacy.chain import Patients
from client.privacy.ledger import Ledger
from client.privacy.spending import Spend
import client.privacy.chain as module
if sys.argv[2] == "before the number is kept":
    module.write_json = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "before it is committed":
    module.Entries.append = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
names = tuple(f"p{n:03d}" for n in range(100))
Ledger(Path(sys.argv[1])).charge(Patients("key", names), Spend(1.2, 0.1, 20, 100, "patient", 1.0, 1e-5, "f" * 32), run="run", round=9)
os.kill(os.getpid(), signal.SIGKILL)  # before the first step
"""


@pytest.mark.parametrize(("when", "entries"), [("before it is committed", 2), ("before the number is kept", 3), ("before the step", 3)])
def test_killed_between_writing_and_stepping(when: str, entries: int, site: Path) -> None:
    charged(site, 2)
    child = subprocess.run([sys.executable, "-c", CHILD, str(site), when], cwd=Path(__file__).parents[3], check=False, timeout=120)
    assert child.returncode == -signal.SIGKILL
    ledger = Ledger(site)
    assert len(ledger.entries()) == entries
    again = Spend(1.2, 0.1, 20, 100, "patient", 1.0, DELTA, "f" * 32)
    assert ledger.charge(COHORT, again, run="run", round=9) == (entries == 2)  # the same attempt pays once
    assert len(Ledger(site).entries()) == 3
    assert Ledger(site).spent(COHORT, delta=DELTA) == pytest.approx(epsilon([(1.2, 0.1, 60)], DELTA))


def _sql(folder: Path, *statements: str) -> None:
    database = sqlite3.connect(folder / "ledger.db")
    for trigger in ("entries_stay", "entries_remain", "cohorts_stay", "cohorts_remain"):
        database.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


def _delete(folder: Path) -> None:
    for path in folder.glob("ledger.db*"):
        path.unlink()


def _restore(folder: Path) -> None:
    _delete(folder)
    shutil.copy(folder.parent / "older.db", folder / "ledger.db")


def _copy_from_another_site(folder: Path) -> None:
    make_site(folder.parent / "beta", "beta")
    charged(folder.parent / "beta", 3).book.lines()
    _delete(folder)
    _flat(folder.parent / "beta", folder / "ledger.db")
    shutil.copy(folder.parent / "beta" / "secrets" / "ledger.last", folder / "secrets" / "ledger.last")


def _flat(folder: Path, target: Path) -> None:
    source, copy = sqlite3.connect(folder / "ledger.db"), sqlite3.connect(target)
    source.backup(copy)
    source.close()
    copy.close()


TAMPERINGS: dict[str, Callable[[Path], object]] = {
    "deleted": _delete,
    "deleted with its number": lambda folder: (_delete(folder), (folder / "secrets" / "ledger.last").unlink()),
    "rolled back": _restore,
    "rolled back with its number": lambda folder: (
        _restore(folder),
        shutil.copy(folder.parent / "older.last", folder / "secrets" / "ledger.last"),
    ),
    "cut off": lambda folder: _sql(folder, "DELETE FROM entries WHERE counter = 3"),
    "first entry deleted": lambda folder: _sql(folder, "DELETE FROM entries WHERE counter = 1"),
    "edited": lambda folder: _sql(folder, "UPDATE entries SET line = replace(line, '\"steps\":20', '\"steps\":2') WHERE counter = 2"),
    "two entries exchanged": lambda folder: _sql(
        folder, "UPDATE entries SET counter = counter + 10", "UPDATE entries SET counter = CASE counter WHEN 11 THEN 2 WHEN 12 THEN 1 ELSE 3 END"
    ),
    "copied from another site": _copy_from_another_site,
    "a patient taken out of a cohort": lambda folder: _sql(folder, "UPDATE cohorts SET names = replace(names, '\"p000\", ', '')"),
    "cohorts deleted": lambda folder: _sql(folder, "DELETE FROM cohorts"),
    "nonsense": lambda folder: (_delete(folder), (folder / "ledger.db").write_bytes(b"nonsense" * 1000)),
    "emptied": lambda folder: (_delete(folder), (folder / "ledger.db").touch()),
    "number damaged": lambda folder: (folder / "secrets" / "ledger.last").write_text("{}"),
}


@pytest.fixture
def kept(site: Path) -> Path:
    """Three entries, and a copy from after the first one beside the site."""
    charged(site, 1)
    _flat(site, site.parent / "older.db")
    shutil.copy(site / "secrets" / "ledger.last", site.parent / "older.last")
    charged(site, 2, first=1)
    return site


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_changed_ledger_refuses(name: str, kept: Path) -> None:
    TAMPERINGS[name](kept)
    assert refusal(lambda: Ledger(kept).entries()) == "E_LEDGER"
    assert refusal(lambda: Ledger(kept).charge(COHORT, spend(99), run="r", round=1)) == "E_LEDGER"
    assert refusal(lambda: Ledger(kept).spent(delta=DELTA)) == "E_LEDGER"


@pytest.mark.parametrize("name", [name for name in TAMPERINGS if name != "copied from another site"])
def test_the_operator_accepts_the_loss_for_the_whole_budget(name: str, kept: Path) -> None:
    TAMPERINGS[name](kept)
    ledger = Ledger(kept)
    entry = ledger.accept_loss(8.0)
    assert (entry.kind, entry.counter, entry.epsilon) == ("loss", 4, 8.0)
    assert Ledger(kept).spent(COHORT, delta=DELTA) >= 8.0
    assert refusal(lambda: Ledger(kept).charge(COHORT, spend(99), run="r", round=1, limits=Limits(8.0))) == "E_BUDGET"
    stranger = Patients("key", ("new",))
    assert refusal(lambda: Ledger(kept).charge(stranger, spend(99), run="r", round=1, limits=Limits(8.0))) == "E_BUDGET"
    assert Ledger(kept).charge(COHORT, spend(99), run="r", round=1, limits=Limits(16.0))  # the hospital raised its limit
    assert AuditLog(kept).verify() > 0


def test_a_loss_of_unknown_size_has_no_bound(kept: Path) -> None:
    _delete(kept)
    Ledger(kept).accept_loss(None)
    assert Ledger(kept).spent(delta=DELTA) == math.inf
    assert refusal(lambda: Ledger(kept).charge(COHORT, spend(99), run="r", round=1, limits=Limits(1e9))) == "E_BUDGET"


def test_nothing_is_lost(kept: Path) -> None:
    assert refusal(lambda: Ledger(kept).accept_loss(8.0)) == "E_INPUT"
    assert len(Ledger(kept).entries()) == 3


class TestReceipts:
    def test_the_whole_folder_put_back_from_a_backup(self, site: Path) -> None:
        charged(site, 2)
        early = Ledger(site).receipt()
        shutil.copytree(site, site.parent / "backup")
        late = charged(site, 2, first=5).receipt()
        shutil.rmtree(site)
        shutil.copytree(site.parent / "backup", site)  # audit log, number and ledger agree with each other
        assert len(Ledger(site).entries()) == 2
        Ledger(site).check_receipt(early)
        assert refusal(lambda: Ledger(site).check_receipt(late)) == "E_LEDGER"
        Ledger(site).accept_loss(4.0)
        Ledger(site).check_receipt(late)
        Ledger(site).check_receipt(early)
        assert [entry.counter for entry in Ledger(site).entries()] == [1, 2, 5]
        charged(site, 1, first=9)

    def test_two_copies_of_a_site_go_apart(self, site: Path) -> None:
        charged(site, 1)
        shutil.copytree(site, site.parent / "twin")
        twin = charged(site.parent / "twin", 1, first=50).receipt()
        charged(site, 1, first=1)
        assert refusal(lambda: Ledger(site).check_receipt(twin)) == "E_LEDGER"

    def test_no_receipt_yet(self, site: Path) -> None:
        assert Ledger(site).receipt() == ""
        Ledger(site).check_receipt("")

    def test_receipts_that_this_site_never_gave(self, kept: Path) -> None:
        good = Ledger(kept).receipt()
        make_site(kept.parent / "beta", "beta")
        other = charged(kept.parent / "beta", 3).receipt()
        counter, head, signature = good.split("-")
        for receipt in (other, f"9-{head}-{signature}", f"{counter}-{'0' * 64}-{signature}", "nonsense", "--", f"{counter}-{head}", "x-y-z"):
            assert refusal(lambda receipt=receipt: Ledger(kept).check_receipt(receipt)) == "E_RECEIPT"
        Ledger(kept).check_receipt(good)
        assert refusal(lambda: Ledger(kept).accept_loss(1.0)) == "E_INPUT"  # nobody is led to give the budget away


def test_only_the_owner_may_read_it(kept: Path) -> None:
    for path in [*kept.glob("ledger.db*"), kept / "secrets" / "ledger.last"]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_entries_cannot_be_changed_by_a_slip(kept: Path) -> None:
    database = sqlite3.connect(kept / "ledger.db")
    for statement in ("DELETE FROM entries", "UPDATE entries SET line = ''", "DELETE FROM cohorts", "UPDATE cohorts SET names = ''"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            database.execute(statement)
    database.close()


def test_every_charge_is_audited_and_names_nobody(kept: Path) -> None:
    events = AuditLog(kept).entries()
    assert [one["counter"] for one in events if one["event"] == "charged"] == [1, 2, 3]
    assert AuditLog(kept).verify() == len(events)
    assert "p000" not in (kept / "audit.jsonl").read_text()


def test_a_changed_database_is_noticed_by_the_process_that_has_it_open(kept: Path) -> None:
    ledger = Ledger(kept)
    ledger.entries()
    TAMPERINGS["edited"](kept)
    assert refusal(ledger.entries) == "E_LEDGER"
    with pytest.raises((BadInput, Refused)):
        ledger.charge(COHORT, spend(50), run="r", round=1)


def test_a_file_put_back_line_by_line_is_still_checked(site: Path) -> None:
    ledger = charged(site, 2)
    assert json.loads(ledger.book.lines()[0][1])["previous"] == ""
    os.utime(site / "ledger.db")
    assert len(ledger.entries()) == 2
