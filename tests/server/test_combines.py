"""COMBINES: every strategy has its line, and what a line forbids is refused by name, with the way out."""

from __future__ import annotations

from typing import Any

import pytest

from server.app import strategy_of
from server.combines import COMBINES, conflicts
from server.strategies import STRATEGIES
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice
from shared_models.experiment import Data, Experiment

SETTINGS: dict[str, dict[str, Any]] = {
    "secure_sum": {"federation": {"secure_sum": True, "quorum": 9}},
    "patient_privacy": {"privacy": {"unit": "patient", "noise_multiplier": 1.0}, "federation": {"quorum": 9}},
    "site_privacy": {"privacy": {"unit": "site", "noise_multiplier": 1.0}, "federation": {"quorum": 9}},
    "compression": {"federation": {"compression": {"name": "int8"}, "quorum": 9}},
}
GRADIENT = sorted(name for name, spec in STRATEGIES.items() if spec.fit == "gradient")


def experiment_of(name: str, **sections: Any) -> Experiment:
    base = {"name": "x", "data": Data(classes=("a", "b")), "model": Choice(name="resnet18"), "strategy": Choice(name=name)}
    federation = {**sections.pop("federation", {}), **({"rounds": 1} if name == "one_shot" else {})}
    return Experiment.model_validate({**base, **sections, "federation": federation})


def test_every_strategy_has_a_line_and_no_line_is_over() -> None:
    assert COMBINES.keys() == STRATEGIES.keys()


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("setting", sorted(SETTINGS))
def test_check_and_server_refuse_exactly_what_the_line_forbids(name: str, setting: str) -> None:
    from sim.check import faults

    experiment = experiment_of(name, **SETTINGS[setting])
    found = [str(conflict) for conflict in conflicts(experiment)]
    assert bool(found) != getattr(COMBINES[name], setting)
    assert [fault for fault in faults(experiment) if repr(name) in fault] == found
    assert all("choose" in fault or "leave" in fault for fault in found)
    if found:
        with pytest.raises(BadChoice):
            strategy_of(experiment, None)
    else:
        strategy_of(experiment, None)


@pytest.mark.parametrize(
    ("schedule", "knobs", "warm_up", "wrong"),
    [
        ("cosine", {"every": 3}, 2, False),
        ("cyclic", {}, 0, False),
        ("cyclic", {"every": 3}, 0, True),
        ({"name": "cyclic", "every": 3}, {"every": 3}, 3, False),
        ({"name": "cyclic", "every": 3}, {"every": 3}, 2, True),
    ],
)
def test_snapshots_are_taken_where_the_learning_rate_is_lowest(schedule: Any, knobs: dict[str, Any], warm_up: int, wrong: bool) -> None:
    train = {"schedule": schedule, "warm_up": warm_up} if warm_up else {"schedule": schedule}
    experiment = experiment_of("snapshot", train=train).model_copy(update={"strategy": Choice.model_validate({"name": "snapshot", **knobs})})
    assert any("where the learning rate is lowest" in str(conflict) for conflict in conflicts(experiment)) == wrong


@pytest.mark.parametrize(("name", "knobs", "least"), [("krum", {"hostile": 2}, 7), ("trimmed_mean", {"share": 0.1}, 10), ("median", {}, 3)])
def test_a_round_needs_as_many_replies_as_the_method(name: str, knobs: dict[str, Any], least: int) -> None:
    strategy = Choice.model_validate({"name": name, **knobs})
    for quorum, wrong in ((least - 1, True), (least, False)):
        experiment = experiment_of(name, federation={"quorum": quorum}).model_copy(update={"strategy": strategy})
        assert any(f"needs {least} updates" in str(conflict) for conflict in conflicts(experiment)) == wrong
