"""A sealed run: whatever is changed afterwards is found and named."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from shared_models.core.errors import BadInput
from shared_models.core.files import canonical_json, read_json, sha256, write_json
from shared_models.run_record import RECORD, SEAL, added, files_of, read_record, round_entries, seal, verify
from shared_models.signing import public_half

KEY = bytes(range(32))


def _line(number: int) -> dict:
    sites = {"a": {"num_cases": 9 + number, "refused": None, "metrics": {"m": 0.5}}, "b": {"refused": "E_POLICY"}}
    return {"round": number, "sites": sites, "missing": ["b"]}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "bundle").mkdir(parents=True)
    (folder / "bundle" / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "metrics.json").write_text('{"auroc": 0.9}')
    (folder / "rounds.jsonl").write_text("".join(json.dumps(_line(number)) + "\n" for number in (1, 2, 3)))
    (folder / "times.json").write_text("{}")
    seal(
        folder, [("experiment", {"name": "demo"}), *round_entries([_line(number) for number in (1, 2, 3)]), ("release", {"bundle": "x"})], secret=KEY
    )
    return folder


def test_an_untouched_run_is_as_it_was_sealed_wherever_it_is_copied(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "copy")
    assert verify(tmp_path / "copy") == []
    assert verify(tmp_path / "copy", public=public_half(KEY)) == []
    assert files_of(run) == ["bundle/model.safetensors", "metrics.json", "rounds.jsonl"]


def test_every_flipped_byte_of_every_file_is_named(run: Path) -> None:
    for name in [*files_of(run), RECORD, SEAL]:
        whole = (run / name).read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 40)):
            (run / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            faults = verify(run, public=public_half(KEY))
            assert any(name in fault for fault in faults), (name, at, faults)
        (run / name).write_bytes(whole)
    assert verify(run) == []


def test_a_changed_round_and_a_changed_entry_are_named_by_number(run: Path) -> None:
    lines = (run / "rounds.jsonl").read_text().splitlines()
    (run / "rounds.jsonl").write_text("\n".join([lines[0], lines[1].replace("11", "12"), lines[2]]) + "\n")
    assert verify(run) == ["rounds.jsonl is not the file that was sealed: round 2"]
    (run / "rounds.jsonl").write_text("\n".join(lines) + "\n")
    record = (run / RECORD).read_text().splitlines()
    (run / RECORD).write_text("\n".join([*record[:2], record[2].replace('"patients":11', '"patients":12'), *record[3:]]) + "\n")
    assert verify(run) == [f"entry 3 of {RECORD} does not follow entry 2: one of the two was changed"]


def test_what_is_cut_off_taken_out_or_added_is_told(run: Path) -> None:
    record = (run / RECORD).read_text().splitlines()
    (run / RECORD).write_text("\n".join(record[:-1]) + "\n")
    assert any("5 entries, 6 were sealed" in fault for fault in verify(run))
    (run / RECORD).write_text("\n".join(record) + "\n")
    (run / "metrics.json").unlink()
    assert verify(run) == ["metrics.json is missing"]
    (run / "report.html").write_text("later")
    assert added(run) == ["report.html"]


def test_a_record_written_anew_needs_the_consortiums_key(run: Path) -> None:
    entries, _, _ = read_record(run)
    (run / "metrics.json").write_text('{"auroc": 1.0}')
    seal(run, [(entry["kind"], entry["body"]) for entry in entries[:-1]])
    assert verify(run) == []  # whole in itself
    assert verify(run, public=public_half(KEY)) == [f"{SEAL} is signed with another key than the consortium's"]
    told = read_json(run / SEAL)
    write_json(run / SEAL, {**told, "public": public_half(KEY)})
    assert f"{SEAL} does not bear its signer's signature" in verify(run, public=public_half(KEY))


def test_the_chain_holds_the_hash_of_the_line_before(run: Path) -> None:
    lines = (run / RECORD).read_bytes().splitlines()
    for before, line in itertools.pairwise(lines):
        assert json.loads(line)["previous"] == sha256(before)
    joined = [json.loads(line)["body"] for line in lines if json.loads(line)["kind"] == "round"]
    assert [body["joined"]["a"]["patients"] for body in joined] == [10, 11, 12]
    assert joined[0]["refused"] == {"b": "E_POLICY"}
    assert joined[0]["line"] == sha256(canonical_json(_line(1)).encode())


def test_a_folder_without_a_record_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="record"):
        verify(tmp_path)
