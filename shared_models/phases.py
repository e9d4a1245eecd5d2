"""What the rounds of a run are for: first the statistics that sites sum, then training, in one stage or several, then calibrations.

The phases follow from the experiment alone, so server and sites know each from the number of a round: a site does what it has approved for
this round, whatever a job says. All results travel in one state, the arrays of statistics under names of their own:

    statistics/<name>/<array>     the fit of a statistic
    calibration/<name>/<array>    the fit of a calibration
    <array>                       the model's

A round changes the part of the state that is its phase's; the rest travels along as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from shared_models.calibration import CALIBRATIONS
from shared_models.calibration.spec import Calibration, CalibrationSpec
from shared_models.columns import of_visits
from shared_models.core.arrays import State
from shared_models.core.choices import look_up, pick
from shared_models.core.errors import BadState
from shared_models.experiment import Experiment
from shared_models.lora import lora_of
from shared_models.statistics import STATISTICS
from shared_models.statistics.spec import Statistic, StatisticSpec

PREFIX, AFTER = "statistics/", "calibration/"


@dataclass(frozen=True)
class Phase:
    """Rounds `first` to `last` of a run.

    Parameters
    ----------
    name : str
        ``training``, ``stage 2`` or a statistic's.
    first, rounds : int
        Number of the first round, and how many there are.
    settings : Experiment
        The experiment as it holds in these rounds: with a stage's own training and strategy.
    number : int or None
        Which statistic or calibration is fitted; None: the model is trained.
    train_only : tuple of str
        Patterns of the arrays that are trained; empty trains all.
    after : bool
        What is fitted is a calibration, made with the trained model.
    """

    name: str
    first: int
    rounds: int
    settings: Experiment
    number: int | None = None
    train_only: tuple[str, ...] = ()
    after: bool = False

    @property
    def last(self) -> int:
        """Number of the last round."""
        return self.first + self.rounds - 1

    @property
    def spec(self) -> StatisticSpec | CalibrationSpec | None:
        """The line of STATISTICS or CALIBRATIONS that is fitted; None where the model is trained."""
        if self.number is None:
            return None
        return CALIBRATIONS[self.name] if self.after else STATISTICS[self.name]

    @property
    def statistic(self) -> Statistic | Calibration | None:
        """The statistic or calibration that is fitted, with its knobs; None where the model is trained."""
        if self.number is None:
            return None
        return calibrations_of(self.settings)[self.number] if self.after else statistics_of(self.settings)[self.number]

    def changed(self, state: State) -> State:
        """Return the part of a run's state that updates of this phase hold, under the names they have there.

        Raises
        ------
        BadState
            `train_only` names nothing, or everything.
        """
        if self.number is not None:
            return fit_of(state, self.name, after=self.after)
        whole = trained(state)
        if not self.train_only:
            return whole
        part = {key: value for key, value in whole.items() if any(fnmatchcase(key, pattern) for pattern in self.train_only)}
        if not part or len(part) == len(whole):
            raise BadState(
                "train_only names some of the network's arrays, not none and not all",
                value=f"{list(self.train_only)}: {len(part)} of {len(whole)}",
                remedy=f"the network has {', '.join(sorted(whole)[-4:])} ...",
            )
        return part

    def joined(self, state: State, part: State) -> State:
        """Return `state` with what `changed` gave replaced by `part`."""
        if self.number is not None:
            prefix = AFTER if self.after else PREFIX
            return state | {f"{prefix}{self.name}/{key}": value for key, value in part.items()}
        return part if part.keys() == state.keys() else state | part


def phases_of(experiment: Experiment) -> tuple[Phase, ...]:
    """Return the phases of a run in order; an experiment without statistics, stages and calibrations has one.

    Raises
    ------
    BadChoice
        A statistic or calibration that no table has.

    Examples
    --------
    >>> from shared_models.core.choices import Choice
    >>> from shared_models.experiment import Data, Federation, Stage
    >>> settings = {"data": Data(classes=("a", "b")), "model": Choice(name="linear"), "statistics": (Choice(name="scaler"),)}
    >>> staged = Experiment(name="x", stages=(Stage(rounds=4), Stage(rounds=2)), **settings)
    >>> [(phase.name, phase.first, phase.last) for phase in phases_of(staged)]
    [('scaler', 1, 2), ('stage 1', 3, 6), ('stage 2', 7, 8)]
    """
    found, at = [], 1
    for number, choice in enumerate(experiment.statistics or ()):
        rounds = look_up(STATISTICS, choice.name, kind="statistic").rounds
        found.append(Phase(choice.name, at, rounds, experiment.model_copy(update={"strategy": None}), number))
        at = found[-1].last + 1
    lora = lora_of(experiment.model)
    low_rank = () if lora is None else lora.trained
    if experiment.stages is None:
        found.append(Phase("training", at, experiment.federation.rounds, experiment, train_only=low_rank))
    for number, stage in enumerate(experiment.stages or (), 1):
        found.append(Phase(f"stage {number}", at, stage.rounds, stage.applied(experiment), train_only=stage.train_only or low_rank))
        at = found[-1].last + 1
    for number, choice in enumerate(experiment.calibration or ()):
        rounds = look_up(CALIBRATIONS, choice.name, kind="calibration").rounds
        found.append(Phase(choice.name, found[-1].last + 1, rounds, experiment.model_copy(update={"strategy": None}), number, after=True))
    return tuple(found)


def phase_at(experiment: Experiment, round: int) -> Phase:
    """Return the phase that a round belongs to; rounds beyond the last belong to the last phase."""
    phases = phases_of(experiment)
    return next((phase for phase in phases if round <= phase.last), phases[-1])


def training_of(experiment: Experiment) -> Phase:
    """Return the last phase in which the model is trained: under its settings the released model is judged."""
    return [phase for phase in phases_of(experiment) if phase.number is None][-1]


def rounds_of(experiment: Experiment) -> int:
    """Return the number of all rounds of a run, statistics and calibrations included."""
    return phases_of(experiment)[-1].last


def statistics_of(experiment: Experiment) -> tuple[Statistic, ...]:
    """Return the experiment's statistics in order, each built for the columns that the one before leaves.

    Raises
    ------
    BadChoice
        An unknown name or knob, or a statistic that does not fit its columns.
    """
    found, columns = [], experiment.inputs.columns
    for choice in experiment.statistics or ():
        found.append(pick(STATISTICS, choice, kind="statistic", get=lambda spec: spec.build)(columns))
        columns = found[-1].columns_after() if STATISTICS[choice.name].takes == "table" else columns
    return tuple(found)


def calibrations_of(experiment: Experiment) -> tuple[Calibration, ...]:
    """Return the experiment's calibrations in order.

    Raises
    ------
    BadChoice
        An unknown name or knob.
    """
    build = [pick(CALIBRATIONS, choice, kind="calibration", get=lambda spec: spec.build) for choice in experiment.calibration or ()]
    return tuple(make(len(experiment.data.classes)) for make in build)


def columns_of(experiment: Experiment) -> tuple[str, ...]:
    """Return the columns of the table that the model reads: those of ``[inputs]`` after all statistics; of a course those of each visit."""
    columns = experiment.inputs.columns
    if experiment.inputs.visits == "course":
        return of_visits(columns, experiment.inputs.most_visits)
    for choice, statistic in zip(experiment.statistics or (), statistics_of(experiment), strict=True):
        columns = statistic.columns_after() if STATISTICS[choice.name].takes == "table" else columns
    return columns


def start_of(experiment: Experiment, *, representation: int = 0) -> State:
    """Return the arrays of all statistics and calibrations before round 1, under their names in a run's state.

    `representation` is the length of the model's representation; none is needed where no calibration reads it.
    """
    names = [choice.name for choice in experiment.statistics or ()]
    fits = zip(names, statistics_of(experiment), strict=True)
    state = {f"{PREFIX}{name}/{key}": value for name, fit in fits for key, value in fit.start(seed=experiment.seed).items()}
    for choice, fit in zip(experiment.calibration or (), calibrations_of(experiment), strict=True):
        width = representation if CALIBRATIONS[choice.name].reads == "representation" else len(experiment.data.classes)
        state |= {f"{AFTER}{choice.name}/{key}": value for key, value in fit.start(width).items()}
    return state


def reads_representation(experiment: Experiment) -> bool:
    """Say whether a calibration reads the model's representation."""
    return any(CALIBRATIONS[choice.name].reads == "representation" for choice in experiment.calibration or ())


def fit_of(state: State, name: str, *, after: bool = False) -> State:
    """Return the arrays of one statistic of a run's state, or `after` training of a calibration, without the prefix.

    Raises
    ------
    BadState
        There are none.

    Examples
    --------
    >>> import numpy as np
    >>> sorted(fit_of({"w": np.ones(1), "statistics/scaler/mean": np.zeros(2)}, "scaler"))
    ['mean']
    """
    prefix = f"{AFTER if after else PREFIX}{name}/"
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not found:
        raise BadState(
            f"a state holds the {'calibration' if after else 'statistic'} {name!r} that its experiment names",
            remedy="use the bundle or run of this experiment",
        )
    return found


def trained(state: State) -> State:
    """Return the model's arrays of a run's state: `state` itself where there are no others.

    Examples
    --------
    >>> import numpy as np
    >>> sorted(trained({"w": np.ones(1), "statistics/scaler/mean": np.zeros(2)}))
    ['w']
    """
    kept = {key: value for key, value in state.items() if not key.startswith((PREFIX, AFTER))}
    return kept if len(kept) < len(state) else state
