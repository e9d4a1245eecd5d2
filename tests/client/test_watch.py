"""The inbox: what is still being copied is left alone, what lies still is prepared, and nothing that goes wrong ends the watch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.identity import make_site
from client.supervisor import programs_of
from client.watch import Inbox, watch
from shared_models.core.errors import BadCohort, BadInput
from tests.client.dicom_factory import SeriesPlan, chest, write


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_folder_that_grows_is_waited_for(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, quiet_s=10)
    put(tmp_path / "a" / "1" / "x.dcm", b"1")
    assert inbox.look(0.0) == {}
    assert set(inbox.look(10.0)) == {"a"}
    put(tmp_path / "a" / "2" / "y.dcm", b"1")  # another series of the same study begins to arrive
    put(tmp_path / "b" / "x.dcm", b"1")
    assert inbox.look(11.0) == {}
    put(tmp_path / "a" / "2" / "y.dcm", b"12")
    assert inbox.look(20.9) == {}
    assert set(inbox.look(21.0)) == {"b"}
    assert set(inbox.look(30.9)) == {"a", "b"}


@pytest.mark.parametrize("change", ["longer", "rewritten", "another file", "one file less"])
def test_every_change_starts_the_wait_anew(change: str, tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, quiet_s=10)
    for name in ("x", "y"):
        put(tmp_path / "a" / name, b"12")
    inbox.look(0.0)
    if change == "longer":
        put(tmp_path / "a" / "x", b"123")
    elif change == "rewritten":
        os.utime(tmp_path / "a" / "x", (1, 1))
    elif change == "another file":
        put(tmp_path / "a" / "z", b"")
    else:
        (tmp_path / "a" / "y").unlink()
    assert inbox.look(10.0) == {}
    assert set(inbox.look(20.0)) == {"a"}


def test_loose_files_belong_together_and_the_workspace_is_left_out(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, quiet_s=1, leave_out=tmp_path / "workspace")
    put(tmp_path / "one.dcm", b"1")
    put(tmp_path / "workspace" / "cache", b"1")
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    inbox.look(0.0)
    put(tmp_path / "two.dcm", b"1")
    assert inbox.look(1.0) == {}
    assert {name: set(stamps) for name, stamps in inbox.look(2.0).items()} == {"": {str(tmp_path / "one.dcm"), str(tmp_path / "two.dcm")}}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    make_site(tmp_path / "s", "alpha")
    (tmp_path / "s" / "dicom").mkdir()
    return tmp_path / "s"


@pytest.fixture
def watching(site: Path) -> Iterator[Callable[..., threading.Event]]:
    stop, threads = threading.Event(), []

    def start(**options: Any) -> threading.Event:
        settings = {"quiet_s": 0.4, "look_s": 0.02, "processes": 1, **options}
        threads.append(threading.Thread(target=lambda: watch(site, stop=stop, **settings)))
        threads[-1].start()
        return stop

    yield start
    stop.set()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def wait_for(what: Callable[[], bool], *, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


class Prepared:
    """Stands in for the preparation: notes which folders it would have read, and fails when told to."""

    def __init__(self, folder: Path, *errors: Exception) -> None:
        self.folder, self.errors, self.calls = folder, list(errors), list[set[str]]()

    def __call__(self, folder: Path, experiment: str | None, *, only: Callable[[str], bool], **_: Any) -> Path:
        self.calls.append({path.parent.name for path in self.folder.rglob("*") if path.is_file() and only(str(path))})
        if self.errors:
            raise self.errors.pop(0)
        return folder


def test_files_that_are_still_growing(site: Path, watching: Callable[..., threading.Event]) -> None:
    prepared = Prepared(site / "dicom")
    watching(prepare=prepared)
    put(site / "dicom" / "a" / "x.dcm", b"whole")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:  # a study that arrives more slowly than the wait is long
        with open(site / "dicom" / "slow.dcm", "ab") as file:
            file.write(b"1")
        put(site / "dicom" / "b" / f"{time.monotonic_ns()}.dcm", b"1")
        time.sleep(0.02)
    assert prepared.calls == [{"a"}]
    wait_for(lambda: prepared.calls[-1] == {"a", "b", "dicom"})
    count = len(prepared.calls)
    time.sleep(0.6)
    assert len(prepared.calls) == count  # nothing changes, nothing is done


@pytest.mark.parametrize("error", [BadCohort("the table contradicts itself", value="Doe^Jane"), ValueError("Doe^Jane"), MemoryError()])
def test_what_goes_wrong_does_not_end_the_watch(
    error: Exception, site: Path, watching: Callable[..., threading.Event], caplog: pytest.LogCaptureFixture
) -> None:
    prepared = Prepared(site / "dicom", error)
    watching(prepare=prepared)
    put(site / "dicom" / "a" / "x.dcm", b"1")
    wait_for(lambda: len(prepared.calls) == 1)
    put(site / "dicom" / "b" / "x.dcm", b"1")
    wait_for(lambda: prepared.calls[-1] == {"a", "b"})
    assert "not prepared" in caplog.text
    assert "Doe" not in caplog.text


def test_a_changed_clinical_table_is_enough(site: Path, watching: Callable[..., threading.Event]) -> None:
    prepared = Prepared(site / "dicom")
    watching(prepare=prepared)
    put(site / "dicom" / "a" / "x.dcm", b"1")
    wait_for(lambda: len(prepared.calls) == 1)
    put(site / "clinical.csv", b"patient,date,diagnosis\n")
    wait_for(lambda: len(prepared.calls) == 2)


def test_one_watch_a_site(site: Path, watching: Callable[..., threading.Event]) -> None:
    watching(prepare=Prepared(site / "dicom"))
    wait_for(lambda: (site / "watch.lock").exists() and (site / "watch.lock").read_text().strip() != "")
    with pytest.raises(BadInput, match="once in a folder"):
        watch(site, stop=threading.Event())


def test_studies_that_arrive_one_after_another(site: Path, watching: Callable[..., threading.Event]) -> None:
    watching()
    report = site / "workspace" / "report.json"

    def accepted() -> int:
        return len(json.loads(report.read_text())["accepted"]) if report.exists() else 0

    plan = SeriesPlan(chest())
    write(site / "dicom" / "a", plan)
    wait_for(lambda: accepted() == 1)
    put(site / "dicom" / "bad" / "x.dcm", b"\0" * 128 + b"DICM" + bytes(np.arange(200, dtype=np.uint8)))
    other = SeriesPlan(chest(seed=1), patient="Roe-1", name="Roe^R", study="1.2.3.2", series="1.2.3.2.1")
    write(site / "dicom" / "b", other)
    wait_for(lambda: accepted() == 2)
    found = json.loads(report.read_text())
    assert len(found["quarantined"] + found["skipped"]) == 1


def test_sigterm_ends_the_process(site: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "client.watch", str(site)], env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    try:
        wait_for(lambda: (site / "watch.lock").exists() and (site / "watch.lock").read_text().strip() != "")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("wanted", [True, False])
def test_up_watches_when_the_site_wants_it(wanted: bool, site: Path) -> None:
    toml = (site / "site.toml").read_text().replace("[policy]", f"watch = {str(wanted).lower()}\n\n[policy]")
    (site / "site.toml").write_text(toml + '\n[server]\naddress = "localhost:9443"\nname = "lungs"\n')
    (site / "secrets" / "ca.crt").write_text("x")
    assert [program.name for program in programs_of(site)][3:] == (["inbox"] if wanted else [])
