"""`fedild site`: what a hospital does. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A hospital: keys, connection, approvals, data. Research use only.", no_args_is_help=True)
audit_app = typer.Typer(help="The audit log of this site.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
ledger_app = typer.Typer(help="What this site's patients have spent of their privacy, and the way on after entries were lost.")
app.add_typer(ledger_app, name="ledger")
peers_app = typer.Typer(help="The hospitals that this one has summed with, and the keys under which it met them.")
app.add_typer(peers_app, name="peers")

Folder = Annotated[Path, typer.Option("--folder", "-f", envvar="FEDILD_SITE", help="The site folder; default: the current one.")]
Format = Annotated[str, typer.Option("--format", help="text or json.")]
What = Annotated[str, typer.Argument(metavar="EXPERIMENT|APP", help="First digits of a digest or a name from `approvals`, or a .toml or .fab file.")]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; signed with the decision, and never sent.")]
Here = Path()


@app.command(epilog="Example: fedild site init /srv/fedild --name alpha")
def init(
    folder: Annotated[Path, typer.Argument(help="New site folder.")],
    name: Annotated[str, typer.Option(help="The site's name in the federation: letters, digits, - or _.")],
) -> None:
    """Make keys on the spot and write request.json, which goes to the server's administrator."""
    from client.audit import AuditLog
    from client.identity import make_site

    request = make_site(folder, name)
    AuditLog(folder).note("made", fingerprint=request.fingerprint)
    typer.echo(f"send this file: {folder / 'request.json'}")
    typer.echo(f"read this out by telephone: {request.fingerprint}")


@app.command(epilog="Example: fedild site join alpha.json --folder /srv/fedild")
def join(kit: Annotated[Path, typer.Argument(help="The kit that the server's administrator sent back.")], folder: Folder = Here) -> None:
    """Check the server's kit and pin it."""
    from client.audit import AuditLog
    from client.identity import join as run
    from shared_models.papers import fingerprint

    joined = run(folder, kit)
    consortium = fingerprint(joined.ca, joined.signing_key)
    AuditLog(folder).note("joined", fingerprint=consortium, consortium=joined.consortium)
    typer.echo(f"joined {joined.consortium} at {joined.address}")
    typer.echo(f"compare by telephone: {consortium}")
    typer.echo("if the site is up, restart it: it takes what the kit brought when it starts")


@app.command(epilog="Example: fedild site rotate --folder /srv/fedild")
def rotate(folder: Folder = Here) -> None:
    """Make new keys and a request for them that the old key has signed; the old ones serve until the kit comes (`join`)."""
    from client.audit import AuditLog
    from client.identity import rotate as run

    request = run(folder)
    AuditLog(folder).note("rotated", fingerprint=request.fingerprint)
    typer.echo(f"send this file: {folder / 'request.json'}")
    typer.echo(f"read this out by telephone: {request.fingerprint}")


@app.command(epilog="Example: fedild site doctor --folder /srv/fedild")
def doctor(folder: Folder = Here, format: Format = "text") -> None:
    """Look at everything between this site and a run; exit code 1 when something is at fault."""
    import json

    from client.doctor import as_rows, examine

    findings = examine(folder)
    if format == "json":
        typer.echo(json.dumps(as_rows(findings), indent=2))
    else:
        marks = {"good": ("ok", "green"), "warning": ("warning", "yellow"), "fault": ("FAULT", "red")}
        for name, finding in findings.items():
            mark, colour = marks[finding.grade]
            typer.echo(f"{name:12s} {typer.style(f'{mark:8s}', fg=colour)} {finding.found}{'. ' + finding.remedy if finding.remedy else ''}")
    if any(finding.grade == "fault" for finding in findings.values()):
        raise typer.Exit(1)


@app.command(epilog="Example: fedild site up --folder /srv/fedild")
def up(folder: Folder = Here) -> None:
    """Run the site until it is told to stop: worker and SuperNode, restarted when they die, dialling for ever."""
    from client.supervisor import supervise

    supervise(folder)


