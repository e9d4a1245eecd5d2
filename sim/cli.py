"""`fedild`: the one command. Everything heavy is imported by the command that needs it, so that help and lists come at once.

Exit codes: 0 done, 1 failed, 2 bad input (with the rule, the value and the way out), 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.cli import app as site_app
from server.cli import CHECKS
from server.cli import app as server_app
from server.registry_cli import HERE
from server.registry_cli import app as registry_app
from shared_models.core.errors import BadInput, FedILDError

if TYPE_CHECKING:
    from shared_models.experiment import Experiment

INTERRUPTED = 130

app = typer.Typer(
    name="fedild",
    help="Federated multi-site training for interstitial lung disease on chest CT. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
app.add_typer(site_app, name="site")
app.add_typer(server_app, name="server")
app.add_typer(registry_app, name="registry")
privacy_app = typer.Typer(help="Differential privacy: how much noise, and what it costs.", no_args_is_help=True)
app.add_typer(privacy_app, name="privacy")


def _faults(experiment: Experiment) -> list[str]:
    from sim.check import faults

    return faults(experiment)


CHECKS.append(_faults)  # what `fedild check` finds, `fedild server run` finds before any site is asked

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a knob of the experiment; may be given several times.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only the result.")]


@app.command(epilog="Example: fedild simulate fibrosis --out runs/demo --set train.epochs=2")
def simulate(
    experiment: Annotated[str, typer.Argument(help="Name of a shipped experiment (see `fedild list experiments`) or path of a TOML.")],
    out: Annotated[Path, typer.Option(help="Run folder.")],
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the whole run; the same seed gives bit-equal weights.")] = None,
    backend: Annotated[str, typer.Option(help="pool: warm processes on this machine; ray: Flower's Ray engine.")] = "pool",
    ray_address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")] = None,
    processes: Annotated[int | None, typer.Option(help="Worker processes; default: one a core.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with real data, for experiments that use them.", envvar="FEDILD_REAL_DATA")] = None,
    hospitals: Annotated[Path | None, typer.Option(help="Folder of prepared phantom hospitals that several runs share.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    track: Annotated[str | None, typer.Option(help="Show the rounds as they grow, in local files: mlflow or tensorboard.")] = None,
    quiet: Quiet = False,
) -> None:
    """Make phantom hospitals, prepare their studies, federate, judge on the held-out hospital, report."""
    from sim.experiments import find
    from sim.simulation import simulate as run

    overrides = [*(settings or []), *([f"seed={seed}"] if seed is not None else [])]
    report = run(
        find(experiment, overrides),
        out,
        backend=backend,
        ray_address=ray_address,
        processes=processes,
        data=data,
        hospitals=hospitals,
        resume=resume,
        track=track,
        quiet=quiet,
    )
    typer.echo(report)


@app.command(epilog="Example: fedild compare heart_disease --strategies fedavg,fedprox:mu=0.1,scaffold --seeds 5 --out runs/compare")
def compare(
    experiment: Annotated[str, typer.Argument(help="Name of a shipped experiment or path of a TOML.")],
    strategies: Annotated[
        str,
        typer.Option(help="Strategies with commas between, or all; knobs and settings after colons: fedyogi:eta=0.03:train.epochs=2."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder, runs/compare-NAME by default; what is finished there is not run again, so a stopped command continues."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each strategy, with seeds from the experiment's on.")] = 5,
    settings: Settings = None,
    processes: Annotated[int | None, typer.Option(help="Worker processes; default: one a core.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with real data, for experiments that use them.", envvar="FEDILD_REAL_DATA")] = None,
    resume: Annotated[bool, typer.Option("--resume", hidden=True, help="What is finished is never run again, with this word or without.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run strategies with several seeds on the same sites; one page with curves, intervals, paired tests, cost, and who gains or loses."""
    del resume
    from sim.compare import compare as run
    from sim.comparison.arms import arms_of
    from sim.experiments import find

    chosen = find(experiment, settings or [])
    folder = out or Path("runs") / f"compare-{chosen.name}"
    typer.echo(run(chosen, arms_of(strategies, chosen), folder, seeds=seeds, processes=processes, data=data, quiet=quiet))


