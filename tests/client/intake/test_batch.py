"""Archives and the queue on the way of a preparation: the same cohort from a zip as from its files; a study that is too much stops nobody."""

from __future__ import annotations

import gc
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from client import prepare as preparing
from client.dicom.scan import Series, list_files
from client.intake.queue import MAX_ATTEMPTS, Queue
from client.prepare import PrepareReport, prepare_folder
from client.processes import Limits
from shared_models.core.errors import BadChoice, BadInput
from shared_models.experiment import Preparation
from tests.client.dicom_factory import SeriesPlan, chest, write

SECRET = bytes(range(32))
SMALL = chest(24, step_mm=8.0)


def study(folder: Path, number: int) -> Path:
    plan = SeriesPlan(SMALL + number, step_mm=8.0, patient=f"Doe-{number}", study=f"1.7.{number}", series=f"1.7.{number}.1")
    write(folder, plan)
    return folder


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in list_files(folder):
            out.write(file, f"DOE_JANE/{os.path.relpath(file, folder)}")
    return path


def run(folder: Path, workspace: Path, **options: object) -> PrepareReport:
    return prepare_folder(folder, workspace, Preparation(), secret=SECRET, **options)  # pyright: ignore[reportArgumentType]


def states(workspace: Path, kind: str = "prepare") -> list[tuple[str, str, int]]:
    return [(item.state, item.reason, item.attempts) for item in Queue(workspace).items(kind)]


def test_an_archive_is_as_good_as_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, packed, workspace = tmp_path / "plain", tmp_path / "packed", tmp_path / "w"
    packed.mkdir()
    zipped(study(plain / "1", 1), packed / "DOE_JANE.zip")
    (packed / "evil.tar").write_bytes(b"MZ" * 1000)
    report = run(packed, workspace)
    assert report.cohort.digest == run(plain, tmp_path / "p").cohort.digest
    assert [line["reason"] for line in report.skipped] == ["UNPACKED"]
    assert [line["reason"] for line in report.quarantined] == ["ARCHIVE_DAMAGED"] and report.quarantined[0]["remedy"]
    assert sorted(states(workspace, "unpack")) == [("done", "", 1), ("done", "ARCHIVE_DAMAGED", 1)]
    private = [path for path in workspace.rglob("*") if "DOE" in str(path.relative_to(workspace))]
    assert not private and (workspace / "unpacked").stat().st_mode & 0o777 == 0o700
    from client.intake import batch

    monkeypatch.setattr(batch, "unpack", lambda *_: pytest.fail("what was unpacked is not unpacked again"))
    (packed / "evil.tar").unlink()
    again = run(packed, workspace)
    assert (again.accepted, again.skipped, again.quarantined) == (report.accepted, report.skipped, [])
    (packed / "DOE_JANE.zip").unlink()
    assert run(packed, workspace).accepted == []
    assert list((workspace / "unpacked").iterdir()) == []  # with the archive goes what came out of it


def too_much(series: Series, **options: object) -> object:
    """Stands in for the preparation: one of the series never ends."""
    if series.series_uid == "1.7.1.1":
        import time

        time.sleep(300)
    return preparing._attempt(series, **options)  # type: ignore[arg-type]  # pyright: ignore


def test_a_study_that_takes_too_long_is_named_and_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, workspace = tmp_path / "in", tmp_path / "w"
    for number in range(2):
        study(folder / str(number), number)
    limits = Limits(seconds=5)
    whole = preparing._attempt
    monkeypatch.setattr(preparing, "_attempt", too_much)
    monkeypatch.setattr(preparing, "partial", lambda function, **options: Sent(function, options))
    report = run(folder, workspace, processes=2, limits=limits)
    assert [line["reason"] for line in report.quarantined] == ["TOO_SLOW"] and report.quarantined[0]["remedy"]
    assert len(report.accepted) == 1 and len(report.cohort.cases) == 1
    assert sorted(states(workspace)) == [("done", "", 1), ("failed", "TOO_SLOW", 1)]
    again = run(folder, workspace, processes=2, limits=limits)  # at once: it is not tried
    assert again.as_dict() == report.as_dict() and sorted(states(workspace)) == [("done", "", 2), ("failed", "TOO_SLOW", 1)]
    monkeypatch.setattr(preparing, "_attempt", whole)
    assert Queue(workspace).retry() == 1
    assert len(run(folder, workspace, processes=2, limits=limits).accepted) == 2


class Sent:
    """A partial that processes can be sent from a test."""

    def __init__(self, function: Callable[..., object], options: dict[str, object]) -> None:
        self.function, self.options = function, options

    def __call__(self, item: object, *rest: object) -> object:
        return self.function(item, *rest, **self.options)


def test_what_fails_is_tried_a_few_times_and_changed_content_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, workspace = study(tmp_path / "in", 1), tmp_path / "w"
    monkeypatch.setattr(preparing, "prepare_study", lambda *_, **__: 1 / 0)
    for attempt in range(1, MAX_ATTEMPTS + 3):
        assert [line["reason"] for line in run(folder, workspace).quarantined] == ["FAILED"]
        assert states(workspace) == [("failed", "FAILED", min(attempt, MAX_ATTEMPTS))]
    monkeypatch.undo()
    assert len(run(folder, workspace).quarantined) == 1
    os.utime(list_files(folder)[0], (1, 1))
    assert len(run(folder, workspace).accepted) == 1


def test_one_preparation_at_a_time(tmp_path: Path) -> None:
    with Queue(tmp_path / "w").work("prepare"), pytest.raises(BadInput, match="once in a folder"):
        run(study(tmp_path / "in", 1), tmp_path / "w")


def test_no_such_backend(tmp_path: Path) -> None:
    with pytest.raises(BadChoice, match="ray"):
        run(study(tmp_path / "in", 1), tmp_path / "w", backend="rya")


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # Ray leaves files and processes to the garbage collector
def test_a_ray_cluster_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.setenv(name, os.environ[name])  # what Ray sets in the environment is undone
    folder = tmp_path / "in"
    for number in range(2):
        study(folder / str(number), number)
    (folder / "notes.txt").write_text("no DICOM")
    zipped(study(tmp_path / "more", 3), folder / "more.zip")
    one = run(folder, tmp_path / "a")
    two = run(folder, tmp_path / "b", backend="ray", processes=1, limits=Limits(memory_mb=4000, seconds=120))
    assert one.as_dict()["accepted"] == two.as_dict()["accepted"] and len(two.accepted) == 3
    assert one.cohort.digest == two.cohort.digest
    assert (tmp_path / "a" / "report.json").read_bytes() == (tmp_path / "b" / "report.json").read_bytes()
    for path in sorted((tmp_path / "a" / "cache").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / "cache" / path.name).read_bytes()
    assert states(tmp_path / "a") == states(tmp_path / "b")
    gc.collect()
