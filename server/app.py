"""The Flower ServerApp: reads which experiment to run and where to keep its files, then runs the rounds.

Flower's superexec starts it in a deployment; the simulation calls `run_experiment` with a folder of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.serverapp import ServerApp

from server.combines import conflicts
from server.phases import phase_conflicts
from server.runs import inflate
from server.runs.checkpoint import RoundState, load_latest
from server.runs.draws import Pace
from server.runs.log import RoundLog
from server.runs.place import folder_of
from server.runs.receipts import Receipts
from server.runs.roll import take_roll
from server.runs.roster import GATHER_S, SigningKeys, Waiting, gather
from server.runs.rounds import RoundRecord, judge, run_rounds
from server.runs.secure import SecureSum
from server.runs.standing import Standing
from server.runs.start import begin
from server.runs.stopping import Course, chosen, federated_metric
from server.runs.tracking import Tracking
from server.strategies import DEFAULTS, STRATEGIES
from server.strategies.combined import combined
from server.strategies.site_privacy import with_site_privacy
from server.strategies.strategy import Strategy
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadChoice, BadInput
from shared_models.core.files import write_json, write_state
from shared_models.experiment import Experiment
from shared_models.phases import phases_of
from shared_models.secure_sum.roster import certify
from shared_models.signing import signing_key

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid

app = ServerApp()

OnRound = Callable[[RoundRecord, RoundState], None]


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment named in the run's configuration.

    ``experiment`` is the experiment as JSON, ``run`` the run's identifier, ``sites`` the roster, separated by commas. The run's folder is
    this server's own business: it is found by the environment variable FEDILD_SERVER. A folder that already holds checkpoints of the same
    experiment is continued; ``run.json`` there says how the run stands; one process at a time works in it.
    """
    configuration = context.run_config
    experiment = Experiment.from_json(str(configuration["experiment"]))
    folder = folder_of(str(configuration["run"]))
    roster = [name for name in str(configuration["sites"]).split(",") if name]
    inflate.use()
    with Standing(folder, experiment=experiment, sites=roster, flower_run=context.run_id) as standing:
        keys = SigningKeys(folder.parents[1] / "sites.json", roster)
        certificate = None
        if experiment.federation.secure_sum is not None:
            certificate = certify(folder.name, keys, signing_key(folder.parents[1] / "secrets" / "signing.key"))
        run_experiment(
            grid,
            experiment,
            folder,
            sites=roster,
            on_round=standing.told,
            waiting=standing.waiting,
            keys=keys,
            certificate=certificate,
            receipts=Receipts(folder.parents[1] / "receipts.json"),
        )


def strategy_of(experiment: Experiment, model: object) -> Strategy:
    """Return the experiment's strategy, or the default one for its model.

    Raises
    ------
    BadChoice
        The strategy does not serve this kind of model, or does not go together with another setting.
    """
    fit = spec_of(experiment.model).fit
    choice = experiment.strategy or Choice(name=DEFAULTS[fit])
    strategy = pick(STRATEGIES, choice, kind="strategy", get=lambda spec: spec.build)
    if not STRATEGIES[choice.name].serves(fit):
        serving = ", ".join(name for name, spec in STRATEGIES.items() if spec.serves(fit))
        raise BadChoice(
            f"strategy {choice.name!r} does not serve a model fitted by {fit}", remedy=f"choose one of {serving}, or leave [strategy] out"
        )
    hidden = experiment.federation.secure_sum is not None
    for conflict in conflicts(experiment):
        raise BadChoice(conflict.rule, remedy=conflict.remedy)
    if experiment.privacy.unit != "site":
        return strategy(model)
    if fit != "gradient" or hidden:
        raise BadChoice(
            "the privacy of sites is made on weights that the server sees site by site",
            remedy='leave the secure sum out, or privacy.unit = "patient"',
        )
    return with_site_privacy(strategy(model), experiment.privacy)