@app.command("cross-validate", epilog="Example: fedild cross-validate ssc_mortality_radiomics --folds 5 --out runs/folds")
def cross_validate(
    experiment: Annotated[str, typer.Argument(help="Name of a shipped experiment of survival over phantom hospitals, or path of a TOML.")],
    out: Annotated[Path, typer.Option(help="Folder; a fold that is finished there is not run again, so a stopped command continues.")],
    folds: Annotated[int | None, typer.Option(min=2, max=50, help="Folds; default: evaluation.folds, or 5.")] = None,
    settings: Settings = None,
    processes: Annotated[int | None, typer.Option(help="Worker processes; default: one a core.")] = None,
    hospitals: Annotated[Path | None, typer.Option(help="Folder of prepared phantom hospitals that several runs share.")] = None,
    quiet: Quiet = False,
) -> None:
    """Deal each hospital's patients into folds, federate once without each fold, judge on it; one page with all folds and the pooled figures."""
    from sim.experiments import find
    from sim.patient_folds import cross_validate as run

    typer.echo(run(find(experiment, settings or []), out, folds=folds, processes=processes, hospitals=hospitals, quiet=quiet))


@app.command(epilog="Example: fedild zoo --out runs/zoo --only pmff_net,vgg")
def zoo(
    out: Annotated[Path, typer.Option(help="Folder; what is finished there is not run again.")] = Path("runs/zoo"),
    only: Annotated[str | None, typer.Option(help="Recipes with commas between; default: all.")] = None,
    settings: Settings = None,
    processes: Annotated[int | None, typer.Option(help="Worker processes; default: one a core.")] = None,
    quiet: Quiet = False,
) -> None:
    """Federate every system of the survey over phantom hospitals and say of each whether it does what it must."""
    from rich.console import Console
    from rich.table import Table

    from sim.zoo.keeper import COLUMNS, table
    from sim.zoo.keeper import zoo as run

    page = run(out, only=only.split(",") if only else (), settings=settings or [], processes=processes, quiet=quiet)
    grid = Table(*COLUMNS, title="the zoo, on synthetic phantoms")
    for row in table(page.parent):
        grid.add_row(*row)
    Console().print(grid)
    typer.echo(page)


@app.command(epilog="Example: fedild phantom --out runs/hospitals --experiment fibrosis")
def phantom(
    out: Annotated[Path, typer.Option(help="Folder for hospitals/ and truth/.")],
    experiment: Annotated[str, typer.Option(help="Experiment whose hospitals to make.")] = "fibrosis",
    settings: Settings = None,
    processes: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
    quiet: Quiet = False,
) -> None:
    """Make phantom hospitals on disk: DICOM, clinical table, site TOML; the truth in a folder of its own."""
    from sim.experiments import find
    from sim.simulation import make_phantoms

    for site in make_phantoms(find(experiment, settings or []), out, processes=processes, quiet=quiet):
        typer.echo(site)


@app.command(epilog="Example: fedild prepare inbox --out workspace")
def prepare(
    folder: Annotated[Path, typer.Argument(help="Folder with DICOM files, in any order and nesting.")],
    out: Annotated[Path, typer.Option(help="Workspace: report, cache, key and private list of items.")],
    experiment: Annotated[str | None, typer.Option(help="Prepare as this experiment wants it; default: the scanner's own grid.")] = None,
    clinical: Annotated[Path | None, typer.Option(help="Clinical table (CSV) with diagnoses.")] = None,
    settings: Settings = None,
    processes: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
    backend: Annotated[str, typer.Option(help="pool: processes of this machine; ray: a Ray cluster that sees FOLDER and OUT.")] = "pool",
    ray_address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")] = None,
    memory_mb: Annotated[float, typer.Option(min=0, help="Memory that one series may take; 0: no limit.")] = 6000.0,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds that one series may take; 0: no limit.")] = 1800.0,
    quiet: Quiet = False,
) -> None:
    """Read, de-identify, check, segment and measure the studies of a folder; writes report.json and report.html."""
    from client.outcome import lines_of
    from client.prepare import prepare_folder
    from client.processes import Limits
    from shared_models.experiment import Preparation
    from sim.experiments import find
    from sim.progress import Progress

    preparation = find(experiment, settings or []).preparation if experiment else Preparation()
    with Progress(quiet=quiet) as progress:
        report = prepare_folder(
            folder,
            out,
            preparation,
            clinical=clinical,
            processes=_cores(processes),
            limits=Limits(memory_mb=memory_mb or None, seconds=seconds or None),
            backend=backend,
            ray_address=ray_address,
            progress=progress.bar("preparing"),
        )
    for line in lines_of(report.outcomes()):
        typer.echo(line)
    typer.echo(out / "report.json")


