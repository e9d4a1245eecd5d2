"""The loop over rounds with sites that vanish, fail, lie, come late and come back."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from client.training.gradient import fit_gradient
from client.training.records import Records
from client.training.rules import Plain, rule_of
from server.app import run_experiment
from server.runs import exchange, rounds
from server.runs.checkpoint import RoundState, load_latest
from server.runs.log import read_rounds
from server.runs.roll import take_roll
from server.runs.standing import Standing, read_standing
from shared_models.catalogue import initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import BadInput, Interrupted
from shared_models.core.files import read_json, read_state
from shared_models.core.state import digest
from shared_models.experiment import Data, Experiment, Federation, Inputs, Train
from shared_models.messages import Job, Update, update_content
from tests.server.loop_grid import Handle, LoopGrid, begin_here

MODEL = Choice.model_validate({"name": "mil_cnn", "widths": [4, 4], "features": 8, "dropout": 0.0})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.001, 0.005))
    begin_here(monkeypatch)


def experiment_of(model: Choice = MODEL, strategy: str | None = "fedadam", columns: tuple[str, ...] = (), **federation: Any) -> Experiment:
    settings = {"rounds": 4, "quorum": 3, "deadline_s": 0.2, "retries": 2, **federation}
    return Experiment(
        name="loop",
        data=Data(classes=("a", "b")),
        model=model,
        inputs=Inputs(columns=columns),
        train=Train(schedule="constant"),
        strategy=Choice(name=strategy) if strategy else None,
        federation=Federation(**settings),
    )


def site(name: str, cases: int = 12) -> Handle:
    """A site whose update depends on what it received and on nothing else."""

    def handle(job: Job) -> Update:
        if job.kind == "hello":
            return Update(run=job.run, round=job.round, site=name)
        if job.kind == "judge":
            return Update(run=job.run, round=job.round, site=name, metrics={"val_loss": float(cases)})
        rng = np.random.default_rng([job.round, *name.encode()])
        state = {k: (v + rng.normal(0, 0.1, v.shape)).astype(v.dtype) for k, v in job.state.items()}
        return Update(
            run=job.run, round=job.round, site=name, state=state, num_cases=cases, steps=1, metrics={"val_loss": 0.25, "odd": float("1e31")}
        )

    return handle


def four() -> dict[str, Handle]:
    return {name: site(name, 10 + number) for number, name in enumerate(("delta", "alpha", "gamma", "beta"))}


def run(grid: LoopGrid, folder: Path, experiment: Experiment | None = None, on_round: Any = None) -> RoundState:
    return run_experiment(grid, experiment or experiment_of(), folder, durable=False, on_round=on_round)


def test_a_whole_run(tmp_path: Path) -> None:
    final = run(LoopGrid(four()), tmp_path)
    lines = read_rounds(tmp_path / "rounds.jsonl")
    assert [line["round"] for line in lines] == [1, 2, 3, 4]
    assert [line["attempt"] for line in lines] == [1] * 4
    assert not any(line["degraded"] or line["missing"] for line in lines)
    assert list(lines[0]["sites"]) == ["alpha", "beta", "delta", "gamma"]
    assert lines[0]["sites"]["alpha"]["num_cases"] == 11
    assert lines[0]["sites"]["alpha"]["metrics"] == {"val_loss": 0.25}  # 1e31 is no measurement
    assert digest(read_state(tmp_path / "final.safetensors")) == digest(final.state)
    assert read_json(tmp_path / "site_metrics.json") == {
        name: {"val_loss": value} for name, value in (("alpha", 11.0), ("beta", 13.0), ("delta", 10.0), ("gamma", 12.0))
    }
    assert not any((tmp_path / "spool").iterdir())
    assert all(np.isfinite(value).all() for value in final.state.values())


def test_the_order_of_replies_does_not_matter(tmp_path: Path) -> None:
    dealer = random.Random(5)

    def shuffled(messages: list[Message]) -> list[Message]:
        return dealer.sample(messages, len(messages))

    plain = run(LoopGrid(four()), tmp_path / "a")
    mixed = run(LoopGrid(four(), order=shuffled), tmp_path / "b")
    assert digest(plain.state) == digest(mixed.state)
    assert digest(plain.own) == digest(mixed.own)


def test_a_missed_quorum_is_repeated_then_the_run_stops_without_a_release(tmp_path: Path) -> None:
    grid = LoopGrid(four())

    def vanish(record: Any, at: RoundState) -> None:
        if record.round == 2:
            grid.silent |= {"alpha", "gamma"}

    with pytest.raises(Interrupted, match="3 valid updates") as stopped:
        run(grid, tmp_path, on_round=vanish)
    assert stopped.value.value == {"round": 3, "valid": 2, "refused": {"alpha": "E_NO_REPLY", "gamma": "E_NO_REPLY"}}
    assert [job for job in grid.jobs if job[0] == "beta" and job[1] == "train"][2:] == [("beta", "train", 3)] * 3  # once and two repetitions
    assert not (tmp_path / "final.safetensors").exists()
    assert [line["round"] for line in read_rounds(tmp_path / "rounds.jsonl")] == [1, 2]
    assert not any((tmp_path / "spool").iterdir())

    grid.silent.clear()
    continued = run(grid, tmp_path)
    assert digest(continued.state) == digest(run(LoopGrid(four()), tmp_path / "undisturbed").state)
    assert [line["round"] for line in read_rounds(tmp_path / "rounds.jsonl")] == [1, 2, 3, 4]


def test_a_round_that_succeeds_at_the_second_attempt_says_so(tmp_path: Path) -> None:
    sites = four()
    calls = {"alpha": 0}

    def moody(job: Job) -> Update:
        calls["alpha"] += job.kind == "fit"
        return (
            Update(run=job.run, round=job.round, site="alpha", code="E_MEMORY")
            if calls["alpha"] == 1 and job.kind == "fit"
            else site("alpha", 11)(job)
        )

    final = run(LoopGrid({**sites, "alpha": moody}), tmp_path / "a", experiment_of(quorum=4))
    assert [line["attempt"] for line in read_rounds(tmp_path / "a" / "rounds.jsonl")] == [2, 1, 1, 1]
    assert digest(final.state) == digest(run(LoopGrid(four()), tmp_path / "b", experiment_of(quorum=4)).state)


@pytest.mark.parametrize("kind", ["silent", "broken"])
def test_a_lost_site_is_named_and_the_run_degraded(tmp_path: Path, kind: str) -> None:
    grid = LoopGrid(four())

    def lose(record: Any, at: RoundState) -> None:
        if record.round == 1:
            getattr(grid, kind).add("beta")
        if record.round == 3:
            getattr(grid, kind).clear()

    run(grid, tmp_path, on_round=lose)
    lines = read_rounds(tmp_path / "rounds.jsonl")
    assert [line["missing"] for line in lines] == [[], ["beta"], ["beta"], []]
    assert [line["degraded"] for line in lines] == [False, True, True, False]
    assert lines[1]["sites"]["beta"]["refused"] == ("E_NO_REPLY" if kind == "silent" else "E_CONTENT")
    assert "Doe^John" not in (tmp_path / "rounds.jsonl").read_text()


def test_a_late_joiner_takes_part_from_the_next_round_on(tmp_path: Path) -> None:
    sites = four()
    late = sites.pop("beta")
    grid = LoopGrid(sites)

    def join(record: Any, at: RoundState) -> None:
        if record.round == 2:
            grid.connect("beta", late)

    run(grid, tmp_path, on_round=join)
    lines = read_rounds(tmp_path / "rounds.jsonl")
    assert ["beta" in line["sites"] for line in lines] == [False, False, True, True]
    assert "beta" in read_json(tmp_path / "site_metrics.json")


def test_a_site_that_comes_back_under_a_new_node_takes_its_old_place(tmp_path: Path) -> None:
    grid = LoopGrid(four())

    def restart(record: Any, at: RoundState) -> None:
        if record.round == 2:
            grid.connected.discard(next(node for node, name in grid.names.items() if name == "beta"))
            grid.connect("beta", grid.sites["beta"])

    final = run(grid, tmp_path / "a", on_round=restart)
    assert not any(line["degraded"] for line in read_rounds(tmp_path / "a" / "rounds.jsonl"))
    assert digest(final.state) == digest(run(LoopGrid(four()), tmp_path / "b").state)


def test_a_stranger_under_a_taken_name_is_left_out(tmp_path: Path) -> None:
    grid, asked = LoopGrid(four()), []

    def stranger(job: Job) -> Update:
        asked.append(job.kind)
        return Update(run=job.run, round=job.round, site="beta", state={k: v * 0 for k, v in job.state.items()}, num_cases=500)

    def intrude(record: Any, at: RoundState) -> None:
        if record.round == 1:
            grid.connect("stranger", stranger)

    final = run(grid, tmp_path / "a", on_round=intrude)
    assert set(asked) == {"hello"}
    assert digest(final.state) == digest(run(LoopGrid(four()), tmp_path / "b").state)


def _deep(message: Message) -> RecordDict:
    return RecordDict({"head": ConfigRecord({"json": "[" * 200_000}), "state": ArrayRecord({}), "extra": ArrayRecord({})})


def _objects(message: Message) -> RecordDict:
    return RecordDict({**update_content(Update(run="", round=0)), "note": ConfigRecord({"/data/Doe^John": "x"})})


@pytest.mark.parametrize("forge", [_deep, _objects, lambda message: RecordDict()])
def test_a_hostile_reply_costs_only_its_own_site(tmp_path: Path, forge: Callable[[Message], RecordDict]) -> None:
    sites = {name: handle for name, handle in four().items() if name != "beta"}
    grid = LoopGrid(four())
    grid.forged["beta"] = forge
    final = run(grid, tmp_path / "a")
    assert {line["sites"]["beta"]["refused"] for line in read_rounds(tmp_path / "a" / "rounds.jsonl")} == {"E_CONTENT"}
    assert digest(final.state) == digest(run(LoopGrid(sites), tmp_path / "b").state)
    assert "Doe^John" not in (tmp_path / "a" / "rounds.jsonl").read_text()


def test_a_hostile_name_never_becomes_a_path(tmp_path: Path) -> None:
    grid = LoopGrid({**four(), "evil": lambda job: Update(run=job.run, round=job.round, site="../../outside", state=job.state, num_cases=1)})
    run(grid, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert list(read_rounds(tmp_path / "run" / "rounds.jsonl")[0]["sites"]) == ["alpha", "beta", "delta", "gamma"]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam"])
@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_run_is_continued_bit_for_bit(tmp_path: Path, strategy: str, after: int) -> None:
    experiment = experiment_of(strategy=strategy)

    def kill(record: Any, at: RoundState) -> None:
        if record.round == after + 1:  # logged, not yet checkpointed
            raise Killed

    with pytest.raises(Killed):
        run(LoopGrid(four()), tmp_path / "a", experiment, on_round=kill)
    stands = load_latest(tmp_path / "a" / "checkpoints", experiment=experiment.digest)
    assert stands is not None
    assert stands.round == after
    grid = LoopGrid(four())
    continued = run(grid, tmp_path / "a", experiment)
    undisturbed = run(LoopGrid(four()), tmp_path / "b", experiment)
    assert min(job[2] for job in grid.jobs if job[1] == "train") == after + 1
    assert digest(continued.state) == digest(undisturbed.state)
    assert digest(continued.own) == digest(undisturbed.own)
    assert continued.run == stands.run
    assert [line["round"] for line in read_rounds(tmp_path / "a" / "rounds.jsonl")] == [1, 2, 3, 4]


def test_a_run_folder_belongs_to_one_experiment(tmp_path: Path) -> None:
    run(LoopGrid(four()), tmp_path, experiment_of(rounds=1))
    with pytest.raises(BadInput, match="another"):
        run(LoopGrid(four()), tmp_path, experiment_of(rounds=2))
    with pytest.raises(BadInput, match="absolute"):
        run(LoopGrid(four()), Path("relative"), experiment_of())


class TestRoll:
    def test_it_waits_for_the_sites_it_needs(self) -> None:
        grid = LoopGrid(four())
        grid.connected, asked = {1, 2}, []

        def growing() -> list[int]:
            asked.append(1)
            if len(asked) == 3:
                grid.connected.add(3)
            return sorted(grid.connected)

        grid.get_node_ids = growing  # type: ignore[method-assign]
        assert list(take_roll(grid, run="r", timeout_s=5, wanted=3).values()) == ["alpha", "delta", "gamma"]
        assert len(asked) == 3

    def test_too_few_sites(self) -> None:
        grid = LoopGrid(four())
        grid.silent |= {"alpha", "beta"}
        with pytest.raises(Interrupted, match="2 of 3"):
            take_roll(grid, run="r", timeout_s=0.05, wanted=3)

    @pytest.mark.parametrize("order", [list, lambda messages: messages[::-1]])
    def test_a_node_that_claims_a_taken_name_is_left_out_whoever_answers_first(self, order: Any, caplog: pytest.LogCaptureFixture) -> None:
        grid = LoopGrid(four(), order=order)
        grid.names[9] = "beta"
        grid.connected.add(9)
        assert take_roll(grid, run="r", timeout_s=5, wanted=4) == {2: "alpha", 4: "beta", 1: "delta", 3: "gamma"}
        assert "node 9 is left out" in caplog.text

    def test_two_nodes_under_one_name_are_one_site(self) -> None:
        grid = LoopGrid({name: handle for name, handle in four().items() if name in ("alpha", "beta")})
        grid.names[9] = "beta"
        grid.connected.add(9)
        with pytest.raises(Interrupted, match="2 of 3"):
            take_roll(grid, run="r", timeout_s=0.05, wanted=3)


class Open(LoopGrid):
    """`slow` answers only when `lost` has been asked `times` times: the round stays open for the one that died and comes back."""

    def __init__(self, sites: dict[str, Handle], *, slow: str, lost: str, times: int) -> None:
        super().__init__(sites)
        self.slow, self.lost, self.times = slow, lost, times
        self.broken.add(lost)

    def asked(self) -> int:
        return sum(name == self.lost and kind == "train" for name, kind, _ in self.jobs)

    def push_messages(self, messages: Any) -> Any:
        if self.asked() >= self.times - 1:
            self.broken.discard(self.lost)
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Any) -> Any:
        replies = list(super().pull_messages(message_ids))
        if self.asked() < self.times:
            slow = [m for m in replies if self.names[m.metadata.src_node_id] == self.slow and m.metadata.message_type == "train"]
            self._ready += slow
            replies = [m for m in replies if m not in slow]
        return replies


@pytest.mark.parametrize("times", [2, 4])
def test_a_site_that_died_and_comes_back_while_the_round_is_open_is_asked_again(tmp_path: Path, monkeypatch: Any, times: int) -> None:
    monkeypatch.setattr(exchange, "ASK_AGAIN_S", (0.001, 0.002, 0.003, 0.004, 0.005))
    experiment, told = experiment_of(rounds=1, deadline_s=20.0), []
    grid = Open(four(), slow="gamma", lost="beta", times=times)
    final = run_experiment(grid, experiment, tmp_path / "a", durable=False, sites=sorted(four()), waiting=told.append)
    (line,) = read_rounds(tmp_path / "a" / "rounds.jsonl")
    assert (line["attempt"], line["missing"], line["degraded"]) == (1, [], False)
    assert grid.asked() == times
    assert digest(final.state) == digest(run(LoopGrid(four()), tmp_path / "b", experiment_of(rounds=1)).state)
    assert [job for job in grid.jobs if job[0] == "alpha" and job[1] == "train"] == [("alpha", "train", 1)]
    assert ["beta", "gamma"] in told, "a loss is seen while the round is open"
    assert told[-1] == []


@pytest.mark.parametrize(("connected", "asked"), [(True, 1 + 3), (False, 1)])
def test_a_site_that_dies_again_and_again_is_left_alone(tmp_path: Path, monkeypatch: Any, connected: bool, asked: int) -> None:
    monkeypatch.setattr(exchange, "ASK_AGAIN_S", (0.001, 0.001, 0.001))
    grid = LoopGrid({**four(), "omega": site("omega")})
    grid.broken.add("beta")
    grid.silent.add("gamma")  # the round stays open to its end
    push = grid.push_messages

    def pushed(messages: Any) -> Any:
        numbers = push(messages)
        if not connected:
            vanish(grid, "beta")
        return numbers

    monkeypatch.setattr(grid, "push_messages", pushed)
    run_experiment(grid, experiment_of(rounds=1, deadline_s=0.5), tmp_path, durable=False, sites=sorted(grid.sites))
    assert sum(name == "beta" and kind == "train" for name, kind, _ in grid.jobs) == asked
    assert read_rounds(tmp_path / "rounds.jsonl")[0]["missing"] == ["beta", "gamma"]


FIVE = ("alpha", "beta", "delta", "epsilon", "gamma")


def deployed(
    folder: Path, grid: LoopGrid, experiment: Experiment, after: Callable[[Any], None] = lambda record: None, *, durable: bool = False
) -> None:
    """A run as the deployed app makes it: a declared roster, and ``run.json`` beside it; with its journal when `durable`."""
    with Standing(folder, experiment=experiment, sites=list(FIVE), flower_run=1) as standing:

        def told(record: Any, at: RoundState) -> None:
            standing.told(record, at)
            after(record)

        run_experiment(grid, experiment, folder, durable=durable, sites=FIVE, on_round=told, waiting=standing.waiting)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between repetitions, none of them waited for."""
    waited: list[float] = []

    class Clock:
        monotonic = staticmethod(time.monotonic)

        def sleep(self, seconds: float) -> None:
            if seconds > 1.0:
                waited.append(seconds)
            else:
                time.sleep(seconds)

    monkeypatch.setattr(rounds, "time", Clock())
    monkeypatch.setattr(rounds, "REJOIN_S", 0.0)
    return waited


