"""`fedild registry`: which release is in use, and why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from shared_models.core.errors import BadInput

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
    folder: Folder = HERE,
) -> None:
    """Show a version's lineage, its card and every decision about the model."""
    from server.registry import Registry
    from shared_models.bundle import card_text, load_bundle

    registry = Registry(folder)
    found = registry.get(name, version)
    for key, value in asdict(found).items():
        typer.echo(f"{key}: {value}")
    for event in registry.events(name):
        typer.echo(f"{event.time}  version {event.version} {event.kind} by {event.by}: {event.reason}")
    typer.echo(f"files: {registry.path(name, found.version)}")
    typer.echo(card_text(load_bundle(registry.path(name, found.version) / "bundle").card))


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
    """Check every hash and every run's signed record; name what is another. Exit code 1 when something is."""
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
