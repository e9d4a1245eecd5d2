"""What statistics and stages do not go together with: `fedild check` and the server refuse it and name the way out."""

from __future__ import annotations

from collections.abc import Iterator

from server.combines import PERSONAL, Conflict
from server.games import game_conflicts
from server.strategies import DEFAULTS, STRATEGIES
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.calibration import CALIBRATIONS
from shared_models.catalogue import spec_of
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import FedILDError
from shared_models.experiment import Experiment
from shared_models.lora import lora_of
from shared_models.phases import Phase, calibrations_of, phases_of, reads_representation, statistics_of, training_of
from shared_models.representation import has_representation
from shared_models.statistics import STATISTICS

PASSING = frozenset({"plain", "fedprox"})
"""Rules under which a site keeps nothing from round to round."""

ALONE = frozenset({"fedbuff", "cyclic", "one_shot", "snapshot"})
"""Strategies whose rounds do not end with one state made of one question, or whose release is not the state."""


GAPS = ("masked_scaler",)
"""Statistics that leave out what is missing."""

OF_PROBABILITIES = {"conformal": "sets are", "operating_point": "a threshold is", "score_histograms": "counts are"}
"""Calibrations that read the probabilities as they will be shown, and what they make."""

PRIVATE = ("scaler", "pca")
"""Statistics of which one record's part is known and bounded."""

INSTEAD = {
    "life_table": "the secure sum without [privacy]",
    "landmarks": "the step 'standardise' with public landmarks",
    "fuzzy_centres": "the segmenter's centres_hu with public centres",
}
"""What serves under privacy in place of a statistic of studies."""

CLUSTERING = ("enfcm", "fgfcm", "frfcm", "fuzzy_cmeans")
"""Segmenters that take centres."""


def phase_conflicts(experiment: Experiment) -> list[Conflict]:
    """Return why an experiment's statistics and stages cannot run; names and knobs that no table has are somebody else's matter.

    Examples
    --------
    >>> from shared_models.experiment import Data
    >>> settings = {"data": Data(classes=("a", "b")), "statistics": (Choice(name="landmarks"),)}
    >>> [str(conflict) for conflict in phase_conflicts(Experiment(name="x", model=Choice(name="logistic"), **settings))]
    ["statistics: 'landmarks' changes images, and the model 'logistic' reads none; leave it out, or choose a model of slices or volumes"]
    """
    own = (_together, _statistics, _stages, _calibrations, _lora, game_conflicts)
    return [conflict for found in own for conflict in found(experiment)]


def strategy_in_words(experiment: Experiment) -> str:
    """Return how the rounds of a run are made, for cards and reports.

    Examples
    --------
    >>> from shared_models.experiment import Data, Stage
    >>> settings = {"data": Data(classes=("a", "b")), "model": Choice(name="linear")}
    >>> strategy_in_words(Experiment(name="x", **settings))
    'fedavg'
    >>> head = Stage(rounds=9, train_only=("head.*",), strategy=Choice(name="fedadam"))
    >>> strategy_in_words(Experiment(name="x", statistics=(Choice(name="scaler"),), stages=(Stage(rounds=1), head), **settings))
    'scaler, then fedavg, then fedadam of head.*'
    """
    words = [phase.name if phase.number is not None else _named(phase) for phase in phases_of(experiment)]
    return ", then ".join(words)


def _named(phase: Phase) -> str:
    name = phase.settings.strategy.name if phase.settings.strategy else DEFAULTS[spec_of(phase.settings.model).fit]
    return f"{name} of {', '.join(phase.train_only)}" if phase.train_only else name


def _together(experiment: Experiment) -> Iterator[Conflict]:
    if not experiment.statistics and experiment.stages is None and not experiment.calibration:
        return
    if experiment.federation.stopping is not None:
        rule = "counts the rounds of one training, and this run has several phases"
        yield Conflict("federation.stopping", rule, "leave it out, or [[statistics]], [[stages]] and [[calibration]]")
    for choice in (experiment.strategy, *(stage.strategy for stage in experiment.stages or ())):
        if choice is not None and choice.name in ALONE:
            rule = f"{choice.name!r} makes rounds of another kind than statistics, stages and calibrations"
            yield Conflict("strategy", rule, "choose another strategy, or leave [[statistics]], [[stages]] and [[calibration]] out")


