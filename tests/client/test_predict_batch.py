"""Many studies under one release: complete folders or none, nothing done twice, nothing stale, and one bad study that stops no other."""

from __future__ import annotations

import csv
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

import client.predict_batch
from client.predict import predict_study
from client.predict_batch import Asked, Outcome, predict_batch, studies_in
from client.prediction import Prediction
from client.processes import Limits
from shared_models.core.errors import BadInput
from sim.cli import main
from tests.client.dicom_factory import write
from tests.client.test_predict import plan, table_bundle


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Two patients, and between them one whose series has a gap."""
    for name, skip in (("case-1", ()), ("case-2", (18, 19, 20)), ("case-3", ())):
        write(tmp_path / "inbox" / name, plan(patient=f"Doe-{name}"), skip=skip)
    (tmp_path / "inbox" / ".hidden").mkdir()
    table_bundle(tmp_path / "b", "whole_haa_percent")
    return tmp_path


def batch(folder: Path, **options: Any) -> dict[str, Outcome]:
    keep = {name: options.pop(name) for name in ("limits", "told", "progress") if name in options}
    asked = Asked(folder / "b", **{"explanation": "none", **options})
    return {one.study: one for one in predict_batch(studies_in([folder / "inbox"]), asked, folder / "out", **keep)}


def test_a_batch_names_the_bad_study_and_a_second_one_keeps_what_is_done(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "fedild",
        "predict",
        "--batch",
        str(inbox / "inbox"),
        "--bundle",
        str(inbox / "b"),
        "--out",
        str(inbox / "out"),
        "--explanation",
        "none",
    ]
    monkeypatch.setattr(sys, "argv", [*command, "--memory-mb", "0", "--seconds", "0"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 1 and "2 of 3 studies have a result" in said.out and "case-2: E_STUDY NO_SERIES" in said.err and "3/3" in said.err
    out = inbox / "out"
    assert sorted(path.name for path in out.iterdir()) == [".lock", "batch.csv", "batch.json", "case-1", "case-3"]
    assert sorted(path.name for path in (out / "case-1").iterdir()) == ["made.json", "prediction.html", "prediction.json"]
    assert stat.S_IMODE((out / "case-1").stat().st_mode) == 0o700 and stat.S_IMODE((out / "batch.csv").stat().st_mode) == 0o600
    summary = json.loads((out / "batch.json").read_text())
    assert (summary["wanted"], summary["done"], summary["kept"], summary["failed"]) == (3, 2, 0, 1)
    rows = list(csv.DictReader((out / "batch.csv").read_text().splitlines()))
    assert [(row["study"], row["state"], row["code"]) for row in rows] == [
        ("case-1", "done", ""),
        ("case-2", "failed", "E_STUDY"),
        ("case-3", "done", ""),
    ]
    text = "".join(path.read_text() for path in (out / "case-1" / "made.json", out / "batch.json", out / "batch.csv"))
    assert not [word for word in ("Doe", "Jane", "ACC4711", str(inbox)) if word in text]
    alone = predict_study(inbox / "inbox" / "case-1", inbox / "b", inbox / "alone", explanation="none").with_name("prediction.json")
    ours, theirs = (json.loads(path.read_text())["series"][0] for path in (out / "case-1" / "prediction.json", alone))
    assert (ours["probabilities"], ours["quantification"]) == (theirs["probabilities"], theirs["quantification"])


def canned(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """From here on predicting costs nothing: every study but case-2 gives the same, and the names of those asked for are noted."""
    found = client.predict_batch.predict_with(client.predict_batch._ready(Asked(folder / "b", explanation="none"), None), folder / "inbox" / "case-1")
    asked: list[str] = []

    def predict(release: object, study: Path, **options: object) -> Prediction:
        asked.append(study.name)
        if study.name == "case-2":
            raise ZeroDivisionError("a bug that nobody knows of")
        return found

    monkeypatch.setattr(client.predict_batch, "predict_with", predict)
    return asked


def test_only_what_is_new_or_stale_is_done(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = canned(monkeypatch, inbox)

    def again(**options: Any) -> list[str]:
        asked.clear()
        found = batch(inbox, **options)
        assert (found["case-2"].state, found["case-2"].code, found["case-2"].reason) == ("failed", "E_FAILED", "")
        return [name for name in asked if name != "case-2"]

    assert again() == ["case-1", "case-3"] and again() == []
    assert json.loads((inbox / "out" / "batch.json").read_text())["kept"] == 2
    slice_ = next(path for path in sorted((inbox / "inbox" / "case-3").rglob("*")) if path.is_file())
    os.utime(slice_, (1, 1))
    assert again() == ["case-3"]
    (inbox / "out" / "case-1" / "prediction.html").unlink()
    assert again() == ["case-1"]
    assert again(explanation="auto") == ["case-1", "case-3"]  # another question
    table_bundle(inbox / "b", "whole_haa_percent", "age")
    client.predict_batch._ready.cache_clear()  # the same process reads a release once
    assert again(explanation="auto") == ["case-1", "case-3"]  # another release


def test_a_study_is_complete_or_absent(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canned(monkeypatch, inbox)
    assert batch(inbox)["case-1"].state == "done"
    (inbox / "out" / ".part-of-a-killed-one").mkdir()

    def torn(found: Prediction, out: Path, **options: object) -> None:
        (out / "prediction.json").write_text("{")
        raise OSError("no space left")

    monkeypatch.setattr(client.predict_batch, "write_outputs", torn)
    for name in ("case-1", "case-3"):
        os.utime(next(path for path in (inbox / "inbox" / name).rglob("*") if path.is_file()), (1, 1))
    found = batch(inbox)
    assert {one.state for one in found.values()} == {"failed"}
    assert sorted(path.name for path in (inbox / "out").iterdir()) == [".lock", "batch.csv", "batch.json"]  # nor what is stale


def test_a_study_over_its_time_is_ended_and_named(inbox: Path) -> None:
    found = batch(inbox, limits=Limits(seconds=0.01))
    assert {(one.state, one.reason) for one in found.values()} == {("failed", "TOO_SLOW")}
    assert not list((inbox / "out").glob("[!b.]*")) and not list((inbox / "out").glob(".part-*"))


def test_what_cannot_be_a_batch(inbox: Path) -> None:
    asked, one = Asked(inbox / "b"), inbox / "inbox" / "case-1"
    with pytest.raises(BadInput, match="names of their own"):
        predict_batch([one, inbox / "elsewhere" / "case-1"], asked, inbox / "out")
    with pytest.raises(BadInput, match="named like the summary"):
        predict_batch([one, inbox / "batch.json"], asked, inbox / "out")
    with pytest.raises(BadInput, match="holds a folder for each study"):
        studies_in([one])
    with pytest.raises(BadInput, match="must exist"):
        studies_in([inbox / "none"])
