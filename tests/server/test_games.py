"""What `fedild check` and the server refuse of networks with players, and the way out that they name."""

from __future__ import annotations

from typing import Any

import pytest

from server.app import strategies_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice
from shared_models.experiment import Data, Experiment
from sim.check import faults

GAME = {"name": "game", "data": {"classes": ("a", "b")}, "model": {"name": "dcgan", "size": 16, "width": 4}}


def asked(**settings: Any) -> Experiment:
    return Experiment.model_validate({**GAME, **settings})


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "fedavgm", "fedadam", "median", "krum", "fedbn", "cyclic"])
def test_what_averages_weights_averages_those_of_players(name: str) -> None:
    knobs = {"mu": 0.1} if name == "fedprox" else {}
    experiment = asked(strategy={"name": name, **knobs}, federation={"quorum": 6})
    assert faults(experiment) == []
    assert len(strategies_of(experiment, [None])) == 1


def test_a_discriminator_may_stay_at_home() -> None:
    assert faults(asked(strategy={"name": "fedper", "personal": ["discriminator.*"]})) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": {"name": "scaffold"}}, "choose fedavg"),
        ({"strategy": {"name": "feddyn"}}, "choose fedavg"),
        ({"strategy": {"name": "ditto"}}, "choose fedavg"),
        ({"strategy": {"name": "apfl"}}, "choose fedavg"),
        ({"strategy": {"name": "fedrep"}}, "choose fedavg"),
        ({"strategy": {"name": "qfedavg"}}, "choose fedavg"),
        ({"strategy": {"name": "exact_sum"}}, "does not serve a model fitted by adversarial"),
        ({"stages": [{"rounds": 1}, {"rounds": 1, "strategy": {"name": "feddyn"}}]}, "choose fedavg"),
        ({"train": {"label_smoothing": 0.1}}, "train.label_smoothing"),
        ({"train": {"focal": 2.0}}, "train.focal"),
        ({"train": {"class_weights": "prior"}}, "train.class_weights"),
        ({"stages": [{"rounds": 1}, {"rounds": 1, "train": {"focal": 2.0}}]}, "train.focal"),
        ({"privacy": {"unit": "patient", "noise_multiplier": 1.0}}, "no noise can hide; choose another model"),
        ({"privacy": {"unit": "site", "noise_multiplier": 1.0}}, "leave [privacy] out"),
        ({"stages": [{"rounds": 1, "train_only": ["nobody.*"]}]}, "train_only"),
    ],
)
def test_what_players_do_not_go_together_with(settings: dict[str, Any], words: str) -> None:
    found = faults(asked(**settings))
    assert len(found) == 1
    assert words in found[0]
    if "train_only" not in words and "patient" not in str(settings):
        with pytest.raises(BadChoice):
            strategies_of(asked(**settings), [None] * len(settings.get("stages", [1])))


def test_others_are_not_asked() -> None:
    experiment = Experiment(name="x", data=Data(classes=("a", "b")), model=Choice(name="mil_cnn"), strategy=Choice(name="scaffold"))
    assert faults(experiment) == []
