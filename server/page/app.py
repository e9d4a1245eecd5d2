"""The pages of the server: an overview, one page a run, its reports, ``/metrics``. Nothing can be changed here."""

from __future__ import annotations

import time
from collections.abc import Hashable
from pathlib import Path

from fastapi.responses import HTMLResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from server.folder import ServerFolder
from server.page.events import LOGS
from server.page.facts import REPORTS, Connections, entries_of, run_facts, server_facts
from server.page.metrics import registry_of
from server.queue import Entry
from server.reports.wording import duration_text, shown, size_text
from shared_models.core.locks import is_locked
from shared_models.page.access import Access
from shared_models.page.application import Page
from shared_models.page.stream import Drawings, Drawn, stamp_of

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
"""Reports bring their own styles; nothing in them may run or be sent."""


def server_page(server: ServerFolder, access: Access, *, look_s: float = 1.0, connections: Connections | None = None) -> Page:
    """Return the live page of a server folder.

    Parameters
    ----------
    look_s : float
        Seconds between two looks for changes.
    connections : Connections, optional
        Who asks Flower which sites are connected.
    """
    filters = {"duration": duration_text, "size": size_text, "shown": shown}
    title = f"{server.settings.server.name}: server"
    page = Page(access, Path(__file__).parent, title=title, filters=filters, look_s=look_s)
    drawings, registry = Drawings(), registry_of(server)
    asked = connections or Connections(server)

    def overview() -> Drawn:
        entries, online = entries_of(server), asked.look()

        def stamp() -> Hashable:
            files = [server.path / name for name in ("sites.json", "up.json", *(f"logs/{log}.log" for log in LOGS))]
            runs = [server.runs / entry.run / "run.json" for entry in entries]
            up, day = is_locked(server.path / "up.lock"), time.strftime("%Y%m%d")
            return _stamp(entries), tuple(online.items()), up, day, stamp_of(*files, *runs)

        return drawings.get("", stamp, lambda: Drawn(page.parts("overview_parts.html.j2", **server_facts(server, entries, online))))

    def of_run(run: str) -> Drawn:
        folder = server.run_folder(run)
        entry = next((entry for entry in entries_of(server) if entry.run == run), None)
        if entry is None:
            raise HTTPException(404)

        def stamp() -> Hashable:
            files = [folder / name for name in ("run.json", "rounds.jsonl", *(file for file, _ in REPORTS.values()))]
            return _stamp([entry]), stamp_of(*files, server.path / "sites.json", server.path / "logs" / "runs.log")

        def draw() -> Drawn:
            return Drawn(page.parts("run_parts.html.j2", **run_facts(server, entry)), over=entry.state == "finished")

        return drawings.get(run, stamp, draw)

    def show_overview(request: Request) -> HTMLResponse:
        return page.show(request, "overview.html.j2", overview(), events="/events")

    def follow_overview(seen: str = "") -> Response:
        return page.follow(overview, seen)

    def show_run(request: Request, run: str) -> HTMLResponse:
        drawn = of_run(run)
        experiment = next(entry.experiment for entry in entries_of(server) if entry.run == run)
        return page.show(request, "run.html.j2", drawn, events=f"/runs/{run}/events", run=run, experiment=experiment)

    def follow_run(run: str, seen: str = "") -> Response:
        of_run(run)  # 404 before the stream begins
        return page.follow(lambda: of_run(run), seen)

    def show_report(run: str, name: str) -> Response:
        path = server.run_folder(run) / REPORTS[name][0] if name in REPORTS else None
        if path is None or not path.is_file():
            raise HTTPException(404)
        return Response(path.read_bytes(), media_type="text/html; charset=utf-8", headers={"content-security-policy": REPORT_POLICY})

    def measure() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    for path, handler in (
        ("/", show_overview),
        ("/events", follow_overview),
        ("/runs/{run}", show_run),
        ("/runs/{run}/events", follow_run),
        ("/runs/{run}/{name}", show_report),
        ("/metrics", measure),
    ):
        page.app.add_api_route(path, handler, methods=["GET"], response_model=None)
    return page


def _stamp(entries: list[Entry]) -> Hashable:
    return tuple((entry.run, entry.state, entry.note, entry.round, entry.changed) for entry in entries)
