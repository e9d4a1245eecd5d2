"""The page of a site: one page with everything, the two decisions that a person can take on it, ``/metrics``."""

from __future__ import annotations

import re
import time
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse, RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request

from client.page.facts import site_facts
from client.page.metrics import registry_of
from client.site import Site
from client.station import decide, decisions
from shared_models.core.errors import BadInput
from shared_models.core.locks import is_locked
from shared_models.page.access import Access
from shared_models.page.application import Page
from shared_models.page.stream import Drawings, Drawn, stamp_of

OFTEN_S = 30
"""Seconds after which the page is drawn anew even if no file has changed: a refused connection is shown for some time only."""
VERDICTS = {"approve": "approved", "refuse": "rejected"}
FILES = ("approvals.jsonl", "audit.jsonl", "up.json", "link.json", "expiry.json", "site.toml", "ledger.db", "ledger.db-wal", "pending", "decided")
UNITS = ("B", "kB", "MB", "GB")


def site_page(folder: Path, access: Access, *, look_s: float = 1.0) -> Page:
    """Return the live page of a site folder.

    Parameters
    ----------
    look_s : float
        Seconds between two looks for changes.
    """
    folder = folder.resolve()
    site = Site.load(folder / "site.toml")
    page = Page(access, Path(__file__).parent, title=f"{site.site.name}: site", filters={"size": size_text}, look_s=look_s)
    drawings, registry = Drawings(), registry_of(folder)

    def drawn(token: str) -> Drawn:
        def stamp() -> Hashable:
            files = [folder / name for name in FILES]
            return is_locked(folder / "up.lock"), int(time.time() / OFTEN_S), stamp_of(*files, site.workspace / "what-left.jsonl")

        facts = drawings.get(token, stamp, lambda: Drawn(page.parts("site_parts.html.j2", token=token, **site_facts(folder))))
        return facts

    def show(request: Request) -> HTMLResponse:
        return page.show(request, "site.html.j2", drawn(_token(request)), events="/events")

    def follow(request: Request, seen: str = "") -> Response:
        token = _token(request)
        return page.follow(lambda: drawn(token), seen)

    def take_decision(request: Request) -> Response:
        form: dict[str, Any] = request.state.form
        digest, verdict = form.get("digest", ""), VERDICTS.get(form.get("verdict", ""))
        if verdict is None or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise BadInput("a decision names an experiment by its whole digest")
        shown = [row for row in decisions(folder) if row["digest"] == digest]
        if not shown:
            raise BadInput("a decision is about something that is on the list")
        if verdict == "rejected" and not form.get("reason", "").strip():
            raise BadInput("whoever refuses says why")
        decide(folder, digest, verdict, form.get("reason", ""))
        return RedirectResponse("/", 303)

    def measure() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    for path, handler, method in (("/", show, "GET"), ("/events", follow, "GET"), ("/decide", take_decision, "POST"), ("/metrics", measure, "GET")):
        page.app.add_api_route(path, handler, methods=[method], response_model=None)

    def _token(request: Request) -> str:
        return access.form_token(request.state.session)

    return page


def size_text(size: float) -> str:
    """Return a number of bytes in words.

    Examples
    --------
    >>> size_text(812), size_text(4_200_000)
    ('812 B', '4.2 MB')
    """
    place = next((place for place in (3, 2, 1) if size >= 1000**place), 0)
    return f"{size / 1000**place:.1f} {UNITS[place]}" if place else f"{size:.0f} B"