@app.command(epilog="Example: fedild site prepare --folder /srv/fedild --experiment fibrosis.toml")
def prepare(
    folder: Folder = Here,
    experiment: Annotated[str | None, typer.Option(help="Prepare as this experiment wants it: a TOML, or one that waits for approval.")] = None,
    processes: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and prepare what arrives once it has lain still for some seconds.")] = False,
    backend: Annotated[str, typer.Option(help="pool: processes of this machine; ray: a Ray cluster that sees the site folder.")] = "pool",
    ray_address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")] = None,
) -> None:
    """Read, de-identify, check and measure what lies in the inbox."""
    if watch:
        from client.watch import log, stop_on_signal
        from client.watch import watch as run

        logging.basicConfig(format="%(message)s")
        log.setLevel(logging.INFO)
        run(folder.resolve(), experiment, stop=stop_on_signal(), processes=processes)
        return
    from client.cases.follow_up import follow_up_words
    from client.outcome import lines_of
    from client.station import prepare_site
    from shared_models.core.files import read_json

    with progress_bar("series") as step:
        report = prepare_site(folder, experiment, processes=processes, backend=backend, ray_address=ray_address, progress=step)
    told = read_json(report)
    for line in lines_of(told["outcomes"]):
        typer.echo(line)
    if "follow_up" in told:
        typer.echo(follow_up_words(told["follow_up"]))
    typer.echo(report)


@app.command(epilog="Example: fedild site receive --folder /srv/fedild")
def receive(folder: Folder = Here) -> None:
    """Take in what a PACS or scanner sends, until told to stop; `site up` does the same when the site TOML has [receiver]."""
    from client.intake.receiver import receiver_of, receiving
    from client.site import Site
    from client.watch import stop_on_signal

    logging.basicConfig(format="%(message)s")
    warnings.simplefilter("ignore")  # they name values of the files
    receiver, landing = receiver_of(Site.load(folder / "site.toml"))
    landing.sweep()
    stop = stop_on_signal()
    with receiving(receiver, landing, folder):
        typer.echo(f"listening on {receiver.host}:{receiver.port} as {receiver.title}")
        stop.wait()


@app.command(epilog="Example: fedild site fetch --accession-list wanted.csv --folder /srv/fedild")
def fetch(
    folder: Folder = Here,
    patient: Annotated[list[str] | None, typer.Option(help="Patient number; all CT studies. May be given several times.")] = None,
    study: Annotated[list[str] | None, typer.Option(help="Study Instance UID. May be given several times.")] = None,
    accession_list: Annotated[Path | None, typer.Option(help="CSV with a column `accession`.")] = None,
) -> None:
    """Ask the PACS for studies and bring them into the inbox; without options, go on with what was asked for before."""
    from client.intake.fetch import Fetch, read_list
    from client.intake.pacs import What as Kind
    from client.site import Site

    logging.basicConfig(format="%(message)s")
    warnings.simplefilter("ignore")  # they name values of the files
    work = Fetch(Site.load(folder / "site.toml"))
    by: dict[Kind, list[str]] = {"patient": patient or [], "study": study or [], "accession": read_list(accession_list) if accession_list else []}
    wanted: list[tuple[Kind, str]] = [(what, value) for what, values in by.items() for value in values]
    if wanted:
        work.ask(wanted)
    with progress_bar("images") as step:
        found = work.run(step)
    typer.echo(f"{found['done']} studies are here, {found['failed']} items failed")
    if found["failed"]:
        typer.echo("fedild site queue --state failed", err=True)
        raise typer.Exit(1)


@app.command(epilog="Example: fedild site queue --state failed")
def queue(
    folder: Folder = Here,
    kind: Annotated[str | None, typer.Option(help="find, fetch, unpack or prepare.")] = None,
    state: Annotated[str | None, typer.Option(help="waiting, working, done or failed.")] = None,
    retry: Annotated[list[str] | None, typer.Option(help="Let a failed item wait anew: first digits of its name, or `all`.")] = None,
    format: Format = "text",
) -> None:
    """Show the site's work: how much waits, is worked on, is done and has failed; and try again what failed."""
    import json

    from client.intake.queue import Queue
    from client.site import Site

    found = Queue(Site.load(folder / "site.toml").workspace)
    if retry:
        typer.echo(f"{found.retry(None if 'all' in retry else retry)} items wait anew", err=True)
    counts, items = found.counts(), found.items(kind, state)
    if format == "json":
        typer.echo(json.dumps({"counts": counts, "items": [item.as_dict() for item in items]}, indent=2))
        return
    for name, states in counts.items():
        typer.echo(f"{name:8s} {'  '.join(f'{count:6d} {word}' for word, count in states.items())}")
    for item in items if kind or state else ():
        typer.echo(f"{item.kind:8s} {item.name}  {item.state:8s} {item.attempts:3d}  {item.reason}")


