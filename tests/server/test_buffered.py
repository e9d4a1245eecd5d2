"""Rounds that do not wait for the slowest: what is taken when, with which weight, and that a crash changes nothing of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from server.runs import exchange
from server.runs.draws import simulated_pace
from shared_models.core.errors import Interrupted
from shared_models.core.state import digest
from shared_models.messages import Job, Update
from tests.server.loop_grid import Handle, LoopGrid
from tests.server.scripted_sites import SITES, change, experiment_of, lines_of, run, site, survives_every_kill


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.0, 0.001))


def all_sites(**more: Any) -> dict[str, Handle]:
    return {name: site(name, **more) for name in SITES}


class SlowGrid(LoopGrid):
    """A site's answer comes so many rounds after it was asked; answers to older questions come first."""

    def __init__(self, sites: dict[str, Handle], lag: dict[str, int]) -> None:
        super().__init__(sites)
        self.lag, self.newest = lag, 0
        self.asked: dict[str, int] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        rounds = [int(message.metadata.group_id) for message in messages]
        self.newest = max([self.newest, *rounds])
        ids = list(super().push_messages(messages))
        self.asked |= dict(zip(ids, rounds, strict=True))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        def early(message: Message) -> bool:
            lag = self.lag.get(self.names[message.metadata.src_node_id], 0) if message.metadata.message_type == "train" else 0
            return self.newest - self.asked[str(message.metadata.reply_to_message_id)] < lag

        withheld = [message for message in self._ready if early(message)]
        self._ready = [message for message in self._ready if not early(message)]
        found = list(super().pull_messages(message_ids))
        self._ready += withheld
        return sorted(found, key=lambda m: (self.asked[str(m.metadata.reply_to_message_id)], self.names[m.metadata.src_node_id]))


def by_hand(lines: list[dict[str, Any]]) -> np.ndarray:
    """The obvious way: every update as the log has it, its change weighed by patients and staleness."""
    w = np.zeros(4)
    for line in lines:
        taken = {name: found for name, found in line["sites"].items() if found["refused"] is None}
        total = sum(found["num_cases"] for found in taken.values())
        for name, found in taken.items():
            began = line["round"] - found["staleness"]
            w += found["num_cases"] / total / np.sqrt(1 + found["staleness"]) * change(name, began)
    return w


def test_late_updates_count_from_the_state_that_they_started_from(tmp_path: Path) -> None:
    final = run(SlowGrid(all_sites(), {"gamma": 2}), tmp_path, experiment_of("fedbuff", quorum=3))
    lines = lines_of(tmp_path)
    assert [line["late"] for line in lines][:2] == [["gamma"], ["gamma"]]
    assert [sorted(line["sites"]) for line in lines[:3]] == [["alpha", "beta", "delta"]] * 2 + [["alpha", "beta", "gamma"]]
    assert lines[2]["sites"]["gamma"]["staleness"] == 2
    assert lines[3]["sites"]["delta"]["staleness"] == 1  # it had answered when the buffer was full
    assert not any(line["missing"] or line["degraded"] for line in lines)
    np.testing.assert_allclose(final.state["w"], by_hand(lines), atol=1e-6)


def test_nobody_late_is_fedavg(tmp_path: Path) -> None:
    ends = [run(SlowGrid(all_sites(), {}), tmp_path / name, experiment_of(name, quorum=4)) for name in ("fedbuff", "fedavg")]
    assert digest(ends[0].state) == digest(ends[1].state)


def test_states_that_somebody_works_on_are_kept_and_no_others(tmp_path: Path) -> None:
    kept = []

    def look(record: Any, at: Any) -> None:
        kept.append(sorted(int(path.name[6:]) for path in (tmp_path / "checkpoints").glob("*")) if record.round > 1 else [])

    run(SlowGrid(all_sites(), {"gamma": 4}), tmp_path, experiment_of("fedbuff", quorum=3, rounds=8), on_round=look)
    # gamma is asked in rounds 1 and 6 (with the states after rounds 0 and 5)
    assert kept[1:] == [[1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [5, 6, 7]]


def test_who_takes_too_long_is_asked_anew(tmp_path: Path) -> None:
    told: list[tuple[str, int, str]] = []
    experiment = experiment_of("fedbuff", {"most_stale": 1}, quorum=3)
    run(SlowGrid(all_sites(told=told), {"gamma": 9}), tmp_path, experiment)
    assert [number for name, number, _ in told if name == "gamma"] == [1, 3, 5]
    assert all("gamma" not in line["sites"] for line in lines_of(tmp_path))


@pytest.mark.parametrize("lag", [{}, {"gamma": 2}])
def test_killed_at_every_write_it_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lag: dict[str, int]) -> None:
    quorum = 3 if lag else 4
    survives_every_kill(
        monkeypatch, tmp_path, experiment_of("fedbuff", quorum=quorum), lambda: SlowGrid(all_sites(), lag), 5 if lag else 11, durable=True
    )


