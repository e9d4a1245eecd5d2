"""`fedild server`: everything that the consortium's administrator types. Commands run on the server's own machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.folder import ServerFolder
    from shared_models.experiment import Experiment

app = typer.Typer(
    name="server", help="The consortium's server: sites, runs, results.", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)

Folder = Annotated[Path, typer.Option("--folder", "-f", envvar="FEDILD_SERVER", help="The server folder.")]
Run = Annotated[str, typer.Argument(help="Identifier of the run (see `fedild server runs`).")]
Format = Annotated[str, typer.Option("--format", help="text or json.")]
HERE = Path()
CHECKS: list[Callable[[Experiment], list[str]]] = []
"""What `run` asks for faults of an experiment beside its schema. The installed command puts the rules of `fedild check` here: they look into
the hospitals' tables too, which the server does not import."""


@app.command(epilog="Example: fedild server init consortium --name ild-consortium --address fl.example.org:8443")
def init(
    folder: Annotated[Path, typer.Argument(help="New folder.")],
    name: Annotated[str, typer.Option(help="Name of the consortium.")],
    address: Annotated[str, typer.Option(help="host:port that hospitals dial.")],
    listen_host: Annotated[str | None, typer.Option(help="Address to listen on; default: all.")] = None,
    listen_port: Annotated[int | None, typer.Option(help="Port to listen on; default: that of --address.")] = None,
    fleet_port: Annotated[int | None, typer.Option(help="Port of Flower's SuperLink, on this machine alone; default: 8000.")] = None,
) -> None:
    """Make a server folder: settings, certificate authority, certificate, keys."""
    from server.folder import init_folder
    from server.sites import consortium_fingerprint

    port = listen_port or (int(address.rpartition(":")[2]) if address.rpartition(":")[2].isdigit() else None)
    server = init_folder(folder, name=name, address=address, listen_host=listen_host, listen_port=port, fleet_port=fleet_port)
    typer.echo(server.path)
    typer.echo(f"consortium {consortium_fingerprint(server)}   (hospitals compare this by telephone)", err=True)


@app.command(epilog="Example: fedild server up --folder consortium")
def up(folder: Folder = HERE) -> None:
    """Run the server until it is told to stop (SIGTERM, Ctrl-C)."""
    from server.supervisor import supervise

    supervise(_open(folder))


@app.command(epilog="Example: fedild server renew --folder consortium")
def renew(folder: Folder = HERE) -> None:
    """Renew the server's certificate. Hospitals need nothing new; the server that is up shows it within seconds."""
    from server.identity import days_left, make_server_certificate, read_certificate

    server = _open(folder)
    make_server_certificate(server.secrets, hosts=[server.settings.server.address.rpartition(":")[0]])
    typer.echo(f"{days_left(read_certificate(server.secrets / 'server.crt')):.0f} days")


@app.command(epilog="Example: fedild server invite st-mary")
def invite(site: Annotated[str, typer.Argument(help="Name of a site that is to come.")], folder: Folder = HERE) -> None:
    """Keep a name for a site and print what its administrator types."""
    from server.sites import invite as keep

    server = _open(folder)
    keep(server, site)
    typer.echo(f"fedild site init {site} --name {site}")


@app.command("approve-site", epilog="Example: fedild server approve-site request.json --fingerprint 8f9c-45eb-1028-52cb-5a07-2dc6-6b76-204b")
def approve_site(
    request: Annotated[Path, typer.Argument(help="The site's request.json.")],
    fingerprint: Annotated[str | None, typer.Option(help="The fingerprint that the site read out by telephone.")] = None,
    folder: Folder = HERE,
) -> None:
    """Register a site and write its kit. Compare the fingerprint by telephone first. The server must be up."""
    from server.sites import approve_site as approve
    from server.sites import consortium_fingerprint

    server = _open(folder)
    found, kit = approve(server, request, expected=fingerprint)
    if fingerprint is None:
        typer.echo(f"site {found}   (compare by telephone; if it differs, revoke the site)", err=True)
    typer.echo(f"consortium {consortium_fingerprint(server)}   (the site compares this)", err=True)
    typer.echo(kit)


@app.command(epilog="Example: fedild server revoke st-mary")
def revoke(site: Annotated[str, typer.Argument(help="Name of the site.")], folder: Folder = HERE) -> None:
    """Refuse a site's key from now on. No other site notices. The server must be up."""
    from server.sites import revoke as refuse

    refuse(_open(folder), site)


@app.command(epilog="Example: fedild server sites --format json")
def sites(folder: Folder = HERE, output: Format = "text") -> None:
    """List the sites: invited, approved, revoked; online or not."""
    from server.status import site_rows

    rows = site_rows(_open(folder))
    if output == "json":
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['name']:<24} {row['state']:<10} {row['online']:<8} {row['fingerprint']}")