@app.command(epilog="Example: fedild site acquisition --format json")
def acquisition(folder: Folder = Here, format: Format = "text") -> None:
    """Show how this site scans (maker, kernel, thickness, kVp, year) in counts that may be shared; small ones are put together."""
    import json

    from client.acquisition_profile import acquisition_profile, lines_of

    profile = acquisition_profile(folder)
    typer.echo(json.dumps(profile, indent=2) if format == "json" else "\n".join(lines_of(profile)))


@app.command(epilog="Example: fedild site tags --word-file agreed.txt --out st-mary.json")
def tags(
    word_file: Annotated[Path, typer.Option(help="File with the word that the sites agreed on, 16 or more characters.")],
    out: Annotated[Path, typer.Option(help="Where to write the tags: keyed hashes, no names.")],
    folder: Folder = Here,
) -> None:
    """Write keyed hashes of the prepared studies, to find scans that lie at two hospitals: `fedild duplicates` compares such files."""
    from client.site import Site
    from client.twins import content_tags
    from shared_models.core.files import write_json

    site = Site.load(folder / "site.toml")
    found = content_tags(site.workspace, word_file.read_text(encoding="utf-8").strip())
    write_json(out, {"site": site.site.name, "tags": sorted({tag for of_one in found.values() for tag in of_one})})
    typer.echo(f"{sum(map(len, found.values()))} studies, {len(found)} patients: {out}")


@app.command(epilog="Example: fedild site approve 3f2a91c07b1e")
def approve(what: What, folder: Folder = Here, reason: Reason = "") -> None:
    """Sign that this may run here, with the code that is installed now."""
    _decide(folder, what, "approved", reason)


@app.command(epilog="Example: fedild site reject 3f2a91c07b1e")
def reject(what: What, folder: Folder = Here, reason: Reason = "") -> None:
    """Sign that this may not run here; what was approved before is revoked."""
    _decide(folder, what, "rejected", reason)


@app.command(epilog="Example: fedild site approvals")
def approvals(folder: Folder = Here, format: Format = "text") -> None:
    """List what waits for a decision and what was decided."""
    import json

    from client.station import decisions

    rows = decisions(folder)
    if format == "json":
        typer.echo(json.dumps(rows, indent=2))
    elif not rows:
        typer.echo("nothing waits for a decision, and nothing was decided; an experiment is listed when the server first asks for it", err=True)
    for row in rows if format != "json" else ():
        typer.echo(f"{row['digest'][:12]}  {row['decision']:9s} {row['kind']:10s} {row['name']}  {row['about']}  {row['reason']}".rstrip())


@app.command(epilog="Example: fedild site show 3f2a91c07b1e")
def show(what: What, folder: Folder = Here) -> None:
    """Print every setting of an experiment that waits for approval or was approved here, as TOML: what `approve` would sign."""
    from client.station import settings_of

    typer.echo(settings_of(folder, what))


@app.command(epilog="Example: fedild site status --format json")
def status(folder: Folder = Here, format: Format = "text") -> None:
    """Say what runs here, whether the server accepts this site, and what was last asked."""
    import json

    from client.station import standing
    from shared_models.core.wording import lines_of

    now = standing(folder)
    if format == "json":
        typer.echo(json.dumps(now, indent=2))
    for line in lines_of(now) if format != "json" else ():
        typer.echo(line)


@app.command(epilog="Example: fedild site log --lines 50")
def log(folder: Folder = Here, lines: Annotated[int, typer.Option(min=1, help="Lines from the end.")] = 30) -> None:
    """Show the end of the site's own logs. They stay here."""
    from client.station import log_tail

    for line in log_tail(folder, lines):
        typer.echo(line)


@audit_app.command(epilog="Example: fedild site audit verify")
def verify(folder: Folder = Here) -> None:
    """Check that no line of the audit log was edited, deleted or inserted."""
    from client.station import verify_audit

    typer.echo(f"{verify_audit(folder)} lines, all whole and in place")


@app.command("what-left", epilog="Example: fedild site what-left")
def what_left(folder: Folder = Here, format: Format = "text") -> None:
    """List every message that ever left: when, run, round, bytes, arrays, patients behind it, metrics."""
    import json

    from client.station import departures

    rows = departures(folder)
    if format == "json":
        typer.echo(json.dumps(rows, indent=2))
    elif not rows:
        typer.echo("nothing has left", err=True)
    for row in rows if format != "json" else ():
        metrics = " ".join(f"{name}={value}" for name, value in row["metrics"].items())
        typer.echo(f"{row['time']}  run {row['run']}  round {row['round']:4d}  {row['bytes']:>12,d} bytes  {row['keys']:4d} arrays  {metrics}")