@app.command(epilog="Example: fedild predict study-folder --bundle runs/demo/bundle --out result")
def predict(
    studies: Annotated[list[Path], typer.Argument(metavar="STUDY...", help="Folder with one patient's DICOM files; several are a batch.")],
    bundle: Annotated[Path, typer.Option(help="A released model.")],
    out: Annotated[Path, typer.Option(help="Folder for prediction.json and prediction.html; of a batch, with a folder for each study.")],
    batch: Annotated[bool, typer.Option("--batch", help="Each folder inside STUDY is a study. What is done is not done again.")] = False,
    personal: Annotated[Path | None, typer.Option(help="Site TOML: apply the personal model that this site keeps beside the release.")] = None,
    site: Annotated[Path | None, typer.Option(help="The hospital's site TOML, for a release with ComBat.")] = None,
    explanation: Annotated[str, typer.Option(help="A name of `fedild list explanations`, auto for the first that applies, or none.")] = "auto",
    patterns: Annotated[
        Path | None, typer.Option(help="A release that labels patterns, or weights of a network of patterns: extents, and the HRCT category.")
    ] = None,
    prior: Annotated[Path | None, typer.Option(help="Folder with an earlier CT of the same patient: what changed since.")] = None,
    clinical: Annotated[Path | None, typer.Option(help="clinical.csv with the patient's rows: clinical scores, criteria of progression.")] = None,
    dicom: Annotated[bool, typer.Option("--dicom", help="Write DICOM SEG and SR for the hospital's own PACS, too.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write prediction.pdf, too (extra `pdf`).")] = False,
    pictures: Annotated[bool, typer.Option("--pictures", help="Write the slices of the page as PNG files, too.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Of a batch: studies at the same time, each with a model in memory.")] = 1,
    memory_mb: Annotated[float, typer.Option(min=0, help="Of a batch: memory that one study may take; 0: no limit.")] = 8000.0,
    seconds: Annotated[float, typer.Option(min=0, help="Of a batch: seconds that one study may take; 0: no limit.")] = 1800.0,
    quiet: Quiet = False,
) -> None:
    """Apply a released model to a study, or to many; writes JSON and a one-page report of each. Research use only."""
    told: dict[str, Any] = {"personal": personal, "site": site, "explanation": explanation, "patterns": patterns, "clinical": clinical}
    extras: dict[str, Any] = {"dicom": dicom, "pdf": pdf, "pictures": pictures}
    if not batch and len(studies) == 1:
        from client.predict import predict_study

        typer.echo(predict_study(studies[0], bundle, out, prior=prior, **told, **extras))
        return
    if prior is not None:
        raise BadInput("a prior is of one study", remedy="in a batch, put both visits into the patient's folder: the last two are compared")
    from client.predict_batch import SUMMARY_NAME, Asked, predict_batch, studies_in
    from client.processes import Limits
    from sim.progress import Progress

    limits = Limits(memory_mb=memory_mb or None, seconds=seconds or None)
    with Progress(quiet=quiet) as progress:
        asked, step = Asked(bundle, **told, **extras), progress.bar("predicting")
        found = predict_batch(
            studies_in(studies) if batch else studies, asked, out, processes=processes, limits=limits, progress=step, told=progress.say
        )
    failed = sum(one.state == "failed" for one in found)
    typer.echo(f"{len(found) - failed} of {len(found)} studies have a result: {out / SUMMARY_NAME}")
    if failed:
        raise typer.Exit(1)


