"""What networks that play against one another do not go together with: `fedild check` and the server refuse it and name the way out."""

from __future__ import annotations

from collections.abc import Iterator

from server.combines import ABLE, Conflict
from server.strategies import DEFAULTS, STRATEGIES
from shared_models.catalogue import spec_of
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import FedILDError
from shared_models.experiment import Experiment, Train
from shared_models.phases import phases_of

TURNS = frozenset({"plain", "fedprox", "personal"})
"""Rules that mean the same when several players take turns; all others know one loss, one optimiser or one classifier."""


def game_conflicts(experiment: Experiment) -> Iterator[Conflict]:
    """Yield why the players of an experiment's model cannot be trained as it says; nothing for a model without players.

    Examples
    --------
    >>> from shared_models.experiment import Data
    >>> asked = Experiment(name="x", data=Data(classes=("a", "b")), model=Choice(name="dcgan"), strategy=Choice(name="scaffold"))
    >>> print(next(game_conflicts(asked)))
    strategy: 'scaffold' changes the steps of one loss, and 'dcgan' has players that each lose something else; choose fedavg, fedprox, fedavgm \
or an adaptive one, or fedper with personal = ["discriminator.*"]
    """
    name = experiment.model.name
    if spec_of(experiment.model).fit != "adversarial":
        return
    if experiment.privacy.unit == "site":  # that of patients is refused with every fit that has no private one
        rule = f"has not been worked out for {name!r}, whose players take turns"
        yield Conflict("privacy", rule, "leave [privacy] out, or choose a model that is fitted by gradient")
    for phase in phases_of(experiment.model_copy(update={"statistics": None, "calibration": None})):
        choice = phase.settings.strategy or Choice(name=DEFAULTS["adversarial"])
        if choice.name in STRATEGIES and STRATEGIES[choice.name].serves("adversarial") and _rule_of(choice) not in TURNS:
            rule = f"{choice.name!r} changes the steps of one loss, and {name!r} has players that each lose something else"
            yield Conflict("strategy", rule, f'choose {ABLE}, or fedper with personal = ["discriminator.*"]')
        for setting in _unheard(phase.settings.train):
            rule = f"is of one loss of one classifier, and {name!r} has players that each lose something else"
            yield Conflict(f"train.{setting}", rule, "leave it out")


def _rule_of(choice: Choice) -> str:
    try:
        return str(pick(STRATEGIES, choice, kind="strategy", get=lambda spec: spec.build)(None).rule["name"])
    except FedILDError:
        return "plain"  # its knobs are told of elsewhere


def _unheard(train: Train) -> list[str]:
    """Return the settings that the loop of players would not hear."""
    said = {"label_smoothing": train.label_smoothing > 0, "focal": train.focal is not None, "class_weights": train.class_weights == "prior"}
    return [setting for setting, is_set in said.items() if is_set]