@ledger_app.callback(invoke_without_command=True, epilog="Example: fedild site ledger --plot epsilon.svg")
def ledger(
    context: typer.Context,
    folder: Folder = Here,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (SVG) of the epsilon spent.")] = None,
    format: Format = "text",
) -> None:
    """Check the privacy ledger and show what was spent, by cohort."""
    import json

    from client.privacy.account import account, lines_of, picture
    from shared_models.core.files import write_atomic

    if context.invoked_subcommand is not None:
        return
    found = account(folder)
    typer.echo(json.dumps(found, indent=2) if format == "json" else "\n".join(lines_of(found)))
    if plot is not None:
        write_atomic(plot, picture(folder).encode(), mode=0o600)
        typer.echo(plot, err=True)


@ledger_app.command("accept-loss", epilog="Example: fedild site ledger accept-loss --folder /srv/fedild")
def accept_loss(
    folder: Folder = Here,
    spent: Annotated[
        float | None, typer.Option("--epsilon", min=0, help="Take what was lost for this epsilon of every patient; default: the site's limit.")
    ] = None,
) -> None:
    """Go on after the ledger was refused. What was lost counts as the whole budget; the hospital may raise its limit afterwards."""
    from client.privacy.ledger import Ledger
    from client.site import Site

    limit = Site.load(folder / "site.toml").policy.privacy.epsilon_limit
    entry = Ledger(folder).accept_loss(spent if spent is not None else limit)
    taken = "without bound: no limit can be kept" if entry.epsilon is None else f"for epsilon {entry.epsilon:g} of every patient"
    typer.echo(f"entry {entry.counter}: what was lost is taken {taken}")


@peers_app.callback(invoke_without_command=True, epilog="Example: fedild site peers --folder /srv/fedild")
def peers(context: typer.Context, folder: Folder = Here, format: Format = "text") -> None:
    """List the hospitals whose signing keys are pinned here: compare the keys by telephone."""
    import json

    from client.privacy.secure_sum.peers import Peers

    if context.invoked_subcommand is not None:
        return
    known = Peers(folder).known()
    if format == "json":
        typer.echo(json.dumps(known, indent=2))
    for name, key in known.items() if format != "json" else ():
        typer.echo(f"{name:24s} {key}")


@peers_app.command(epilog="Example: fedild site peers forget beta --folder /srv/fedild")
def forget(name: Annotated[str, typer.Argument(help="A hospital that has told you that it made new keys.")], folder: Folder = Here) -> None:
    """Unpin a hospital's key, after asking that hospital: the next run pins the one that the consortium certifies."""
    from client.privacy.secure_sum.peers import Peers

    typer.echo(f"forgotten: {name} under {Peers(folder).forget(name)[:16]}")


@app.command(epilog="Example: fedild site page --folder /srv/fedild")
def page(
    folder: Folder = Here,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine a password and TLS are needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8601,
    name: Annotated[str | None, typer.Option(help="Public name of the page, through a proxy with TLS.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate (PEM).", exists=True, dir_okay=False)] = None,
    key: Annotated[Path | None, typer.Option(help="Its key (PEM).", exists=True, dir_okay=False)] = None,
    metrics_token: Annotated[Path | None, typer.Option(help="File (0600) with the bearer token of /metrics.")] = None,
) -> None:
    """Show the live page of this site: what waits for approval, what left, privacy spent. On this machine it opens by the printed link."""
    from client.page.app import site_page
    from client.site import Site
    from shared_models.page.password import password_file
    from shared_models.page.serving import Place, serve

    Site.load(folder / "site.toml")
    place = Place(host, port, name, certificate, key)
    serve(
        lambda access: site_page(folder, access), place, role="site", password=password_file(folder), link=True, token=metrics_token, told=typer.echo
    )


@app.command("page-password", epilog="Example: fedild site page-password --folder /srv/fedild")
def page_password(folder: Folder = Here) -> None:
    """Set the password of the live page; without a terminal it is read from standard input."""
    from client.site import Site
    from shared_models.page.password import ask_password, password_file

    Site.load(folder / "site.toml")
    typer.echo(ask_password(password_file(folder)))


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yield ``step(done, total)``, which moves a bar on standard error; without a terminal nothing is shown."""
    import sys

    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _decide(folder: Path, what: str, decision: str, reason: str) -> None:
    from client.station import decide

    for entry in decide(folder, what, decision, reason):
        typer.echo(f"{entry.decision} {entry.kind} {entry.name} {entry.digest[:12]}")