@app.command(epilog="Example: fedild ensemble runs/a/bundle runs/b/bundle --out runs/ensemble")
def ensemble(
    bundles: Annotated[list[Path], typer.Argument(help="Released models of one experiment, run with different seeds.")],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
) -> None:
    """Unite releases that differ in their seeds alone to a deep ensemble, whose members vote."""
    from sim.deep_ensemble import write_ensemble

    typer.echo(write_ensemble(bundles, out))


@app.command(epilog="Example: fedild export runs/demo/bundle --onnx model.onnx --monai model-monai")
def export(
    bundle: Annotated[Path, typer.Argument(help="A released model with networks.")],
    onnx: Annotated[Path | None, typer.Option(help="Write an ONNX file (extra `onnx`).")] = None,
    monai: Annotated[Path | None, typer.Option(help="Write the folder of a MONAI bundle.")] = None,
    registry: Annotated[
        Path | None,
        typer.Option(
            help="Registry that keeps a line on each export; default: the one that holds the release, if `registry` or the bundle's own does."
        ),
    ] = None,
) -> None:
    """Write a release for other programs, once what was written has said of random records what the release says. Research use only."""
    from client.export import EXPORTS
    from server.registry_place import registry_of
    from shared_models.bundle import load_bundle

    wanted = {name: path for name, path in {"onnx": onnx, "monai": monai}.items() if path is not None}
    if not wanted:
        raise BadInput("an export needs a form", remedy="--onnx FILE or --monai FOLDER")
    release = load_bundle(bundle)
    kept = registry_of(release.digest, bundle, here=HERE, named=registry)
    for name, path in wanted.items():
        found = EXPORTS[name](release, path)
        typer.echo(f"{found.path}: at most {found.error:.2g} from the release over random records")
        if kept is not None:
            line = kept.record_export(release.digest, found.path, form=name, difference=found.error)
            typer.echo(f"export {line.number} of {line.model} {line.version} in the registry {kept.folder}")


@app.command("list", epilog="Example: fedild list models")
def list_(
    table: Annotated[
        str,
        typer.Argument(
            help="models, steps, segmenters, features, strategies, statistics, metrics, explanations, calibrations, ensembles, experiments, "
            "augmentations, compressions or schedules."
        ),
    ],
) -> None:
    """Show what an experiment may choose from, with knobs and sources."""
    from sim.tables import show

    show(table)


@app.command(epilog="Example: fedild check fibrosis runs/demo/hospitals/alpha/site.toml")
def check(
    experiment: Annotated[str, typer.Argument(help="Name or path of an experiment.")],
    site: Annotated[Path | None, typer.Argument(help="A site TOML whose policy the experiment must meet.")] = None,
    settings: Settings = None,
) -> None:
    """Say everything that is wrong with an experiment, and whether a site would accept it."""
    from sim.check import check as run

    typer.echo(run(experiment, site, settings or []))


@app.command(epilog="Example: fedild segmenter runs/lung/bundle --out lung.safetensors")
def segmenter(
    bundle: Annotated[Path, typer.Argument(help="A released model that labels lungs.")],
    out: Annotated[Path, typer.Option(help="Weights file to write.")],
) -> None:
    """Make a release the lung segmenter of a preparation; prints the line of [preparation] that uses it."""
    from client.segmentation.released import line_of, save_segmenter
    from shared_models.bundle import load_bundle

    typer.echo(line_of(out.resolve(), save_segmenter(load_bundle(bundle), out)))