def vanish(grid: LoopGrid, *sites: str) -> None:
    for node in [node for node, name in grid.names.items() if name in sites]:
        grid.connected.discard(node)


def test_three_are_left_the_run_goes_on_and_says_so(tmp_path: Path, pauses: list[float]) -> None:
    grid = LoopGrid({name: site(name) for name in FIVE})
    deployed(tmp_path, grid, experiment_of(), lambda record: vanish(grid, "alpha", "gamma") if record.round == 1 else None)
    lines = read_rounds(tmp_path / "rounds.jsonl")
    assert [line["missing"] for line in lines] == [[], *[["alpha", "gamma"]] * 3]
    standing = read_standing(tmp_path)
    assert (standing["status"], standing["degraded"]) == ("finished", True)
    assert standing["missing"]["alpha"] == {"rounds": [2, 3, 4], "share": 0.2}
    assert pauses == []


def test_two_are_left_the_run_pauses_and_says_why(tmp_path: Path, pauses: list[float]) -> None:
    grid = LoopGrid({name: site(name) for name in FIVE})
    experiment = experiment_of(retries=4, deadline_s=50.0)
    with pytest.raises(Interrupted) as stopped:
        deployed(tmp_path, grid, experiment, lambda record: vanish(grid, "alpha", "beta", "gamma") if record.round == 2 else None)
    assert stopped.value.code == "E_QUORUM"
    assert pauses == [5.0, 15.0, 45.0, 50.0], "they grow, and stay within the deadline"
    standing = read_standing(tmp_path)
    assert (standing["status"], standing["code"], standing["round"]) == ("interrupted", "E_QUORUM", 2)
    assert "'valid': 2, 'refused': {'alpha': 'E_NO_REPLY', 'beta': 'E_NO_REPLY', 'gamma': 'E_NO_REPLY'}" in standing["reason"]
    assert not (tmp_path / "final.safetensors").exists()
    assert [line["round"] for line in read_rounds(tmp_path / "rounds.jsonl")] == [1, 2]
    grid.connected |= set(grid.names)
    deployed(tmp_path, grid, experiment)
    assert read_standing(tmp_path)["status"] == "finished"
    undisturbed = LoopGrid({name: site(name) for name in FIVE})
    deployed(tmp_path / "other", undisturbed, experiment)
    assert (tmp_path / "final.safetensors").read_bytes() == (tmp_path / "other" / "final.safetensors").read_bytes()


