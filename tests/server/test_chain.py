"""Sites that train one after another: who gets what, who is passed over, and that a crash in the middle of a chain changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.runs import exchange
from server.runs.chain import order_of
from shared_models.core.errors import Interrupted
from shared_models.messages import Job, Update
from tests.server.loop_grid import Handle, LoopGrid
from tests.server.scripted_sites import SITES, change, experiment_of, lines_of, run, site, survives_every_kill


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.0, 0.001))


def all_sites(**more: list) -> dict[str, Handle]:
    return {name: site(name, **more) for name in SITES}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("how", ["shuffled", "fixed"])
def test_each_goes_on_from_the_state_of_the_one_before(tmp_path: Path, how: str, seed: int) -> None:
    told: list[tuple[str, int, str]] = []
    final = run(LoopGrid(all_sites(told=told)), tmp_path, experiment_of("cyclic", {"order": how}, seed=seed, rounds=3))
    w = np.zeros(4, np.float32)
    for number in range(1, 4):
        order = order_of(SITES, how, seed=seed, round=number)
        assert [name for name, asked, _ in told if asked == number] == order
        for name in order:
            w = w + change(name, number)
        places = {name: found["place"] for name, found in lines_of(tmp_path)[number - 1]["sites"].items()}
        assert sorted(places, key=lambda name: places[name]) == order
    assert w.tobytes() == final.state["w"].tobytes()
    assert final.state["n"] == 12


def test_a_site_that_fails_is_passed_over(tmp_path: Path) -> None:
    grid = LoopGrid(all_sites())
    grid.broken.add("beta")
    grid.sites["delta"] = lambda job: replace(site("delta")(job), state={"w": np.full(4, np.nan, np.float32), "n": np.array(0)})
    final = run(grid, tmp_path, experiment_of("cyclic", rounds=2), sites=SITES)
    expected = np.zeros(4, np.float32)
    for number in (1, 2):
        for name in order_of(("alpha", "gamma"), "fixed", seed=0, round=number):
            expected = expected + change(name, number)
    np.testing.assert_allclose(final.state["w"], expected, rtol=1e-5)
    for line in lines_of(tmp_path):
        assert line["missing"] == ["beta", "delta"]
        assert {name: found["refused"] for name, found in line["sites"].items()} == {
            "alpha": None,
            "beta": "E_CONTENT",
            "delta": "E_VALUES",
            "gamma": None,
        }


def test_too_few_links_are_no_round(tmp_path: Path) -> None:
    def refuses(job: Job) -> Update:
        return Update(run=job.run, round=job.round, site="beta", code="" if job.kind == "hello" else "E_MEMORY")

    with pytest.raises(Interrupted) as stopped:
        run(LoopGrid({**all_sites(), "beta": refuses}), tmp_path, experiment_of("cyclic", quorum=4))
    assert stopped.value.code == "E_QUORUM"


def test_killed_at_every_write_it_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = experiment_of("cyclic", rounds=3)
    survives_every_kill(monkeypatch, tmp_path, experiment, lambda: LoopGrid(all_sites()), 3, durable=True)


def test_what_was_answered_before_a_crash_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.server.scripted_sites import begun, dies_at

    experiment, told = experiment_of("cyclic", rounds=1), []
    folder = begun(tmp_path / "a", experiment)
    # the log, then update and note of two sites, and the update of the third: its note is never written
    assert not dies_at(monkeypatch, 7, lambda: run(LoopGrid(all_sites()), folder, experiment, durable=True))
    run(LoopGrid(all_sites(told=told)), folder, experiment, durable=True)
    assert [name for name, _, _ in told] == order_of(SITES, "shuffled", seed=0, round=1)[2:]