@privacy_app.command("plan", epilog="Example: fedild privacy plan fibrosis --epsilon 4 --patients 80 --patients 300 --plot noise.svg")
def plan(
    experiment: Annotated[str, typer.Argument(help="Name or path of an experiment.")],
    epsilon: Annotated[
        float | None, typer.Option(min=0.01, help="Epsilon of the whole run to reach; default: that of privacy.noise_multiplier.")
    ] = None,
    patients: Annotated[list[int] | None, typer.Option(min=1, help="Training patients of a site; may be given several times.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (SVG) of epsilon over noise.")] = None,
    settings: Settings = None,
    output: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """Find the noise for an epsilon: noise multiplier, steps, expected batch, and a table of other choices. Each site is planned on its own."""
    import json

    from client.privacy.plan import as_row, lines_of, picture
    from client.privacy.plan import plan as find_plan
    from shared_models.core.files import write_atomic
    from sim.experiments import find

    chosen = find(experiment, settings or [])
    plans = [find_plan(chosen, number, target=epsilon) for number in patients or [100]]
    lines = [line for one in plans for line in lines_of(one, chosen)]
    typer.echo(json.dumps([as_row(one) for one in plans], indent=2) if output == "json" else "\n".join(lines))
    if plot is not None:
        write_atomic(plot, picture(plans, epsilon).encode())
        typer.echo(plot, err=True)


@privacy_app.command("audit", epilog="Example: fedild privacy audit runs/demo/bundle --site runs/demo/hospitals/alpha/site.toml --references 8")
def audit(
    bundle: Annotated[Path, typer.Argument(help="A released model; the figures go into its card.")],
    site: Annotated[list[Path] | None, typer.Option(help="Site TOML of a hospital that trained it; may be given several times.")] = None,
    canaries: Annotated[int, typer.Option(min=0, max=20000, help="Canaries in the private trainer; 0 leaves this audit out.")] = 1000,
    references: Annotated[int, typer.Option(min=0, max=256, help="Models trained to calibrate the membership attack: an even number, or 0.")] = 0,
    victims: Annotated[int, typer.Option(min=0, help="Patients a site whose input is sought in their update; 0 leaves this attack out.")] = 8,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of that search.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the attacks.")] = 0,
) -> None:
    """Attack a released model: canaries in its private trainer, membership inference, update inversion. Figures go into its model card."""
    from shared_models.bundle import card_text
    from sim.privacy_audit import Effort
    from sim.privacy_audit import audit as run

    effort = Effort(canaries, references, victims, iterations)
    found = run(bundle, site or [], effort=effort, seed=seed, told=lambda line: typer.echo(line, err=True))
    typer.echo(card_text({"privacy_audit": found}).partition("## ")[2])


@app.command("federation-demo", epilog="Example: fedild federation-demo --out runs/federation")
def federation_demo(
    out: Annotated[Path, typer.Option(help="New folder.")],
    experiment: Annotated[str, typer.Argument(help="Name or path of an experiment with phantom hospitals.")] = "federation_demo",
    settings: Settings = None,
    processes: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
) -> None:
    """Run a server and hospitals as separate processes with keys and TLS on this machine, and compare with the simulation."""
    from sim.experiments import find
    from sim.federation_demo import federation_demo as run

    typer.echo(run(find(experiment, settings or []), out, processes=_cores(processes), told=lambda line: typer.echo(line, err=True)))


@app.command(epilog="Example: fedild report runs/demo")
def report(run: Annotated[Path, typer.Argument(help="Run folder, or folder of a comparison.")]) -> None:
    """Write the run's report.html, or the page of a comparison or cross-validation, anew from its files."""
    from server.reports import crossvalidation
    from server.reports.comparison import write_comparison
    from server.reports.report import write_report

    if (run / crossvalidation.NAME).exists():
        typer.echo(crossvalidation.write_crossvalidation(run))
        return
    typer.echo((write_comparison if (run / "compare.json").exists() else write_report)(run))


@app.command(epilog="Example: fedild evaluate runs/demo --leave-one-site-out")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished simulation over hospitals.")],
    bundle: Annotated[Path | None, typer.Option(help="Judge this release on the run's hospitals in place of the run's own.")] = None,
    leave_one_site_out: Annotated[
        bool, typer.Option("--leave-one-site-out", help="Train once more for each hospital on all others, and judge on its patients.")
    ] = False,
    released: Annotated[
        bool, typer.Option("--released", help="Judge by what left the hospitals alone, with bounds; so a deployed run is always judged.")
    ] = False,
    processes: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
    quiet: Quiet = False,
) -> None:
    """Judge a run from every side: class by class, every model at every hospital, subgroups, scanners alone, the same scan at two hospitals."""
    from sim.evaluation import evaluate as judge
    from sim.evaluation import is_deployed

    if released or is_deployed(run):
        if bundle is not None or leave_one_site_out:
            raise typer.BadParameter("--bundle and --leave-one-site-out need patients: they go without --released, on a simulation")
        from server.reports.released import evaluate_released

        typer.echo(evaluate_released(run))
        return
    typer.echo(judge(run, bundle=bundle, leave_one_site_out=leave_one_site_out, processes=processes, quiet=quiet))


