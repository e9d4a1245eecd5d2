"""The roster of a deployed run: registered names only, bounded and visible waits, late joiners in, lost sites out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from server.runs import roster as module
from server.runs.roster import connected, gather, refresh
from shared_models.core.errors import Interrupted


@dataclass
class Node:
    node_id: int
    name: str


@dataclass
class Connections:
    """Who is connected at each look; the last one stays."""

    looks: list[list[Node]]
    seen: int = 0
    now: float = 0.0
    told: list[list[str]] = field(default_factory=list)

    def get_nodes(self) -> list[Node]:
        self.seen += 1
        return self.looks[min(self.seen, len(self.looks)) - 1]


A, B, C, D = Node(9, "alpha"), Node(3, "beta"), Node(7, "gamma"), Node(5, "delta")
SITES = ["alpha", "beta", "gamma"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    ticking = Clock()
    monkeypatch.setattr(module, "time", ticking)
    return ticking


def test_only_registered_names_of_the_roster_are_taken_sorted_by_name() -> None:
    stranger, unnamed = Node(1, "omega"), Node(2, "")
    assert connected(Connections([[stranger, C, A, unnamed, D]]), SITES) == {9: "alpha", 7: "gamma"}
    assert list(connected(Connections([[C, B, A]]), SITES).values()) == SITES


def test_a_name_counts_once_while_its_keys_change() -> None:
    assert connected(Connections([[Node(9, "alpha"), Node(2, "alpha"), B, Node(30, "alpha")]]), SITES) == {2: "alpha", 3: "beta"}


def test_a_run_begins_at_once_when_all_are_there(clock: Any) -> None:
    grid = Connections([[C, B, A, D]])
    assert list(gather(grid, SITES, quorum=3).values()) == SITES
    assert clock.now == 0


def test_a_run_waits_for_all_but_no_longer_than_it_said(clock: Any) -> None:
    told: list[list[str]] = []
    grid = Connections([[A], [A], [A, B], [A, B, C]])
    assert list(gather(grid, SITES, quorum=2, timeout_s=50, waiting=told.append).values()) == SITES
    assert told == [["beta", "gamma"], ["gamma"], []]
    began = clock.now
    short = gather(Connections([[A, B]]), SITES, quorum=2, timeout_s=50)
    assert list(short.values()) == ["alpha", "beta"]
    assert 50 <= clock.now - began < 53


def test_too_few_sites_are_named(clock: Any) -> None:
    with pytest.raises(Interrupted, match="1 of 3: alpha") as found:
        gather(Connections([[A]]), SITES, quorum=3, timeout_s=5)
    assert found.value.code == "E_QUORUM"


def test_a_late_joiner_comes_in_and_a_lost_site_is_waited_for_once(clock: Any) -> None:
    roster = {9: "alpha", 3: "beta"}
    refresh(Connections([[A, B, C]]), roster, SITES, timeout_s=30)
    assert roster == {9: "alpha", 3: "beta", 7: "gamma"}
    assert clock.now == 0
    refresh(Connections([[A, C]]), roster, SITES, timeout_s=30)
    assert roster == {9: "alpha", 7: "gamma"}
    waited = clock.now
    assert 30 <= waited < 32
    refresh(Connections([[A, C]]), roster, SITES, timeout_s=30)
    assert clock.now == waited, "nobody waits for a site that is out already"


def test_a_site_that_comes_back_under_another_number_keeps_its_place(clock: Any) -> None:
    roster = {9: "alpha", 3: "beta", 7: "gamma"}
    refresh(Connections([[A, C], [A, C, Node(11, "beta")]]), roster, SITES)
    assert roster == {9: "alpha", 11: "beta", 7: "gamma"}
