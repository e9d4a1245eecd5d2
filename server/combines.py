"""COMBINES: which strategy goes together with what. A literal table; `fedild check` and the server refuse the rest and name the way out."""

from __future__ import annotations

from typing import NamedTuple

from server.strategies import DEFAULTS, STRATEGIES
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.catalogue import MODELS, spec_of
from shared_models.core.choices import Choice
from shared_models.experiment import Experiment
from shared_models.schedules import CYCLE_ROUNDS


class Combines(NamedTuple):
    """One line: whether a strategy works with each of these.

    Parameters
    ----------
    secure_sum : bool
        With updates of which only the sum is seen.
    patient_privacy : bool
        With noise that the sites add; what comes after the noise spends nothing more.
    site_privacy : bool
        With one noisy mean in place of the sites' updates.
    absence : bool
        With sites that miss rounds.
    compression : bool
        With updates that are packed with loss.
    """

    secure_sum: bool
    patient_privacy: bool
    site_privacy: bool
    absence: bool
    compression: bool


COMBINES: dict[str, Combines] = {
    #                    secure sum, patient privacy, site privacy, absence, compression
    "fedavg": Combines(True, True, True, True, True),
    "fedprox": Combines(True, True, True, True, True),
    "fedavgm": Combines(True, True, True, True, True),
    "fedadagrad": Combines(True, True, True, True, True),
    "fedadam": Combines(True, True, True, True, True),
    "fedyogi": Combines(True, True, True, True, True),
    "fednova": Combines(False, True, False, True, True),
    "scaffold": Combines(False, True, False, True, False),
    "feddyn": Combines(False, True, False, True, False),
    "fedbn": Combines(True, True, False, True, True),
    "fedper": Combines(True, True, False, True, True),
    "fedrep": Combines(True, True, False, True, True),
    "ditto": Combines(True, True, False, True, True),
    "apfl": Combines(True, True, False, True, True),
    "moon": Combines(True, True, True, True, True),
    "median": Combines(False, True, False, True, True),
    "trimmed_mean": Combines(False, True, False, True, True),
    "geometric_median": Combines(False, True, False, True, True),
    "krum": Combines(False, True, False, True, True),
    "norm_bound": Combines(False, True, False, True, True),
    "qfedavg": Combines(False, False, False, True, True),
    "fedbuff": Combines(False, True, False, True, True),
    "cyclic": Combines(False, True, False, True, True),
    "one_shot": Combines(False, True, False, True, True),
    "snapshot": Combines(True, True, True, True, True),
    "exact_sum": Combines(True, True, False, True, False),
    "union": Combines(False, False, False, True, False),
}

PERSONAL = frozenset({"fedbn", "fedper", "fedrep", "ditto", "apfl"})
"""Strategies with parts that stay at the sites."""

ABLE = "fedavg, fedprox, fedavgm or an adaptive one"
"""Strategies that go together with everything, in words."""


class Conflict(NamedTuple):
    """Two settings that do not go together: the place of one of them, what is wrong, and the way out."""

    place: str
    rule: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.rule}; {self.remedy}"


def conflicts(experiment: Experiment) -> list[Conflict]:
    """Return what the experiment's strategy does not go together with; nothing for a name that is not in the table.

    A model without gradients is refused its privacy of sites and its compression for its own sake, whatever the strategy.

    Examples
    --------
    >>> from shared_models.experiment import Data, Federation
    >>> settings = {"data": Data(classes=("a", "b")), "model": Choice(name="resnet18"), "federation": Federation(quorum=4)}
    >>> [str(conflict) for conflict in conflicts(Experiment(name="x", strategy=Choice(name="krum"), **settings))]
    ["federation.quorum: strategy 'krum' needs 5 updates a round with these knobs; raise the quorum of 4, or choose another strategy"]
    """
    spec, found = spec_of(experiment.model), list[Conflict]()
    if experiment.privacy.at_sites and experiment.model.knobs.get("norm") == "batch":
        found.append(Conflict("model.norm", "BatchNorm mixes patients, whom [privacy] hides from one another", 'set model.norm = "group"'))
    choice = experiment.strategy or Choice(name=DEFAULTS[spec.fit])
    if choice.name not in STRATEGIES:
        return found
    who, line = f"strategy {choice.name!r}", COMBINES[choice.name]

    def refuse(place: str, rule: str, remedy: str) -> None:
        found.append(Conflict(place, f"{who} {rule}", remedy))

    if experiment.federation.secure_sum is not None and not line.secure_sum:
        refuse("federation.secure_sum", "must see every site's update, which the secure sum hides", "leave one of them out")
    if spec.fit not in NETWORK_FITS:
        return found
    if STRATEGIES[choice.name].representation and spec.representation is None:
        able = ", ".join(sorted(name for name, model in MODELS.items() if model.representation))
        refuse("model", f"compares representations, of which model {experiment.model.name!r} makes none", f"choose one of {able}, or {ABLE}")
    if experiment.privacy.at_sites and not line.patient_privacy:
        refuse("privacy", "trains what the noise would not cover", f"choose {ABLE}")
    if experiment.privacy.unit == "site" and not line.site_privacy:
        refuse("privacy", "needs more of a round than one noisy mean", f"choose {ABLE}, or privacy.unit = 'patient'")
    if experiment.federation.compression.name != "none" and not line.compression:
        refuse("federation.compression", "needs exact updates", "leave compression out")
    knobs = choice.knobs
    if choice.name == "one_shot" and experiment.federation.rounds != 1:
        refuse("federation.rounds", "has one round", "set federation.rounds = 1, and train.epochs or train.steps to the whole training")
    if choice.name == "fedbuff" and isinstance(knobs.get("buffer"), int) and knobs["buffer"] < experiment.federation.quorum:
        refuse("strategy.buffer", "closes no round on fewer updates than the quorum", "raise strategy.buffer, or lower federation.quorum")
    if choice.name == "snapshot" and (schedule := _cycle(experiment)) is not None:
        every = knobs.get("every", CYCLE_ROUNDS)
        if schedule != every or (experiment.train.warm_up or 0) % every:
            rule = "takes its snapshots where the learning rate is lowest"
            refuse("strategy.every", rule, "set it and train.schedule.every alike, and leave train.warm_up out")
    stopping = experiment.federation.stopping
    if stopping is not None and stopping.release == "best" and choice.name in PERSONAL:
        refuse(
            "federation.stopping.release", "leaves parts at the sites, which are those of the last round", "set federation.stopping.release = 'last'"
        )
    quorum, least = experiment.federation.quorum, STRATEGIES[choice.name].least(choice.knobs)
    if quorum < least:
        refuse("federation.quorum", f"needs {least} updates a round with these knobs", f"raise the quorum of {quorum}, or choose another strategy")
    return found


def _cycle(experiment: Experiment) -> int | None:
    schedule = experiment.train.schedule
    if isinstance(schedule, str):
        return CYCLE_ROUNDS if schedule == "cyclic" else None
    return schedule.knobs.get("every", CYCLE_ROUNDS) if schedule.name == "cyclic" else None