def _statistics(experiment: Experiment) -> Iterator[Conflict]:
    chosen = [choice for choice in experiment.statistics or () if choice.name in STATISTICS]
    names, takes = [choice.name for choice in chosen], spec_of(experiment.model).takes
    for name in names:
        if STATISTICS[name].takes == "table" and takes != "table":
            yield Conflict("statistics", f"{name!r} changes tables, and the model {experiment.model.name!r} reads none", "leave it out")
        elif STATISTICS[name].takes == "study" and takes not in ("slices", "volume"):
            rule = f"{name!r} changes images, and the model {experiment.model.name!r} reads none"
            yield Conflict("statistics", rule, "leave it out, or choose a model of slices or volumes")
        elif STATISTICS[name].takes == "outcome" and experiment.data.target != "survival":
            yield Conflict("statistics", f"{name!r} is of times to an event, and data.target is another", "leave it out")
    yield from _summed(experiment, chosen)
    yield from _missing(experiment, names)
    tables = [name for name in names if STATISTICS[name].takes == "table"]
    if tables and takes == "table":
        if experiment.inputs.scale == "site":
            yield Conflict("inputs.scale", f"'site' takes off what {tables[0]!r} is to sum", "inputs.scale = 'none'")
        if "combat" in tables and tables.index("combat") > min((tables.index(name) for name in tables if name == "pca"), default=99):
            yield Conflict("statistics", "'combat' reads columns, which are gone after 'pca'", "name combat first")
        else:
            try:
                statistics_of(experiment)
            except FedILDError as error:
                yield Conflict("statistics", error.rule, error.remedy)
    yield from _centres(experiment)
    if "landmarks" in names and any(step.name == "standardise" for step in experiment.preparation.steps):
        yield Conflict("preparation.steps", "'standardise' has landmarks already", "leave the step out, or the statistic 'landmarks'")
    yield from _private(experiment, names)


def _summed(experiment: Experiment, chosen: list[Choice]) -> Iterator[Conflict]:
    for choice in chosen:
        if STATISTICS[choice.name].summed_only and experiment.federation.secure_sum is None:
            rule = f"sums of {choice.name!r} tell of groups as small as one patient"
            yield Conflict("federation.secure_sum", rule, "federation.secure_sum = true, or leave the statistic out")
        causes = len(experiment.data.classes) - 1
        if choice.name == "life_table" and experiment.data.target == "survival" and choice.knobs.get("causes", 1) != causes:
            yield Conflict("statistics", f"'life_table' counts other causes than data.classes name ({causes})", f"causes = {causes}")


def _missing(experiment: Experiment, names: list[str]) -> Iterator[Conflict]:
    if experiment.inputs.missing != "mask":
        return
    if not spec_of(experiment.model).takes_missing:
        rule = f"'mask' leaves gaps that the model {experiment.model.name!r} cannot read"
        yield Conflict("inputs.missing", rule, "inputs.missing = 'median', or the model 'multimodal'")
    for name in names:
        if name not in GAPS and STATISTICS[name].takes == "table":
            yield Conflict("statistics", f"{name!r} cannot sum values that are missing", f"choose {' or '.join(GAPS)}, or inputs.missing = 'median'")


def _centres(experiment: Experiment) -> Iterator[Conflict]:
    names = [choice.name for choice in experiment.statistics or ()]
    if "fuzzy_centres" not in names:
        return
    segmenter, centres = experiment.preparation.segmenter, (experiment.statistics or ())[names.index("fuzzy_centres")]
    if segmenter.name not in CLUSTERING:
        rule = f"'fuzzy_centres' are of a segmenter that clusters, which {segmenter.name!r} does not"
        yield Conflict("statistics", rule, f"leave it out, or preparation.segmenter.name is one of {', '.join(CLUSTERING)}")
    elif "centres_hu" in segmenter.knobs:
        yield Conflict("preparation.segmenter", "it has centres already", "leave centres_hu out, or the statistic 'fuzzy_centres'")
    for knob in ("clusters", "fuzzifier"):
        if segmenter.name in CLUSTERING and segmenter.knobs.get(knob, 2) != centres.knobs.get(knob, 2):
            yield Conflict("statistics", f"'fuzzy_centres' and the segmenter differ in {knob}", "set both alike")
    if "landmarks" in names[: names.index("fuzzy_centres")]:
        yield Conflict("statistics", "'fuzzy_centres' are of Hounsfield units, which are gone after 'landmarks'", "name fuzzy_centres first")
    if any(step.name == "standardise" for step in experiment.preparation.steps):
        rule = "'fuzzy_centres' are of Hounsfield units, which 'standardise' leaves"
        yield Conflict("preparation.steps", rule, "leave the step out and name the statistic 'landmarks' after it")


