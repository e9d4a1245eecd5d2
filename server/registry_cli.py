"""`fedild registry`: which release is in use, and why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared_models.core.errors import BadInput

if TYPE_CHECKING:
    from server.registry_exports import Export

app = typer.Typer(help="Versions of released models: lineage, promotion, roll-back, verification.", no_args_is_help=True)
Folder = Annotated[Path, typer.Option(help="The registry's folder.")]
Reason = Annotated[str, typer.Option(help="Why; kept for ever.")]
HERE = Path("registry")


@app.command(epilog="Example: fedild registry add runs/demo --name fibrosis")
def add(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, with its signed record.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; default: the experiment's.")] = None,
    key: Annotated[str | None, typer.Option(help="The consortium's public signing key, which must have signed the record.")] = None,
    folder: Folder = HERE,
) -> None:
    """Take a run's release in as the next version."""
    from server.registry import Registry

    found = Registry(folder).add(run, model=name, public=key)
    typer.echo(f"{found.model} {found.version}: bundle {found.bundle[:16]}, from {found.sites or 'unknown sites'}, {found.rounds} rounds")


@app.command("list", epilog="Example: fedild registry list")
def list_versions(
    name: Annotated[str | None, typer.Argument(help="One model; default: all.")] = None,
    format: Annotated[str, typer.Option(help="text or json.")] = "text",
    folder: Folder = HERE,
) -> None:
    """List the versions and say which is in use."""
    from server.registry import Registry
    from shared_models.core.files import canonical_json

    registry = Registry(folder)
    versions = registry.versions(name)
    using = {model: registry.in_use(model) for model in {one.model for one in versions}}
    rows = [{**asdict(one), "in_use": using[one.model] == one} for one in versions]
    if format == "json":
        typer.echo(canonical_json(rows))
        return
    for row in rows:
        mark = "  in use" if row["in_use"] else ""
        typer.echo(f"{row['model']} {row['version']}  {row['bundle'][:16]}  {row['added']}  {row['experiment']} at {row['sites']}{mark}")


@app.command(epilog="Example: fedild registry show fibrosis 1")
def show(
    name: Annotated[str, typer.Argument(help="Model.")],
    version: Annotated[int | None, typer.Argument(help="Version; default: the one in use.")] = None,
    format: Annotated[str, typer.Option(help="text or json.")] = "text",
    folder: Folder = HERE,
) -> None:
    """Show a version's lineage, its exports, its card and every decision about the model."""
    from server.registry import Registry
    from shared_models.bundle import card_text, load_bundle
    from shared_models.core.files import canonical_json

    registry = Registry(folder)
    found = registry.get(name, version)
    if format == "json":
        told = {"exports": registry.exports(name, found.version), "events": registry.events(name)}
        typer.echo(canonical_json({"version": asdict(found), **{key: [asdict(one) for one in lines] for key, lines in told.items()}}))
        return
    for key, value in asdict(found).items():
        typer.echo(f"{key}: {value}")
    for event in registry.events(name):
        typer.echo(f"{event.time}  version {event.version} {event.kind} by {event.by}: {event.reason}")
    for export in registry.exports(name, found.version):
        typer.echo(f"{export.time}  exported by {export.by}: {_line_of(export)}")
    typer.echo(f"files: {registry.path(name, found.version)}")
    typer.echo(card_text(load_bundle(registry.path(name, found.version) / "bundle").card))


@app.command(epilog="Example: fedild registry trace model.onnx")
def trace(
    export: Annotated[Path, typer.Argument(help="An exported file or folder, wherever it lies now.")],
    folder: Folder = HERE,
) -> None:
    """Say which version an export is of, by its hash. Exit code 1 when no export of this registry has it."""
    from server.registry import Registry
    from server.registry_exports import digest_of

    digest = digest_of(export)
    found = [one for one in Registry(folder).exports() if one.sha256 == digest]
    for one in found:
        typer.echo(f"{one.model} {one.version}, exported {one.time} by {one.by}: {_line_of(one)}")
    if not found:
        typer.echo(f"no export of this registry has the SHA-256 {digest}")
        raise typer.Exit(1)


@app.command(epilog="Example: fedild registry promote fibrosis 2 --reason 'better calibrated at north'")
def promote(
    name: Annotated[str, typer.Argument(help="Model.")],
    version: Annotated[int, typer.Argument(help="Version.")],
    reason: Reason,
    folder: Folder = HERE,
) -> None:
    """Put a version into use."""
    from server.registry import Registry

    event = Registry(folder).promote(name, version, reason=reason)
    typer.echo(f"{name} {event.version} is in use since {event.time}: {event.reason}")


@app.command("roll-back", epilog="Example: fedild registry roll-back fibrosis --reason 'wrong kernel at lakeside'")
def roll_back(name: Annotated[str, typer.Argument(help="Model.")], reason: Reason, folder: Folder = HERE) -> None:
    """Put the version into use again that was in use before."""
    from server.registry import Registry

    event = Registry(folder).roll_back(name, reason=reason)
    typer.echo(f"{name} {event.version} is in use since {event.time}: {event.reason}")


@app.command(epilog="Example: fedild registry verify")
def verify(name: Annotated[str | None, typer.Argument(help="One model; default: all.")] = None, folder: Folder = HERE) -> None:
    """Check every hash, every run's signed record and the exports that lie where they were written. Exit code 1 when something is another."""
    from server.registry import Registry

    registry = Registry(folder)
    versions = registry.versions(name)
    if not versions:
        raise BadInput("nothing of this name is registered", value=name or "any model", remedy="`fedild registry add RUN`")
    damaged = 0
    for one in versions:
        faults = registry.verify(one.model, one.version)
        damaged += bool(faults)
        typer.echo(f"{one.model} {one.version}: {'; '.join(faults) or 'as it was registered'}")
    if damaged:
        raise typer.Exit(1)


def _line_of(export: Export) -> str:
    told = f"{export.form}, SHA-256 {export.sha256}, at most {export.difference:.2g} from the release over random records"
    return f"{told}, {export.software}: {Path(export.path).name}"