@app.command(epilog="Example: fedild readers study.csv")
def readers(study: Annotated[Path, typer.Argument(help="CSV table, a line a patient: patient, truth, model, and each reader.")]) -> None:
    """Compare a model's calls with those of readers of the same patients: accuracy with intervals, and exact paired tests."""
    from sim.reader_study import lines_of, read_study

    typer.echo("\n".join(lines_of(read_study(study))))


@app.command(epilog="Example: fedild checklists runs/demo")
def checklists(run: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Fill TRIPOD+AI, CLAIM and a data sheet of each site in from a run; what the run does not know is said to be unknown."""
    from server.reports.checklists import write_checklists

    typer.echo(write_checklists(run))


@app.command(epilog="Example: fedild duplicates st-mary.json north.json")
def duplicates(files: Annotated[list[Path], typer.Argument(help="What `fedild site tags` wrote at each hospital.")]) -> None:
    """Name the hospitals that hold the very same scan. Exit code 1 when there are any."""
    from client.twins import twins
    from shared_models.core.files import read_json

    found = twins({str(told["site"]): told["tags"] for told in map(read_json, files)})
    for one in found:
        typer.echo(f"{one['tag'][:16]}: {', '.join(one['sites'])}")
    typer.echo(f"{len(found)} scans lie at more than one hospital")
    if found:
        raise typer.Exit(1)


@app.command(epilog="Example: fedild verify runs/demo")
def verify(
    run: Annotated[Path, typer.Argument(help="Run folder: of a simulation, on the server, or as `fedild server pull` left it.")],
    key: Annotated[str | None, typer.Option(help="The consortium's public signing key in hexadecimal; default: the one in the seal.")] = None,
    site: Annotated[Path | None, typer.Option(help="A hospital's folder: take the consortium's key from its kit.")] = None,
) -> None:
    """Tell offline whether a run is, byte for byte, the one that was sealed; what is not is named. Exit code 1 when something is not."""
    from shared_models.core.files import read_json
    from shared_models.papers import read_kit
    from shared_models.run_record import SEAL, added
    from shared_models.run_record import verify as check

    faults = check(run, public=key or (None if site is None else read_kit(site / "kit.json").signing_key))
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(1)
    seal = read_json(run / SEAL)
    typer.echo(f"{run} is as it was sealed: {seal['entries']} entries, signed by the {seal['signer']}, key {seal['public'][:16]}")
    for name in added(run):
        typer.echo(f"{name} was written later and is not in the record")


@app.command(epilog="Example: fedild version")
def version() -> None:
    """Show the version of FedILD and of what it stands on."""
    from importlib.metadata import version as of

    for name in ("fedild", "flwr", "torch", "monai", "opacus", "pydicom", "scikit-learn", "numpy"):
        typer.echo(f"{name} {of(name)}")


def _cores(processes: int | None) -> int:
    import os

    return processes or len(os.sched_getaffinity(0))


def main() -> None:
    """Run the command line and turn errors into exit codes."""
    try:
        app(standalone_mode=True)
    except BadInput as error:
        typer.secho(error.line, fg="red", err=True)
        sys.exit(2)
    except FedILDError as error:
        typer.secho(error.line, fg="red", err=True)
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer has turned the interrupt into an exit
            typer.secho("interrupted; continue with --resume", fg="yellow", err=True)
        raise


if __name__ == "__main__":
    main()
