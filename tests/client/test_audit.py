"""The audit log: every event kind, every way to tamper, several writers, and nothing but plain words in it."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from client.audit import EVENTS, AuditLog
from shared_models.core.errors import BadInput, Refused


def filled(folder: Path, count: int = 6) -> AuditLog:
    log = AuditLog(folder)
    for number in range(count):
        log.note("released", run="r1", round=number, bytes=10, keys=1, num_cases=20)
    return log


def test_every_kind_of_event(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    for event, fields in EVENTS.items():
        log.note(event, **dict.fromkeys(fields, "x"))
    assert log.verify() == len(EVENTS)
    assert [entry["event"] for entry in log.entries()] == list(EVENTS)
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert log.head.stat().st_mode & 0o777 == 0o600


def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    assert AuditLog(tmp_path).verify() == 0


def _edit(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"keys":1', b'"keys":2'), *lines[2:]]


def _forge_last(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1].replace(b'"bytes":10', b'"bytes":99')]


TAMPERINGS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "edited": _edit,
    "last line edited": _forge_last,
    "deleted": lambda lines: [*lines[:2], *lines[3:]],
    "first deleted": lambda lines: lines[1:],
    "last deleted": lambda lines: lines[:-1],
    "all deleted": lambda lines: [],
    "inserted": lambda lines: [*lines[:2], lines[1], *lines[2:]],
    "swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "no JSON": lambda lines: [b"x", *lines[1:]],
    "no object": lambda lines: [b"1", *lines[1:]],
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found(name: str, tmp_path: Path) -> None:
    log = filled(tmp_path)
    assert log.verify() == 6
    lines = TAMPERINGS[name](log.path.read_bytes().splitlines())
    log.path.write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.raises(Refused) as refused:
        log.verify()
    assert refused.value.code == "E_AUDIT"
    log.note("up", code="abc")  # going on does not heal it
    with pytest.raises(Refused):
        log.verify()


def test_every_single_byte_counts(tmp_path: Path) -> None:
    log = filled(tmp_path, 2)
    whole = log.path.read_bytes()
    for at in range(0, len(whole), 7):
        log.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Refused):
            log.verify()


def test_a_line_torn_by_a_crash_is_cut_and_said(tmp_path: Path) -> None:
    log = filled(tmp_path, 3)
    with open(log.path, "ab") as file:
        file.write(b'{"number": 4, "ti')
    log.note("down")
    assert [entry["event"] for entry in log.entries()][-2:] == ["repaired", "down"]
    assert log.verify() == 5


def test_a_crash_before_the_head_was_written(tmp_path: Path) -> None:
    log = filled(tmp_path, 3)
    head = log.head.read_bytes()
    log.note("down")
    log.head.write_bytes(head)
    assert log.verify() == 4
    log.note("down")
    assert log.verify() == 5


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("no such event", {}),
        ("released", {"patient": "x"}),
        ("released", {"run": "Doe^Jonathan"}),
        ("released", {"run": "/data/inbox"}),
        ("released", {"run": "two words"}),
        ("released", {"run": "x" * 129}),
        ("released", {"run": "a\n"}),
        ("released", {"round": 1.5}),
    ],
)
def test_what_is_never_written(event: str, fields: dict, tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    with pytest.raises(BadInput):
        log.note(event, **fields)
    assert log.entries() == []


def _write(folder: str) -> None:
    for _ in range(10):
        AuditLog(Path(folder)).note("down")


def test_several_writers(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        pool.map(_write, [str(tmp_path)] * 3)
    assert AuditLog(tmp_path).verify() == 30
    assert json.loads(AuditLog(tmp_path).head.read_bytes())["number"] == 30