def _calibrations(experiment: Experiment) -> Iterator[Conflict]:
    chosen = [choice.name for choice in experiment.calibration or () if choice.name in CALIBRATIONS]
    if not chosen:
        return
    if experiment.privacy.unit != "none":
        yield Conflict("calibration", "sums of held-out patients carry no noise", "leave [[calibration]] out, or [privacy]")
    for name, made in OF_PROBABILITIES.items():
        if "temperature" in chosen and name in chosen[: chosen.index("temperature")]:
            yield Conflict("calibration", f"{made} of probabilities that 'temperature' then changes", f"name temperature before {name}")
    try:
        calibrations_of(experiment.model_copy(update={"calibration": tuple(c for c in experiment.calibration or () if c.name in CALIBRATIONS)}))
    except FedILDError as error:
        yield Conflict("calibration", error.rule, error.remedy)
    if reads_representation(experiment) and not has_representation(experiment):
        rule = f"the model {experiment.model.name!r} has no representation to measure distances in"
        yield Conflict("calibration", rule, "leave 'unfamiliar' out, or choose a network")
    strategy = training_of(experiment.model_copy(update={"statistics": None, "calibration": None})).settings.strategy
    if strategy is not None and strategy.name in PERSONAL:
        rule = f"{strategy.name!r} gives every site a model of its own, and one calibration fits none of them"
        yield Conflict("calibration", rule, "leave [[calibration]] out, or choose another strategy")


def _lora(experiment: Experiment) -> Iterator[Conflict]:
    if lora_of(experiment.model) is None:
        return
    if experiment.privacy.unit != "none":
        yield Conflict("model.lora", "under [privacy] noise falls on every array", "leave one of them out")
    for choice in dict.fromkeys(stage.strategy.name for stage in (experiment, *(experiment.stages or ())) if stage.strategy is not None):
        if choice in PERSONAL:
            yield Conflict("model.lora", f"{choice!r} says itself what is trained where", "choose another strategy, or leave [model.lora] out")
        elif choice in ALONE:
            yield Conflict("model.lora", f"{choice!r} makes rounds in which all of a network travels", "choose another strategy")


def _private(experiment: Experiment, names: list[str]) -> Iterator[Conflict]:
    privacy = experiment.privacy
    if names and privacy.unit == "site":
        yield Conflict("privacy", "of sites is made on weights, and statistics are sums", "privacy.unit = 'patient', or leave the statistics out")
    if not privacy.at_sites:
        return
    for name in names:
        if name not in PRIVATE:
            way = INSTEAD.get(name, "inputs.ranges and the statistic 'scaler'")
            yield Conflict("privacy", f"nobody has bounded what one patient changes of {name!r}", f"leave it out; {way} may serve")
    if set(names) & set(PRIVATE) and experiment.inputs.scale != "range":
        yield Conflict("privacy", "sums of raw columns would drown in their noise", "inputs.scale = 'range' with public inputs.ranges")


def _stages(experiment: Experiment) -> Iterator[Conflict]:
    if experiment.stages is None:
        return
    if spec_of(experiment.model).fit not in NETWORK_FITS:
        rule = f"are of training by gradients, and {experiment.model.name!r} is fitted otherwise"
        yield Conflict("stages", rule, "leave [[stages]] out: federation.rounds says how long it takes")
        return
    if experiment.privacy.unit == "site":
        rule = "do not go together with the privacy of sites, whose epsilon counts one stage"
        yield Conflict("stages", rule, "privacy.unit = 'patient', or leave [[stages]] out")
    keeping = {}
    for number, stage in enumerate(experiment.stages, 1):
        choice = stage.strategy or experiment.strategy or Choice(name="fedavg")
        if choice.name not in STRATEGIES or STRATEGIES[choice.name].fit != "gradient":
            continue
        try:
            rule = pick(STRATEGIES, choice, kind="strategy", get=lambda spec: spec.build)(None).rule
        except FedILDError:
            continue  # told of the strategy itself
        personal = "keep" in rule or "pull" in rule
        if rule["name"] not in PASSING:
            keeping[number] = (choice.name, personal)
        if personal and stage.train_only:
            remedy = "leave train_only out of this stage"
            yield Conflict(f"stages.{number}.train_only", f"{choice.name!r} says itself what is trained where", remedy)
        if stage.train_only and experiment.privacy.at_sites:
            yield Conflict(f"stages.{number}.train_only", "under [privacy] noise falls on every array", "leave one of them out")
    for number, (name, personal) in keeping.items():
        others = [other for other in keeping if other != number]
        if personal and (number < len(experiment.stages) or others):
            rule = f"{name!r} keeps parts of the model at the sites, which no other stage finds again"
            yield Conflict(f"stages.{number}.strategy", rule, "use it in the last stage, after strategies that keep nothing there")
