"""Buffered asynchronous rounds over a real network: a site that stands still holds nobody up, and what it was working on counts with its age."""

from __future__ import annotations

import pytest

from server.queue import Entry
from shared_models.experiment import Experiment
from sim.deployment import running_in
from tests.deploy.stage import Stage, experiment

SLOW, HALTED_FOR, ROUNDS = "delta", 3, 12
"""The site that stands still, for how many rounds of the others, and rounds in all."""


def fedbuff(*, deadline_s: float) -> Experiment:
    plain = experiment("late", rounds=ROUNDS, quorum=3, deadline_s=deadline_s).model_dump()
    return Experiment.model_validate({**plain, "strategy": {"name": "fedbuff", "most_stale": ROUNDS}})


@pytest.mark.deployment
@pytest.mark.timeout(1800)
def test_rounds_close_without_a_site_that_stands_still_and_its_update_counts_later(stage: Stage) -> None:
    halted: list[int] = []
    went_on: list[int] = []

    def look(entry: Entry) -> None:
        rounds = stage.rounds(entry.run)
        if rounds and not halted:
            stage.halt(running_in(stage.deployment.site(SLOW))["resident"]["pid"])
            halted.append(rounds[-1]["round"])
        # Counted from the first round that it is late for: what it had sent before it was halted may still come in.
        late = [line for line in rounds if SLOW in line["late"] and SLOW not in line["sites"] and line["round"] > halted[0]] if halted else []
        if len(late) >= HALTED_FOR and not went_on:
            stage.unhalt()
            went_on.append(rounds[-1]["round"])

    deadline_s = 10 * stage.deadline_s()
    run = stage.order(fedbuff(deadline_s=deadline_s))
    stage.follow(run, look)
    assert halted
    assert went_on
    rounds = stage.rounds(run)
    assert not any(line["missing"] or line["degraded"] or line["attempt"] > 1 for line in rounds)
    assert all(line["wall_s"] < deadline_s / 2 for line in rounds), "no round waited for its deadline"
    without = [line for line in rounds if halted[0] < line["round"] <= went_on[0] and SLOW not in line["sites"]]
    assert len(without) >= HALTED_FOR
    assert all(line["late"] == [SLOW] and sorted(line["sites"]) == ["alpha", "beta", "gamma"] for line in without)
    taken = next(line["sites"][SLOW] for line in rounds if line["round"] > went_on[0] and SLOW in line["sites"])
    assert taken["refused"] is None
    assert taken["num_cases"] > 0
    assert taken["staleness"] >= HALTED_FOR
