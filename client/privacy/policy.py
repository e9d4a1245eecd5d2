"""The site's policy against an experiment: every rule with its code; the first that is broken refuses the job.

RULES is the list. An experiment is the researcher's, the policy the hospital's: nothing in an experiment can weaken it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from shared_models.blocks.spec import Grouping
from shared_models.calibration import CALIBRATIONS
from shared_models.catalogue import MODELS, build, spec_in
from shared_models.core.choices import knobs_of, pick
from shared_models.core.errors import Refused
from shared_models.experiment import Experiment
from shared_models.statistics import STATISTICS

if TYPE_CHECKING:
    from client.site import Policy


def breaches(experiment: Experiment, policy: Policy) -> list[Refused]:
    """Return every rule of `policy` that `experiment` breaks: `fedild check` shows them before anything is sent."""
    return [found for rule in RULES if (found := rule(experiment, policy)) is not None]


def enforce(experiment: Experiment, policy: Policy) -> None:
    """Raise the first breach."""
    for breach in breaches(experiment, policy):
        raise breach


def is_private(experiment: Experiment) -> bool:
    """Return whether the site itself makes its update private, and so charges its ledger."""
    return experiment.privacy.at_sites


def _model(experiment: Experiment, policy: Policy) -> Refused | None:
    if _allowed(experiment.model.name, policy.models):
        return None
    return _not_listed("models", experiment.model.name, policy.models, "E_POLICY_MODEL")


def _task(experiment: Experiment, policy: Policy) -> Refused | None:
    # A model that is not in the catalogue is refused by the catalogue.
    spec = spec_in(experiment) if experiment.model.name in MODELS else None
    task = "findings" if experiment.data.target == "findings" else spec.task if spec else ""
    if spec is None or _allowed(task, policy.tasks):
        return None
    return _not_listed("tasks", task, policy.tasks, "E_POLICY_TASK")


def _strategy(experiment: Experiment, policy: Policy) -> Refused | None:
    # Without a name the server chooses: a site that lists strategies must know which.
    stages = [stage.strategy or experiment.strategy for stage in experiment.stages or ()] or [experiment.strategy]
    names = [strategy.name if strategy else "" for strategy in stages]
    if all(_allowed(name, policy.strategies) for name in names):
        return None
    wrong = next(name for name in names if not _allowed(name, policy.strategies))
    return _not_listed("strategies", wrong or "none named", policy.strategies, "E_POLICY_STRATEGY")


def _statistics(experiment: Experiment, policy: Policy) -> Refused | None:
    wrong = next(
        (choice.name for choice in (*(experiment.statistics or ()), *(experiment.calibration or ())) if not _allowed(choice.name, policy.statistics)),
        None,
    )
    return None if wrong is None else _not_listed("statistics", wrong, policy.statistics, "E_POLICY_STATISTIC")


def _known(experiment: Experiment, policy: Policy) -> Refused | None:
    least = policy.least_per_class(summed=experiment.federation.secure_sum is not None)
    for choice in experiment.statistics or ():
        knob = knobs_of(STATISTICS[choice.name].build).get("least") if choice.name in STATISTICS else None
        if knob is not None and choice.knobs.get("least", knob.default) < least:
            return Refused(
                "a number of a statistic is of as many patients as stand behind a number of this site",
                value=f"{choice.name}: least",
                remedy=f"least = {least}",
                code="E_POLICY_STATISTIC",
            )
    return None


def _cells(experiment: Experiment, policy: Policy) -> Refused | None:
    least = policy.least_per_class(summed=experiment.federation.secure_sum is not None)
    for choice in experiment.calibration or ():
        spec = CALIBRATIONS.get(choice.name)
        if (
            spec is not None
            and spec.cells is not None
            and getattr(pick(CALIBRATIONS, choice, kind="calibration", get=lambda spec: spec.build)(len(experiment.data.classes)), "least", 0) < least
        ):
            return Refused(
                "a cell of scores holds as many patients as stand behind a number of this site",
                value=f"{choice.name}: least",
                remedy=f"least = {least}",
                code="E_POLICY_STATISTIC",
            )
    return None


def _leaves(experiment: Experiment, policy: Policy) -> Refused | None:
    spec = MODELS.get(experiment.model.name)
    if spec is None or spec.fit != "trees":
        return None
    model = build(experiment.model, inputs=1, outputs=experiment.data.outputs)
    if not isinstance(model, Grouping):
        return None
    held = {name: getattr(model, name) for name in ("min_leaf", "min_patients") if hasattr(model, name)}
    low = next((name for name, count in held.items() if count < policy.min_per_class), None)
    if low is None:
        return None
    return Refused(
        "a leaf tells the classes of its patients: it holds as many as stand behind a number of this site",
        value=f"model.{low} = {held[low]}",
        remedy=f"model.{low} = {policy.min_per_class}",
        code="E_POLICY_LEAF",
    )


def _secure_sum(experiment: Experiment, policy: Policy) -> Refused | None:
    if not policy.secure_sum or experiment.federation.secure_sum is not None:
        return None
    return Refused("this site sends its updates through the secure sum alone", remedy="federation.secure_sum = true", code="E_POLICY_SUM")


def _groups(experiment: Experiment, policy: Policy) -> Refused | None:
    # The same at every site: the policy has no say in it.
    if experiment.federation.secure_sum is not None:
        return None
    spec = MODELS.get(experiment.model.name)
    model = [experiment.model.name] if spec is not None and spec.summed_only and not is_private(experiment) else []
    sums = [choice.name for choice in experiment.statistics or () if choice.name in STATISTICS and STATISTICS[choice.name].summed_only]
    if not model + sums:
        return None
    return Refused(
        "sums about groups as small as one patient leave through the secure sum alone",
        value=(model + sums)[0],
        remedy="federation.secure_sum = true",
        code="E_POLICY_SUM",
    )


def _unit(experiment: Experiment, policy: Policy) -> Refused | None:
    if not policy.privacy.is_required or experiment.privacy.unit in policy.privacy.units:
        return None
    return Refused(
        "this site trains with differential privacy alone",
        value=f"privacy.unit = {experiment.privacy.unit}",
        remedy=f"allowed: {', '.join(policy.privacy.units)}",
        code="E_POLICY_PRIVACY",
    )


def _noise(experiment: Experiment, policy: Policy) -> Refused | None:
    least, own = policy.privacy.least_noise, experiment.privacy.noise_multiplier
    if not policy.privacy.is_required or (own is not None and own >= (least or 0.0)):
        return None
    remedy = f"privacy.noise_multiplier = {least}" if least else "`fedild privacy plan` finds it"
    return Refused("private training needs as much noise as this site asks for", value=own, remedy=remedy, code="E_POLICY_NOISE")


def _delta(experiment: Experiment, policy: Policy) -> Refused | None:
    if not policy.privacy.is_required or experiment.privacy.delta <= policy.privacy.delta:
        return None
    return Refused(
        "delta is at most that of this site",
        value=experiment.privacy.delta,
        remedy=f"privacy.delta = {policy.privacy.delta:g}",
        code="E_POLICY_PRIVACY",
    )


RULES: tuple[Callable[[Experiment, Policy], Refused | None], ...] = (
    _model,
    _task,
    _strategy,
    _statistics,
    _known,
    _cells,
    _leaves,
    _secure_sum,
    _groups,
    _unit,
    _noise,
    _delta,
)
"""Adding a rule is a function and its name here."""


def _not_listed(what: str, found: str, names: Sequence[str], code: str) -> Refused:
    return Refused(f"this site allows only listed {what}", value=found, remedy=f"allowed: {', '.join(names)}", code=code)


def _allowed(name: str, names: Sequence[str]) -> bool:
    return "*" in names or name in names