def test_a_site_that_comes_back_in_the_pause_takes_part_in_the_repetition(tmp_path: Path, pauses: list[float], monkeypatch: Any) -> None:
    grid = LoopGrid({name: site(name) for name in FIVE})
    vanish(grid, "alpha", "beta")
    grid.silent.add("gamma")
    pause = rounds._pause

    def back(*arguments: Any, **more: Any) -> None:
        grid.silent.clear()
        grid.connect("alpha", grid.sites["alpha"])
        pause(*arguments, **more)

    monkeypatch.setattr(rounds, "_pause", back)
    deployed(tmp_path, grid, experiment_of(rounds=1, deadline_s=1.5), durable=True)
    (line,) = read_rounds(tmp_path / "rounds.jsonl")
    assert (line["attempt"], line["missing"]) == (2, ["beta"])
    trained = [job[0] for job in grid.jobs if job[1] == "train"]
    assert trained.count("delta") == trained.count("epsilon") == 1  # what was answered in the first attempt stands


def test_a_run_waits_for_people_to_approve_it_and_says_for_whom(tmp_path: Path, pauses: list[float], monkeypatch: Any) -> None:
    undecided = {"alpha": 7, "beta": 3, "gamma": 1}  # times that each is asked before somebody there approves

    def asked(name: str) -> Handle:
        def handle(job: Job) -> Update:
            if job.kind == "fit" and undecided.get(name, 0) > 0:
                undecided[name] -= 1
                return Update(run=job.run, round=job.round, site=name, code="E_NOT_APPROVED")
            return site(name)(job)

        return handle

    said: list[list[str]] = []
    note = Standing.waiting
    monkeypatch.setattr(Standing, "waiting", lambda self, sites: (said.append(sites), note(self, sites))[1])
    grid = LoopGrid({name: asked(name) for name in FIVE})
    deployed(tmp_path, grid, experiment_of(rounds=1, quorum=4, retries=0, deadline_s=100.0))
    (line,) = read_rounds(tmp_path / "rounds.jsonl")
    assert (line["attempt"], line["missing"]) == (4, ["alpha"]), "the quorum was there as soon as beta had approved"
    assert ["alpha (to approve)", "beta (to approve)", "gamma (to approve)"] in said
    assert ["alpha (to approve)", "beta (to approve)"] in said
    assert pauses == [5.0, 15.0, 45.0]