@app.command(epilog="Example: fedild server run fibrosis.toml --sites st-mary,north,lakeside --quorum 3 --deadline 2h")
def run(
    experiment: Annotated[str, typer.Argument(help="Path of an experiment's TOML.")],
    sites: Annotated[str, typer.Option(help="The roster: names of approved sites, separated by commas.")],
    quorum: Annotated[int | None, typer.Option(help="Valid updates that make a round; never under 3.")] = None,
    deadline: Annotated[str | None, typer.Option(help="Longest round: 90s, 30m, 2h.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a knob of the experiment.")] = None,
    track: Annotated[str | None, typer.Option(help="Show the rounds as they grow, in files of the run folder: mlflow or tensorboard.")] = None,
    folder: Folder = HERE,
) -> None:
    """Put a run into the queue and print its identifier."""
    from server.orders import order_run

    typer.echo(
        order_run(
            _open(folder),
            experiment,
            roster=sites.split(","),
            quorum=quorum,
            deadline=deadline,
            settings=settings or [],
            checks=CHECKS,
            tracker=track,
        )
    )


@app.command(epilog="Example: fedild server status 3f2a90c1 --format json")
def status(
    run: Annotated[str | None, typer.Argument(help="A run; without it, the server.")] = None, folder: Folder = HERE, output: Format = "text"
) -> None:
    """Show how the server, or a run, stands."""
    from server.status import run_status, server_status
    from shared_models.core.wording import lines_of

    server = _open(folder)
    found = server_status(server) if run is None else run_status(server, run)
    typer.echo(json.dumps(found, indent=2) if output == "json" else "\n".join(lines_of(found)))


@app.command(epilog="Example: fedild server runs")
def runs(folder: Folder = HERE, output: Format = "text") -> None:
    """List all runs, oldest first."""
    from server.status import run_rows

    rows = run_rows(_open(folder))
    if output == "json":
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        mark = "degraded" if row["degraded"] else ""
        typer.echo(f"{row['run']}  {row['experiment']:<24} {row['state']:<12} {row['round']}/{row['rounds']} {mark:<9} {row['note']}".rstrip())


@app.command(epilog="Example: fedild server stop 3f2a90c1")
def stop(run: Run, folder: Folder = HERE) -> None:
    """Stop a run; what is done stays, `resume` continues it."""
    from server.queue import Queue

    Queue(_open(folder).path / "queue.db").stop(run)


@app.command(epilog="Example: fedild server resume 3f2a90c1")
def resume(run: Run, folder: Folder = HERE) -> None:
    """Continue a run that was stopped, was interrupted or has failed, from its last round."""
    from server.queue import Queue

    Queue(_open(folder).path / "queue.db").resume(run)


@app.command(epilog="Example: fedild server pull 3f2a90c1 --out results")
def pull(run: Run, out: Annotated[Path, typer.Option(help="New folder for bundle, report and numbers.")], folder: Folder = HERE) -> None:
    """Copy what a run has released: bundle, report, metrics, the log of its rounds."""
    from server.orders import pull_run

    typer.echo(pull_run(_open(folder), run, out))


@app.command(epilog="Example: fedild server page --folder consortium")
def page(
    folder: Folder = HERE,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine a password and TLS are needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8600,
    name: Annotated[str | None, typer.Option(help="Public name of the page, through a proxy with TLS.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate (PEM).", exists=True, dir_okay=False)] = None,
    key: Annotated[Path | None, typer.Option(help="Its key (PEM).", exists=True, dir_okay=False)] = None,
    metrics_token: Annotated[Path | None, typer.Option(help="File (0600) with the bearer token of /metrics.")] = None,
) -> None:
    """Show the live page: runs, rounds, curves as they grow, sites with their state. Nothing can be changed on it."""
    from server.page.app import server_page
    from shared_models.page.password import password_file
    from shared_models.page.serving import Place, serve

    server = _open(folder)
    place, password = Place(host, port, name, certificate, key), password_file(server.path)
    serve(lambda access: server_page(server, access), place, role="server", password=password, link=False, token=metrics_token, told=typer.echo)


@app.command("page-password", epilog="Example: fedild server page-password --folder consortium")
def page_password(folder: Folder = HERE) -> None:
    """Set the password of the live page; without a terminal it is read from standard input."""
    from shared_models.page.password import ask_password, password_file

    typer.echo(ask_password(password_file(_open(folder).path)))


def _open(folder: Path) -> ServerFolder:
    from server.folder import open_folder

    return open_folder(folder)
