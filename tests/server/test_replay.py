"""Replays: whole, rightly signed updates that were caught once and are sent again, or elsewhere. None is counted, and nobody else notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from server.runs.checkpoint import RoundState
from server.runs.rounds import RoundRecord, run_rounds
from server.strategies.fedavg import fedavg
from shared_models.core.state import digest
from shared_models.messages import Job, Update
from tests.server.loop_grid import LoopGrid
from tests.server.test_signature import CURRENT, EXPERIMENT, HONEST, KEYS, plain, signed

ROUNDS = EXPERIMENT.federation.rounds


def caught(job: Job, site: str = "delta") -> Update:
    """What `site` would rightly have sent to this question: signed with its own key."""
    return signed(plain(job, site))


REPLAYS: dict[str, tuple[str, Callable[[Job], Update]]] = {
    "of an earlier round": ("E_ROUND", lambda job: caught(replace(job, round=job.round - 1))),
    "of a later round": ("E_ROUND", lambda job: caught(replace(job, round=job.round + 1))),
    "of another run": ("E_ROUND", lambda job: caught(replace(job, run="fedcba9876543210"))),
    "of another site under its name": ("E_SITE", lambda job: caught(job, "alpha")),
    "of another site under our name": ("E_SIGNATURE", lambda job: replace(caught(job, "alpha"), site="delta")),
    "of an earlier round with its number changed": (
        "E_SIGNATURE",
        lambda job: replace(caught(replace(job, round=job.round - 1)), round=job.round),
    ),
    "of another run with its name changed": ("E_SIGNATURE", lambda job: replace(caught(replace(job, run="other")), run=job.run)),
    "with a signature of this round on other weights": (
        "E_SIGNATURE",
        lambda job: replace(caught(job), state={"w": job.state["w"] + 1}),
    ),
    "with one digit of the signature changed": ("E_SIGNATURE", lambda job: _other_digit(caught(job))),
    "with another site's right signature": ("E_SIGNATURE", lambda job: signed(plain(job, "delta"), "beta")),
}


def _other_digit(update: Update) -> Update:
    first = "1" if update.signature[0] == "0" else "0"
    return replace(update, signature=first + update.signature[1:])


def run(folder: Path, grid: LoopGrid) -> tuple[RoundState, list[RoundRecord]]:
    records: list[RoundRecord] = []
    final = run_rounds(
        fedavg(None),
        grid,
        RoundState("0123", 0, CURRENT, {}, EXPERIMENT.digest),
        experiment=EXPERIMENT,
        roster=dict(grid.names),
        model=None,
        folder=folder,
        on_round=lambda record, at: records.append(record),
        durable=False,
        keys=KEYS,
    )
    return final, records


@pytest.mark.parametrize("name", REPLAYS)
def test_a_replay_counts_for_nothing(name: str, tmp_path: Path) -> None:
    code, answer = REPLAYS[name]
    without, _ = run(tmp_path / "without", LoopGrid(dict(HONEST)))
    final, records = run(tmp_path / "with", LoopGrid({**HONEST, "delta": answer}))
    assert digest(final.state) == digest(without.state)
    assert len(records) == ROUNDS
    for record in records:
        assert record.sites["delta"].refused == code
        assert record.missing == ["delta"]
        assert [record.sites[site].refused for site in HONEST] == [None] * len(HONEST)


def test_what_was_caught_is_good_in_its_own_place(tmp_path: Path) -> None:
    final, records = run(tmp_path / "with", LoopGrid({**HONEST, "delta": caught}))
    assert [record.missing for record in records] == [[]] * ROUNDS
    assert digest(final.state) != digest(run(tmp_path / "without", LoopGrid(dict(HONEST)))[0].state)


@pytest.mark.parametrize("times", [2, 3])
def test_an_update_that_arrives_several_times_counts_once(times: int, tmp_path: Path) -> None:
    once, before = run(tmp_path / "once", LoopGrid(dict(HONEST)))
    again, records = run(tmp_path / "again", LoopGrid(dict(HONEST), order=lambda replies: replies * times))
    assert digest(again.state) == digest(once.state)
    for one, other in zip(before, records, strict=True):
        assert other.sites == one.sites, "nobody is marked as refused for what the network did"
        assert other.missing == []
