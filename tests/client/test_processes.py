"""A process that dies costs its own item; what passes its limits is ended and named; nobody is left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from client.processes import Limits, Lost, Processes


def work(item: str) -> int:
    """An item says what happens to the process that takes it."""
    word, _, value = item.partition(":")
    if word == "die":
        os._exit(3)
    if word == "die once":
        if not Path(value).exists():
            Path(value).touch()
            os._exit(3)
        return 0
    if word == "hold":
        held = bytearray(int(value) << 20)
        held[::4096] = b"1" * len(held[::4096])
        time.sleep(30)
    if word == "ask for too much":
        raise MemoryError
    if word == "sleep":
        time.sleep(float(value))
    if word == "pid":
        return os.getpid()
    return int(value) if value else -2


def name_it(item: str, reason: Lost) -> str:
    return reason


def test_order_and_deaths() -> None:
    with Processes(2) as workers:
        items = ["give:1", "give:2", "die", "give:4", "give:5"]
        assert list(workers.map(work, items, lost=name_it)) == [1, 2, "FAILED", 4, 5]
        assert list(workers.map(work, ["give:6", "give:7"], lost=name_it)) == [6, 7]  # and the next job finds workers again
    assert workers.workers == []


def test_a_death_that_does_not_repeat_costs_nothing(tmp_path: Path) -> None:
    with Processes(2) as workers:
        assert list(workers.map(work, ["give:1", f"die once:{tmp_path / 'x'}"], lost=name_it)) == [1, 0]


@pytest.mark.parametrize(
    ("bad", "limits", "reason"),
    [
        ("hold:500", Limits(memory_mb=400), "TOO_LARGE"),
        ("ask for too much", Limits(memory_mb=500), "TOO_LARGE"),
        ("sleep:60", Limits(seconds=3), "TOO_SLOW"),
    ],
)
def test_what_passes_a_limit_is_ended_and_the_rest_goes_on(bad: str, limits: Limits, reason: Lost) -> None:
    began = time.monotonic()
    with Processes(2, limits=limits) as workers:
        assert list(workers.map(work, ["give:1", bad, "give:3"], lost=name_it)) == [1, reason, 3]
    assert time.monotonic() - began < 55


def test_limits_are_held_for_a_single_item_too() -> None:
    with Processes(1, limits=Limits(seconds=0.5)) as workers:
        assert list(workers.map(work, ["sleep:20"], lost=name_it)) == ["TOO_SLOW"]
        (pid,) = workers.map(work, ["pid"], lost=name_it)
    assert pid != os.getpid()


def test_errors_of_the_function_come_through_and_leave_nobody() -> None:
    with Processes(2) as workers:
        with pytest.raises(ValueError, match="invalid literal"):
            list(workers.map(work, ["sleep:20", "give:x"], lost=name_it))
        assert len(workers.workers) <= 1  # who slept was ended


def test_who_begins_and_ends_is_told() -> None:
    begun, ended = [], {}
    with Processes(2) as workers:
        list(workers.map(work, ["give:1", "die", "give:3"], lost=name_it, begun=begun.append, ended=ended.__setitem__))
    assert sorted(begun) == [0, 1, 1, 2]
    assert ended == {0: 1, 1: "FAILED", 2: 3}
