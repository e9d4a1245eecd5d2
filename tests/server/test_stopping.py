"""Early stopping, release of the best round and sampling of sites: by scripted metrics, and the same after every kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.runs import exchange
from server.runs.checkpoint import load_state
from server.runs.draws import sampled
from server.runs.stopping import Course, federated_metric
from shared_models.core.errors import BadExperiment, Interrupted
from shared_models.core.files import read_json, read_state
from shared_models.core.state import digest
from shared_models.experiment import Experiment, Federation, Stopping
from shared_models.messages import Job, Update
from tests.server.loop_grid import Handle, LoopGrid
from tests.server.scripted_sites import SITES, experiment_of, lines_of, run, site, survives_every_kill

LOSSES = [9.0, 5.0, 3.0, 2.0, 2.5, 2.4, 2.3, 2.2, 2.1]
"""Of the state after round 0, 1, 2 ...: the third round is the best."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.0, 0.001))


def measured(job: Job) -> dict[str, float]:
    """What any site measures on the state that it received: of the round before, or, asked to judge, of that round."""
    return {"val_loss": LOSSES[job.round - (job.kind == "fit")], "val_cases": 10.0}


def all_sites(metrics: Callable[[Job], dict[str, float]] = measured) -> dict[str, Handle]:
    return {name: site(name, metrics=metrics) for name in SITES}


STRATEGIES = {"fedavg": {}, "fedadam": {}, "scaffold": {}, "cyclic": {}, "fedbuff": {}}


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_it_stops_when_it_gets_no_better_and_releases_the_best_round(tmp_path: Path, name: str) -> None:
    experiment = experiment_of(name, rounds=8, quorum=4, stopping={"patience": 2})
    final = run(LoopGrid(all_sites()), tmp_path, experiment)
    lines = lines_of(tmp_path)
    rides = name not in ("cyclic", "fedbuff")  # there the sites of a round do not see one state: they are asked to judge each
    assert len(lines) == 6 if rides else 5
    assert [line["score"] and line["score"]["round"] for line in lines] == ([None, 1, 2, 3, 4, 5] if rides else [1, 2, 3, 4, 5])
    assert lines[-1]["best"] == 3
    released = read_json(tmp_path / "release.json")
    assert {key: released[key] for key in ("round", "of", "rounds", "metric", "value")} == {
        "round": 3,
        "of": len(lines),
        "rounds": 8,
        "metric": "val_loss",
        "value": 2.0,
    }
    best = load_state(tmp_path, 3)
    assert best is not None
    assert digest(best) == digest(read_state(tmp_path / "final.safetensors")) == digest(final.state)
    assert final.round == 3
    assert read_json(tmp_path / "site_metrics.json")["alpha"]["val_loss"] == 2.0  # the sites' judgement is of what was released
    whole = run(LoopGrid(all_sites()), tmp_path / "whole", experiment_of(name, rounds=3, quorum=4))
    assert digest(whole.state) == digest(final.state)


def test_the_last_round_may_be_the_best_and_the_last_may_be_wanted(tmp_path: Path) -> None:
    best = run(LoopGrid(all_sites()), tmp_path / "a", experiment_of(rounds=3, stopping={"patience": 2}))
    assert best.round == 3
    assert read_json(tmp_path / "a" / "release.json")["says"] == "the state after round 3 of 3 (val_loss 2)"
    last = run(LoopGrid(all_sites()), tmp_path / "b", experiment_of(rounds=8, stopping={"patience": 1, "release": "last"}))
    assert last.round == 5
    assert "round 5 of 5; stopped before round 8" in read_json(tmp_path / "b" / "release.json")["says"]
    plain = run(LoopGrid(all_sites()), tmp_path / "c", experiment_of(rounds=8))
    assert (plain.round, read_json(tmp_path / "c" / "release.json")["says"]) == (8, "the state after round 8 of 8")
    assert all(line["score"] is None and line["best"] is None for line in lines_of(tmp_path / "c"))


def test_without_metrics_it_goes_to_its_end(tmp_path: Path) -> None:
    final = run(LoopGrid(all_sites(lambda job: {})), tmp_path, experiment_of(rounds=4, stopping={"patience": 1}))
    assert final.round == 4
    assert read_json(tmp_path / "release.json")["metric"] == ""


@pytest.mark.parametrize(("name", "durable"), [("fedavg", False), ("fedavg", True), ("cyclic", True)])
def test_killed_at_every_write_it_stops_at_the_same_round_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, durable: bool
) -> None:
    experiment = experiment_of(name, rounds=8, stopping={"patience": 1})
    survives_every_kill(monkeypatch, tmp_path, experiment, lambda: LoopGrid(all_sites()), 4, durable=durable)


