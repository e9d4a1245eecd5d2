"""What is compared: strategies by name, each with knobs of its own and, where a method needs it, other settings of the experiment.

``fedavg,fedprox:mu=0.1,fedyogi:eta=0.03:train.optimiser.lr=0.003``
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from server.strategies import STRATEGIES
from shared_models.catalogue import spec_of
from shared_models.core.choices import apply_overrides, look_up, validated
from shared_models.core.errors import BadInput
from shared_models.core.files import sha256
from shared_models.experiment import Experiment

ALL = "all"
"""Stands for every strategy that serves the experiment's model."""
MAY_SET = ("federation", "inputs", "model", "privacy", "train")
"""Sections that an arm may change: the patients, their preparation and the judgement are the same for all."""
LONGEST = 60
"""Characters of a folder's name that come from a label."""


@dataclass(frozen=True)
class Arm:
    """One way of training that is compared with the others.

    Parameters
    ----------
    strategy : str
        A line of STRATEGIES.
    settings : tuple of str
        ``knob=value`` of the strategy, or ``table.key=value`` of the experiment.
    """

    strategy: str
    settings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What readers see."""
        return " ".join((self.strategy, *(setting.removeprefix("train.optimiser.").removeprefix("federation.") for setting in self.settings)))

    @property
    def folder(self) -> str:
        """A name for the arm's files."""
        text = ":".join((self.strategy, *self.settings))
        plain = re.sub(r"[^A-Za-z0-9._=-]+", "_", text)
        return plain if plain == text and len(text) <= LONGEST else f"{plain[:LONGEST]}-{sha256(text.encode())[:6]}"

    def of(self, experiment: Experiment, *, seed: int) -> Experiment:
        """Return the experiment as this arm runs it. Knobs that the experiment gives to the same strategy stay.

        Raises
        ------
        BadExperiment
            A setting that no experiment has.
        """
        document = experiment.model_dump(mode="json", exclude_none=True)
        known = experiment.strategy.knobs if experiment.strategy and experiment.strategy.name == self.strategy else {}
        document |= {"strategy": {"name": self.strategy, **known}, "seed": seed}
        settings = [setting if "." in setting.partition("=")[0] else f"strategy.{setting}" for setting in self.settings]
        return validated(Experiment, apply_overrides(document, settings), what=f"{experiment.name} with {self.label}")


def arms_of(words: str, experiment: Experiment) -> list[Arm]:
    """Read the arms from ``name:knob=value:...,name,...``; ``all`` stands for every strategy that serves the model.

    Raises
    ------
    BadInput
        No arm, one twice, or one that wants patients or a judgement of its own.
    BadChoice
        An unknown strategy.

    Examples
    --------
    >>> from sim.experiments import find
    >>> [arm.label for arm in arms_of("fedavg,fedprox:mu=0.1", find("heart_disease", []))]
    ['fedavg', 'fedprox mu=0.1']
    """
    fit, arms = spec_of(experiment.model).fit, []
    for word in _split(words):
        name, *settings = (part.strip() for part in re.split(r":(?=[\w.]+=)", word))
        if name == ALL and not settings:
            arms += [Arm(name) for name, spec in STRATEGIES.items() if spec.serves(fit) and Arm(name) not in arms]
            continue
        look_up(STRATEGIES, name, kind="strategy")
        for setting in settings:
            head, dot, _ = setting.partition("=")[0].partition(".")
            if dot and head not in MAY_SET:
                raise BadInput("all strategies are compared on the same patients", value=setting, remedy=f"an arm may set {', '.join(MAY_SET)}")
        arms.append(Arm(name, tuple(settings)))
    if not arms:
        raise BadInput("a comparison needs strategies", remedy="for example --strategies fedavg,fedprox:mu=0.1, or all")
    if twice := sorted({arm.label for arm in arms if arms.count(arm) > 1}):
        raise BadInput("a comparison names each strategy with its knobs once", value=twice)
    return arms


def _split(words: str) -> list[str]:
    """Split at commas that stand outside brackets: a knob may be a list."""
    parts, depth = [""], 0
    for letter in words:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]