def test_waiting_for_approval_ends(tmp_path: Path, pauses: list[float], monkeypatch: Any) -> None:
    monkeypatch.setattr(rounds, "APPROVAL_S", 0.0)
    grid = LoopGrid({name: lambda job: Update(run=job.run, round=job.round, code="E_NOT_APPROVED") for name in FIVE})
    with pytest.raises(Interrupted) as stopped:
        deployed(tmp_path, grid, experiment_of(retries=2, deadline_s=100.0))
    assert stopped.value.code == "E_QUORUM"
    assert len(pauses) == 2


def test_all_updates_rejected_nothing_is_released_and_the_run_stops_with_a_status(tmp_path: Path, pauses: list[float]) -> None:
    def poisoned(name: str) -> Handle:
        def handle(job: Job) -> Update:
            update = site(name)(job)
            return replace(update, state={key: value * np.float32("nan") for key, value in update.state.items()})

        return handle

    grid = LoopGrid({name: poisoned(name) for name in FIVE})
    with pytest.raises(Interrupted) as stopped:
        deployed(tmp_path, grid, experiment_of(retries=3, deadline_s=100.0))
    assert stopped.value.code == "E_REJECTED"
    assert len([job for job in grid.jobs if job[:2] == ("beta", "train")]) == 1 + 3
    assert pauses == [5.0, 15.0, 45.0]
    standing = read_standing(tmp_path)
    assert (standing["status"], standing["code"]) == ("failed", "E_REJECTED")
    assert "E_VALUES" in standing["reason"]
    assert not (tmp_path / "final.safetensors").exists()
    assert not (tmp_path / "checkpoints").exists()
    assert read_rounds(tmp_path / "rounds.jsonl") == []