class TestCourse:
    def test_by_hand(self) -> None:
        course = Course(Stopping(metric="val_accuracy", patience=2, min_delta=0.05))
        assert course.note(0, 0.99) is None  # nobody releases an untrained model
        for number, value in enumerate([0.5, 0.54, 0.6, None, 0.62, 0.64], 1):
            course.note(number, value)
        assert (course.best, course.value, course.waited, course.stop) == (3, 0.6, 2, True)
        again = Course.of(course.settings, course.keep())
        assert again == course

    def test_a_metric_is_weighed_with_the_patients_that_it_was_measured_on(self) -> None:
        found = {"a": {"val_loss": 1.0, "val_cases": 1.0}, "b": {"val_loss": 4.0, "val_cases": 2.0}, "c": {"val_accuracy": 1.0}}
        assert federated_metric("val_loss", found) == 3.0
        assert federated_metric("val_auroc_macro", found) is None
        hostile = {"x": {"val_loss": float("nan")}, "y": {"val_loss": float("inf")}, "z": {"val_loss": 0.0, "val_cases": -5.0}}
        assert federated_metric("val_loss", found | hostile) == 3.0
        assert federated_metric("val_loss", hostile) is None


class TestSampling:
    @pytest.mark.parametrize(("sample", "quorum", "count"), [(0.5, 1, 2), (0.51, 1, 3), (3, 1, 3), (1, 2, 2), (9, 1, 4), (1.0, 1, 4), (0.1, 1, 1)])
    def test_how_many(self, sample: float, quorum: int, count: int) -> None:
        settings = Federation(sample=sample, quorum=quorum)
        assert len(sampled(SITES, SITES, settings, seed=0, round=1)) == count

    def test_every_site_has_its_turn_and_the_seed_decides(self) -> None:
        settings = Federation(sample=2, quorum=1)
        drawn = [[tuple(sampled(SITES, SITES, settings, seed=seed, round=number)) for number in range(200)] for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1] != drawn[2]
        for name in SITES:
            assert 70 < sum(name in one for one in drawn[0]) < 130

    @pytest.mark.parametrize("bad", [0, 1.5, -1, 0.0, True])
    def test_what_is_no_sample(self, bad: Any) -> None:
        with pytest.raises(ValueError, match="sample"):
            Federation(sample=bad)
        assert Experiment.from_json(experiment_of(sample=1.0).to_json()).federation.sample == 1.0
        assert isinstance(Experiment.from_json(experiment_of(sample=1).to_json()).federation.sample, int)

    def test_only_the_drawn_are_asked_and_the_others_are_not_missing(self, tmp_path: Path) -> None:
        grid = LoopGrid(all_sites())
        run(grid, tmp_path, experiment_of("scaffold", sample=0.5, seed=4), sites=SITES)
        for line in lines_of(tmp_path):
            drawn = sampled(SITES, SITES, Federation(sample=0.5, quorum=2), seed=4, round=line["round"])
            assert sorted(line["sites"]) == drawn
            assert (line["missing"], line["degraded"]) == ([], False)
            assert sorted(name for name, kind, number in grid.jobs if kind == "train" and number == line["round"]) == drawn

    def test_who_fails_is_replaced_in_the_next_attempt(self, tmp_path: Path) -> None:
        first = sampled(SITES, SITES, Federation(sample=2, quorum=2), seed=0, round=1)

        def refuses(name: str) -> Handle:
            return lambda job: Update(run=job.run, round=job.round, site=name, code="" if job.kind == "hello" else "E_MEMORY")

        sites = all_sites() | {first[0]: refuses(first[0])}
        run(LoopGrid(sites), tmp_path / "a", experiment_of(sample=2, rounds=1))
        (line,) = lines_of(tmp_path / "a")
        assert (line["attempt"], line["missing"], len(line["sites"])) == (2, [first[0]], 3)
        with pytest.raises(Interrupted):
            run(LoopGrid({name: refuses(name) for name in SITES}), tmp_path / "b", experiment_of(sample=2, rounds=1))

    def test_killed_at_every_write_it_draws_the_same_sites(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        experiment = experiment_of("fedadam", sample=0.5, rounds=4, stopping={})
        survives_every_kill(monkeypatch, tmp_path, experiment, lambda: LoopGrid(all_sites()), 5, durable=True)


def test_what_does_not_go_together_is_refused() -> None:
    from server.combines import conflicts

    def faults(*settings: Any, **federation: Any) -> list[str]:
        return [str(fault) for fault in conflicts(experiment_of(*settings, **federation))]

    assert "federation.rounds = 1" in faults("one_shot")[0]
    assert not faults("one_shot", rounds=1)
    assert "strategy.buffer" in faults("fedbuff", {"buffer": 2}, quorum=3)[0]
    assert "release = 'last'" in faults("fedbn", stopping={})[0]
    assert not faults("fedbn", stopping={"release": "last"})
    private = experiment_of(stopping={}).model_dump(mode="json", exclude_none=True) | {"privacy": {"unit": "patient", "noise_multiplier": 1.0}}
    with pytest.raises(BadExperiment, match=r"federation\.stopping"):
        Experiment.from_json(__import__("json").dumps(private))
