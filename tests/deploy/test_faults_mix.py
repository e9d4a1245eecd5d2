"""Half an hour of faults of every kind, drawn at random, and a cut of five minutes: `make soak`. The seed is printed."""

from __future__ import annotations

import os
import random
import time

import pytest

from server.queue import Entry
from sim.federation_demo import differences
from tests.deploy.stage import NAMES, RUN_S, WHOLE, Stage
from tests.soak.chaos import HASTE, VICTIMS, Chaos

pytestmark = pytest.mark.soak

MIX_S = 60.0 * float(os.environ.get("SOAK_MINUTES", "30"))
CUT_S = 300.0
NETWORK_S = (5.0, 45.0)
"""Seconds that a fault of the network lasts."""


class Weather:
    """Faults of the network, one site at a time, beside the kills of `Chaos`."""

    def __init__(self, stage: Stage, dealer: random.Random) -> None:
        self.stage, self.dealer, self.until, self.site = stage, dealer, time.monotonic() + 5.0, ""

    def look(self) -> None:
        """Heal what has lasted long enough, or begin the next fault."""
        if time.monotonic() < self.until:
            return
        self.until = time.monotonic() + self.dealer.uniform(*NETWORK_S)
        if self.site:
            self.stage.relays[self.site].heal()
            self.site = ""
            return
        self.site = self.dealer.choice(NAMES)
        relay = self.stage.relays[self.site]
        kind = self.dealer.choice(("hold", "reset", "forget", "delay"))
        self.stage.told(f"  {kind} at {self.site}")
        relay.delay(0.5) if kind == "delay" else getattr(relay, kind)()


@pytest.mark.timeout(MIX_S + 3600)
def test_a_random_mix(stage: Stage) -> None:
    """Whole runs one after another; each must end by itself with the bits of the undisturbed one."""
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(2**31)))
    stage.told(f"seed {seed}")
    dealer, undisturbed = random.Random(seed), stage.undisturbed(WHOLE)
    began, runs = time.monotonic(), 0
    while time.monotonic() - began < MIX_S:
        storm = Chaos(stage.deployment, random.Random(dealer.randrange(2**31)), dealer.sample(list(VICTIMS), 3), HASTE)
        weather = Weather(stage, random.Random(dealer.randrange(2**31)))

        def look(entry: Entry, storm: Chaos = storm, weather: Weather = weather) -> None:
            storm.look(entry)
            weather.look()

        run = stage.order(WHOLE)
        storm.begin()
        stage.deployment.follow(run, timeout_s=RUN_S, look=look)
        storm.end()
        stage.restore()
        assert differences(stage.follow(run), undisturbed) == []
        runs += 1
        stage.told(f"run {runs}: {', '.join(kind for kind, _, _ in storm.done)}; as promised")
    assert runs >= 1


@pytest.mark.timeout(CUT_S + 1800)
def test_a_cut_of_five_minutes(stage: Stage) -> None:
    """Longer than Flower keeps a silent node: the site is let in again, and is waited for."""
    undisturbed = stage.undisturbed(WHOLE)
    began: list[float] = []

    def look(entry: Entry) -> None:
        if not began and stage.rounds(entry.run):
            began.append(time.monotonic())
            stage.relays["gamma"].hold()
        elif len(began) == 1 and time.monotonic() - began[0] >= CUT_S:
            began.append(time.monotonic())
            stage.relays["gamma"].heal()

    folder = stage.follow(stage.order(WHOLE), look)
    assert len(began) == 2
    assert differences(folder, undisturbed) == []