def test_one_full_batch_step_a_round_is_pooled_gradient_descent(tmp_path: Path) -> None:
    train = Train(batch=64, steps=1, schedule="constant", optimiser=Choice.model_validate({"name": "sgd", "lr": 0.3}))
    experiment = experiment_of(strategy="fedavg", rounds=6).model_copy(update={"train": train})
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (rng.uniform(0, 1, (60, 3, 16, 16)) * 0.5 + 0.4 * y[:, None, None, None]).astype(np.float32)
    whole = Records(x, y, tuple(map(str, range(60))))
    parts = {"alpha": whole.take(range(30)), "beta": whole.take(range(30, 50)), "gamma": whole.take(range(50, 60))}

    def trains(name: str) -> Handle:
        def handle(job: Job) -> Update:
            if job.kind != "fit":
                return Update(run=job.run, round=job.round, site=name)
            rule, factor = rule_of(job.rule, job.extra)
            fitted = fit_gradient(Experiment.from_json(job.experiment), job.state, parts[name], rule=rule, factor=factor, seed=1)
            return Update(run=job.run, round=job.round, site=name, state=fitted.state, num_cases=len(parts[name]), steps=fitted.steps)

        return handle

    final = run(
        LoopGrid({name: trains(name) for name in parts}),
        tmp_path,
        experiment.model_copy(update={"federation": Federation(rounds=6, quorum=3, deadline_s=60)}),
    )
    pooled = start = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    for _ in range(6):
        pooled = fit_gradient(experiment, pooled, whole, rule=Plain(), factor=1.0, seed=2).state
    for key in pooled:
        np.testing.assert_allclose(final.state[key], pooled[key], atol=1e-5)
    assert max(float(np.abs(pooled[key] - start[key]).max()) for key in pooled) > 1e-2


