"""A network that fails in every way at once, and a clock that is off."""

from __future__ import annotations

import time

import pytest

from client.station import standing
from server.queue import Entry
from sim.federation_demo import differences
from tests.deploy.stage import WHOLE, Stage, experiment

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(3600)]

CUT_S = 30.0
SKEW_S = 600.0


def test_cut_resets_delay_and_a_half_open_line_cost_nothing_but_time(stage: Stage) -> None:
    """Each site has a fault of its own from the first round on; `heal` does not bring a forgotten connection back."""
    undisturbed = stage.undisturbed(WHOLE)
    began: list[float] = []

    def look(entry: Entry) -> None:
        if not began and stage.rounds(entry.run):
            began.append(time.monotonic())
            stage.told("  the network fails")
            stage.relays["alpha"].delay(0.3)
            stage.relays["beta"].reset()
            stage.relays["gamma"].hold()
            stage.relays["delta"].forget()
        elif len(began) == 1 and time.monotonic() - began[0] >= CUT_S:
            began.append(time.monotonic())
            stage.told("  the network is back")
            for relay in stage.relays.values():
                relay.heal()

    run = stage.order(WHOLE)
    folder = stage.follow(run, look)
    assert len(began) == 2, "the run was over before the network came back"
    stage.told(f"  the run ended {time.monotonic() - began[1]:.0f} s after the network was back")
    assert differences(folder, undisturbed) == []


def test_a_clock_that_is_ten_minutes_off_is_refused_with_the_word_clock(stage: Stage) -> None:
    folder = stage.deployment.site("delta")
    stage.plan.move_clock(folder, SKEW_S)
    stage.deployment.kill(folder)
    stage.deployment.start_site("delta")
    stage.wait_for(lambda: "clock" in standing(folder)["refused"], "the refusal must name the clock")
    # The others go on, and the run says who was not there.
    run = stage.order(experiment("skew", rounds=1, quorum=3, deadline_s=stage.deadline_s()))
    stage.follow(run)
    assert stage.rounds(run)[0]["missing"] == ["delta"]
    stage.plan.clear()
    stage.deployment.kill(folder)