@pytest.mark.parametrize(("seed", "durable"), [(0, False), (1, False), (2, False), (0, True)])
def test_the_simulated_clock_decides_alone_and_survives_every_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, durable: bool) -> None:
    experiment, pace = experiment_of("fedbuff", seed=seed, rounds=5), simulated_pace(seed, 2.0)
    survives_every_kill(monkeypatch, tmp_path, experiment, lambda: LoopGrid(all_sites()), 5, durable=durable, pace=pace)
    lines = lines_of(tmp_path / "whole")
    assert max(found["staleness"] for line in lines for found in line["sites"].values()) > 0
    assert all(len(line["sites"]) == 2 and line["late"] for line in lines)
    mixed = run(LoopGrid(all_sites(), order=lambda messages: messages[::-1]), tmp_path / "mixed", experiment, pace=pace)
    np.testing.assert_allclose(mixed.state["w"], by_hand(lines), atol=1e-6)
    assert lines_of(tmp_path / "mixed") == lines


def test_on_the_simulated_clock_a_slow_site_is_asked_with_the_state_of_its_own_round(tmp_path: Path) -> None:
    told: list[tuple[str, int, str]] = []
    times = {"alpha": 1.0, "beta": 1.0, "delta": 1.0, "gamma": 2.5}
    run(LoopGrid(all_sites(told=told)), tmp_path, experiment_of("fedbuff", quorum=3), pace=lambda name, number: times[name])
    states = {number: digest_ for name, number, digest_ in told if name == "alpha"}
    assert [(number, digest_ == states[number]) for name, number, digest_ in told if name == "gamma"] == [(1, True), (4, True)]
    assert [line["sites"].get("gamma", {}).get("staleness") for line in lines_of(tmp_path)] == [None, None, 2, None, None, 2]


def test_sites_that_refuse_make_room_for_others_and_too_few_close_no_round(tmp_path: Path) -> None:
    def refuses(job: Job) -> Update:
        return Update(run=job.run, round=job.round, site="alpha", code="" if job.kind == "hello" else "E_MEMORY")

    sites = {**all_sites(), "alpha": refuses}
    run(LoopGrid(sites), tmp_path / "a", experiment_of("fedbuff", {"buffer": 4}, quorum=3), pace=lambda name, number: 1.0)
    lines = lines_of(tmp_path / "a")
    assert all(line["sites"]["alpha"]["refused"] == "E_MEMORY" and line["missing"] == ["alpha"] for line in lines)
    assert all(sorted(line["sites"]) == list(SITES) for line in lines)
    with pytest.raises(Interrupted) as stopped:
        run(LoopGrid(sites), tmp_path / "b", experiment_of("fedbuff", quorum=4, retries=1), pace=lambda name, number: 1.0)
    assert stopped.value.code == "E_QUORUM"


def test_an_update_is_checked_against_its_own_start(tmp_path: Path) -> None:
    def lies(job: Job) -> Update:
        return replace(site("gamma")(job), round=job.round + 2) if job.kind == "fit" else site("gamma")(job)

    run(SlowGrid({**all_sites(), "gamma": lies}, {"gamma": 2}), tmp_path / "a", experiment_of("fedbuff", quorum=3))
    assert lines_of(tmp_path / "a")[2]["sites"]["gamma"]["refused"] == "E_ROUND"


def test_a_lost_connection_is_missing_not_late(tmp_path: Path) -> None:
    grid = LoopGrid(all_sites())
    grid.broken.add("gamma")
    run(grid, tmp_path, experiment_of("fedbuff", quorum=3), sites=SITES)
    lines = lines_of(tmp_path)
    assert lines[0]["late"] == ["gamma"], "its error came when the buffer was full"
    assert all(line["missing"] == ["gamma"] and not line["late"] for line in lines[1:])