def test_sums_over_sites_are_the_pooled_fit_through_the_whole_loop(tmp_path: Path) -> None:
    from shared_models.catalogue import build

    experiment = experiment_of(Choice(name="logistic"), strategy=None, columns=("c1", "c2"), rounds=8)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(90, 2)) * [1, 100]
    y = (x[:, 0] + rng.normal(size=90) > 0).astype(int)
    model = build(experiment.model, inputs=2, outputs=2)
    parts = {"alpha": slice(0, 20), "beta": slice(20, 50), "gamma": slice(50, 90)}

    def sums(name: str) -> Handle:
        def handle(job: Job) -> Update:
            if job.kind != "fit":
                return Update(run=job.run, round=job.round, site=name)
            part = parts[name]
            return Update(
                run=job.run,
                round=job.round,
                site=name,
                state=model.contribution(job.state, x[part], y[part], seed=0),
                num_cases=len(y[part]),
                steps=1,
            )

        return handle

    final = run(LoopGrid({name: sums(name) for name in parts}), tmp_path, experiment)
    pooled = model.start(seed=0)
    for _ in range(8):
        pooled = model.combine(pooled, [model.contribution(pooled, x, y, seed=0)], [90.0])
    np.testing.assert_allclose(final.state["coefficients"], pooled["coefficients"], atol=1e-8)
    assert json.loads((tmp_path / "rounds.jsonl").read_text().splitlines()[0])["norm"] == 0.0
