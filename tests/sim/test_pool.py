"""Warm processes: results in order, a death or a failure by name, and Flower's messages through shared memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from server.runs.exchange import exchange
from server.runs.roll import take_roll
from shared_models.core.errors import FedILDError
from shared_models.core.state import digest
from shared_models.messages import Job, broadcast, read_update
from sim.grid import PoolGrid
from sim.pool import Pool
from tests.client.sites import patch_experiment, patch_site


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2) as processes:
        yield processes


def test_results_come_in_the_order_of_the_calls(pool: Pool) -> None:
    told: list[int] = []
    waits = [(0.2,), (0.0,), (0.1,), (0.0,), (0.05,)]
    pool.map("time", "sleep", waits, on_done=lambda number, value: told.append(number))
    assert sorted(told) == [0, 1, 2, 3, 4]
    assert told != [0, 1, 2, 3, 4]
    assert pool.map("math", "sqrt", [(float(n * n),) for n in range(20)]) == [float(n) for n in range(20)]
    assert pool.map("math", "sqrt", []) == []


def test_one_thread_each_and_more_than_one_process(pool: Pool) -> None:
    assert set(pool.map("torch", "get_num_threads", [()] * 4)) == {1}
    both = [pool.submit(("map", number), "tests.sim.test_pool", "slow_pid", ()) for number in range(2)]
    seen = set()
    while pool.pending:
        seen |= {value for _, value in pool.results(None)}
    assert len(both) == len(seen) == 2
    assert os.getpid() not in seen


def slow_pid() -> int:
    time.sleep(0.2)
    return os.getpid()


def test_calls_of_one_home_prefer_one_process(pool: Pool) -> None:
    homes = ["one", "two", "one", "one", "one", "two", "two", "two"]
    for number, home in enumerate(homes):
        pool.submit(("map", number), "tests.sim.test_pool", "slow_pid", (), home=home)
    pids: dict[str, list[int]] = {"one": [], "two": []}
    while pool.pending:
        for (_, number), pid in pool.results(None):
            pids[homes[number]].append(pid)
    for seen in pids.values():
        assert seen.count(seen[0]) >= len(seen) - 1  # an idle process may take one over at the end


def test_a_failed_call_leaves_nothing_behind_for_the_next(pool: Pool) -> None:
    with pytest.raises(FedILDError, match="a task of the simulation failed"):
        pool.map("math", "sqrt", [(-1.0,), (4.0,), (9.0,), (16.0,), (25.0,)])
    assert pool.map("math", "sqrt", [(100.0,), (400.0,)]) == [10.0, 20.0]


def test_a_failed_task_is_an_error_with_its_story_and_the_pool_goes_on(pool: Pool) -> None:
    with pytest.raises(FedILDError, match="math domain error"):
        pool.map("math", "sqrt", [(-1.0,)])
    assert pool.map("math", "sqrt", [(4.0,)]) == [2.0]


def test_a_process_that_dies_at_work_is_named() -> None:
    with Pool(1) as processes, pytest.raises(FedILDError, match="must stay alive"):
        processes.map("os", "_exit", [(9,)])


def test_a_process_that_died_while_idle_is_named() -> None:
    with Pool(1) as processes:
        [pid] = processes.map("os", "getpid", [()])
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
        with pytest.raises(FedILDError, match="must stay alive"):
            processes.map("math", "sqrt", [(1.0,)])


def test_no_process_outlives_the_pool() -> None:
    with Pool(2) as processes:
        pids = set(processes.map("tests.sim.test_pool", "slow_pid", [()] * 2))
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_messages_and_arrays_come_back_through_the_pool(tmp_path: Path) -> None:
    with Pool(1) as processes:
        with pytest.raises(FedILDError):  # a failed task before must not put the two sides out of step
            processes.map("math", "sqrt", [(-1.0,)])
        _round_trips(processes, tmp_path)


def _round_trips(pool: Pool, tmp_path: Path) -> None:
    sites = [patch_site(tmp_path, name, seed=seed) for seed, name in enumerate(("beta", "alpha"))]
    grid = PoolGrid(pool, [str(site) for site in sites])
    roster = take_roll(grid, run="r", timeout_s=60, wanted=2)
    assert roster == {1001: "alpha", 1000: "beta"}
    from shared_models.catalogue import initial_state

    experiment = patch_experiment()
    state = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    job = Job(run="r", round=1, kind="fit", state=state, experiment=experiment.to_json(), rule={"name": "plain", "lr_factor": 0.0})
    for _ in range(3):
        answers = {m.metadata.src_node_id: read_update(m.content) for m in exchange(grid, dict.fromkeys(roster, job), timeout_s=60)}
        assert sorted(update.site for update in answers.values()) == ["alpha", "beta"]
        for update in answers.values():
            assert update.code == ""
            for key in state:  # with a learning rate of 0 the weights come back as they went, bit for bit
                np.testing.assert_array_equal(update.state[key], state[key])
    assert digest(answers[1000].state) == digest(state)


def test_late_answers_are_given_to_nobody(pool: Pool, tmp_path: Path) -> None:
    site = patch_site(tmp_path, "alpha")
    grid = PoolGrid(pool, [str(site)])
    grid.push_messages([Message(broadcast(Job(run="r", round=0, kind="hello")), 1000, "query.hello", ttl=9.0)])  # nobody waits for this one
    for run in ("r2", "r3"):  # whether the first answer comes before the second or after it
        replies = list(exchange(grid, {1000: Job(run=run, round=7, kind="hello")}, timeout_s=60))
        assert [read_update(reply.content).run for reply in replies] == [run]
    pool.map("math", "sqrt", [(4.0,)])  # waits for whatever is still under way
    assert pool.pending == 0
