"""Checkpoints: the newest whole one is taken up, a torn one never, another experiment's is refused."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.runs.checkpoint import KEEP, RoundState, load_latest, save
from server.runs.gathering import SiteRecord
from server.runs.log import RoundLog, read_rounds
from server.runs.rounds import RoundRecord
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_json
from shared_models.core.state import digest


def at(number: int) -> RoundState:
    return RoundState("run", number, {"w": np.full(100, float(number))}, {"m/w": np.full(3, number, np.float32)}, "experiment")


def test_the_latest_comes_back_bit_for_bit_and_two_are_kept(tmp_path: Path) -> None:
    for number in range(1, 6):
        save(tmp_path, at(number), durable=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round-000004", "round-000005"]
    assert KEEP == 2
    back = load_latest(tmp_path, experiment="experiment")
    assert back is not None
    assert (back.run, back.round, back.experiment) == ("run", 5, "experiment")
    assert digest(back.state) == digest(at(5).state)
    assert digest(back.own) == digest(at(5).own)


def test_rounds_are_ordered_as_numbers(tmp_path: Path) -> None:
    for number in (9, 10, 99_999, 100_000):
        save(tmp_path, at(number), durable=False)
    back = load_latest(tmp_path, experiment="experiment")
    assert back is not None
    assert back.round == 100_000


def test_without_a_checkpoint(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "none", experiment="experiment") is None


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["state.safetensors", "own.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", [_cut, _flip, lambda path: path.unlink(), lambda path: path.write_bytes(b""), lambda path: path.write_text("[]")])
def test_a_torn_checkpoint_falls_back_to_the_one_before(tmp_path: Path, name: str, damage: object) -> None:
    for number in (1, 2):
        save(tmp_path, at(number), durable=False)
    damage(tmp_path / "round-000002" / name)  # type: ignore[operator]
    back = load_latest(tmp_path, experiment="experiment")
    assert back is not None
    assert back.round == 1
    assert digest(back.state) == digest(at(1).state)
    damage(tmp_path / "round-000001" / name)  # type: ignore[operator]
    assert load_latest(tmp_path, experiment="experiment") is None


def test_a_crash_while_writing_leaves_the_round_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, at(1), durable=False)
    for failing in ("write_state", "write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(f"server.runs.checkpoint.{failing}", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
            with pytest.raises(OSError, match="disk full"):
                save(tmp_path, at(2), durable=False)
        back = load_latest(tmp_path, experiment="experiment")
        assert back is not None
        assert back.round == 1
    save(tmp_path, at(2), durable=False)
    back = load_latest(tmp_path, experiment="experiment")
    assert back is not None
    assert back.round == 2


def test_another_experiment_is_refused(tmp_path: Path) -> None:
    save(tmp_path, at(1), durable=False)
    with pytest.raises(BadInput, match="same TOML"):
        load_latest(tmp_path, experiment="another")


def test_a_manifest_names_what_it_holds(tmp_path: Path) -> None:
    save(tmp_path, at(1))
    manifest = read_json(tmp_path / "round-000001" / "manifest.json")
    assert sorted(manifest["sha256"]) == ["own", "state"]
    write_json(tmp_path / "round-000001" / "manifest.json", {**manifest, "sha256": {**manifest["sha256"], "own": "0" * 64}})
    assert load_latest(tmp_path, experiment="experiment") is None


@pytest.mark.parametrize(
    "change",
    [{"run": "rum"}, {"round": 3}, {"round": "2"}, {"experiment": "experimenu"}, {"roster": ["a"]}, {"roster": []}, {"seal": "0" * 64}, {"more": 1}],
)
def test_a_flipped_digit_in_the_manifest_is_noticed(tmp_path: Path, change: dict[str, object]) -> None:
    for number in (1, 2):
        save(tmp_path, replace(at(number), roster=("a", "b")), durable=False)
    path = tmp_path / "round-000002" / "manifest.json"
    write_json(path, {**read_json(path), **change})
    back = load_latest(tmp_path, experiment="experiment")
    assert back is not None
    assert (back.round, back.roster) == (1, ("a", "b"))


def test_every_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    save(tmp_path, at(1), durable=False)
    path = tmp_path / "round-000001" / "manifest.json"
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with suppress(BadInput):  # E_FORMAT: the digit of the format
            assert load_latest(tmp_path, experiment="experiment") is None or bytes(good[place : place + 1]).isspace(), bad[place - 20 : place + 20]


def test_a_checkpoint_of_before_formats_were_numbered_loads(tmp_path: Path) -> None:
    save(tmp_path, at(1))
    path = tmp_path / "round-000001" / "manifest.json"
    older = read_json(path)
    assert older.pop("format") == 1
    del older["seal"]
    write_json(path, older)
    back = load_latest(tmp_path, experiment="experiment")
    assert back is not None
    assert digest(back.state) == digest(at(1).state)


@pytest.mark.parametrize("written", [2, 99, "1", None, 0])
@pytest.mark.parametrize("files", ["as now", "other"])
def test_a_checkpoint_of_an_unknown_format_is_refused_and_no_older_one_taken_in_its_place(tmp_path: Path, written: object, files: str) -> None:
    for number in (1, 2):
        save(tmp_path, at(number))
    newest = tmp_path / "round-000002"
    write_json(newest / "manifest.json", {**read_json(newest / "manifest.json"), "format": written})
    if files == "other":
        (newest / "state.safetensors").rename(newest / "model.next")
    with pytest.raises(BadInput, match="version that began the run") as refused:
        load_latest(tmp_path, experiment="experiment")
    assert refused.value.code == "E_FORMAT"


def record(number: int) -> RoundRecord:
    return RoundRecord(number, 0.1, {"a": SiteRecord(num_cases=3)}, [], False, 1.0, 8, 1)


def test_the_log_drops_rounds_that_are_repeated_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    log = RoundLog(path)
    for number in (1, 2, 3):
        log(record(number), at(number))
    with open(path, "a") as file:
        file.write('{"round": 4, "wall')
    assert [line["round"] for line in read_rounds(path)] == [1, 2, 3]
    log = RoundLog(path, keep=2)
    log(record(3), at(3))
    assert [line["round"] for line in read_rounds(path)] == [1, 2, 3]
    assert read_rounds(path)[2]["sites"]["a"]["num_cases"] == 3
    assert read_rounds(path)[2]["missing_share"] == 0.0
    assert read_rounds(tmp_path / "none") == []


def test_the_log_says_what_share_of_the_patients_was_missing(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    log = RoundLog(path)
    gone = {"a": SiteRecord(num_cases=30), "b": SiteRecord(refused="E_NO_REPLY")}
    log(RoundRecord(1, 0.1, gone, ["b"], True, 1.0, 8, 1), at(1))
    log(RoundRecord(2, 0.1, {"a": SiteRecord(num_cases=30), "b": SiteRecord(num_cases=10)}, [], False, 1.0, 8, 1), at(2))
    log = RoundLog(path, keep=2)  # a new process knows what the old one knew
    log(RoundRecord(3, 0.1, gone, ["b"], True, 1.0, 8, 1), at(3))
    assert [line["missing_share"] for line in read_rounds(path)] == [None, 0.0, 0.25]