def strategies_of(experiment: Experiment, models: Sequence[Any]) -> list[Strategy]:
    """Return the strategy of each phase of a run; `models` are what each of them fits: a statistic, a model of sums, or None for a network.

    Raises
    ------
    BadChoice
        As `strategy_of`, or statistics and stages that cannot run.
    """
    for conflict in phase_conflicts(experiment):
        raise BadChoice(conflict.rule, remedy=conflict.remedy)
    phases = phases_of(experiment)
    return [combined(model) if phase.spec else strategy_of(phase.settings, model) for phase, model in zip(phases, models, strict=True)]


def run_experiment(
    grid: Grid,
    experiment: Experiment,
    folder: Path,
    *,
    durable: bool = True,
    on_round: OnRound | None = None,
    sites: Sequence[str] | None = None,
    waiting: Waiting | None = None,
    keys: Mapping[str, str] | None = None,
    certificate: dict[str, Any] | None = None,
    receipts: Receipts | None = None,
    pace: Pace | None = None,
) -> RoundState:
    """Run or continue `experiment` in `folder` and write the final state and the sites' own judgement of it.

    `sites` is the roster by registered name, `keys` their signing keys, `certificate` these under the consortium's
    signature, `receipts` those of their privacy ledgers; without them every site that says hello takes part (simulation). `pace` is the simulated
    clock of strategies that do not wait. ``release.json`` says which round's state was released, which is what is returned.
    """
    if not folder.is_absolute():
        raise BadInput("the run folder must be an absolute path", value=str(folder))
    spec = spec_of(experiment.model)
    settings = experiment.federation
    if sites is None:
        roster = take_roll(grid, run=experiment.digest[:16], timeout_s=min(600.0, settings.deadline_s), wanted=settings.quorum)
    else:
        roster = gather(grid, sites, quorum=settings.quorum, timeout_s=min(GATHER_S, settings.deadline_s), waiting=waiting)
    at = load_latest(folder / "checkpoints", experiment=experiment.digest) or begin(experiment, folder, run=None if sites is None else folder.name)
    classical = None if spec.fit in NETWORK_FITS else build(experiment.model, inputs=inputs_of(experiment), outputs=experiment.data.outputs)
    phases = phases_of(experiment)
    models: list[Any] = [phase.statistic or classical for phase in phases]
    strategies = strategies_of(experiment, models)
    for phase in phases:
        phase.changed(at.state)  # a stage that names no layer is refused before the first round
    secure = None if settings.secure_sum is None else SecureSum(experiment, run=at.run, certificate=certificate)
    log, tracking = RoundLog(folder / "rounds.jsonl", keep=at.round), Tracking(folder, experiment)

    def told(record: RoundRecord, at: RoundState) -> None:
        log(record, at)
        tracking.round(asdict(record))
        if on_round:
            on_round(record, at)

    for phase, model, strategy in zip(phases, models, strategies, strict=True):
        if at.round >= phase.last:
            continue
        if at.round < phase.first:
            at.own = strategy.start(phase.changed(at.state))
        at = run_rounds(
            strategy,
            grid,
            at,
            experiment=experiment,
            roster=roster,
            model=model,
            folder=folder,
            on_round=told,
            phase=phase,
            durable=durable,
            sites=sites,
            waiting=waiting,
            keys=keys,
            secure=secure,
            receipts=receipts,
            pace=pace,
        )
    tracking.close()
    strategy = [strategy for phase, strategy in zip(phases, strategies, strict=True) if phase.number is None][-1]
    judged = partial(judge, grid, experiment=experiment, roster=roster, keys=keys, secure=secure, rule=strategy.rule)
    at.state = strategy.release(at.state, at.own)
    site_metrics, course = judged(at), None
    if settings.stopping is not None:
        course = Course.of(settings.stopping, at.loop)
        course.note(at.round, federated_metric(settings.stopping.metric, site_metrics))
    best, released = chosen(at, course, folder, rounds=phases[-1].last)
    if best is not at:
        at = best
        at.state = strategy.release(at.state, at.own)
        site_metrics = judged(at)
    write_json(folder / "release.json", released.as_dict())
    write_json(folder / "site_metrics.json", site_metrics)
    write_state(folder / "final.safetensors", at.state, {"round": str(at.round), "experiment": experiment.digest})
    return at
