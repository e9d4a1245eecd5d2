"""The frame of a live page: a FastAPI application without any page of its own about its interface, drawn with jinja2, behind a `Guard`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request

from shared_models.core.errors import BadInput, FedILDError
from shared_models.page.access import Access
from shared_models.page.guard import cookie_header
from shared_models.page.stream import Drawn, Streams

HERE = Path(__file__).parent
STATIC = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}


class Page:
    """One page: its application, its templates, its door.

    Parameters
    ----------
    access : Access
        Who may come in.
    templates : Path
        Folder of the page's own templates; ``frame.html.j2`` and ``login.html.j2`` are common.
    title : str
        Shown on every page.
    look_s : float
        Seconds between two looks for changes.
    """

    def __init__(
        self, access: Access, templates: Path, *, title: str, filters: Mapping[str, Callable[..., Any]] | None = None, look_s: float = 1.0
    ) -> None:
        self.access, self.title, self.streams = access, title, Streams(look_s=look_s)
        self.environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([templates, HERE]), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self.environment.filters.update(filters or {})
        self.app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
        self.app.add_exception_handler(FedILDError, self._failed)
        self.app.add_exception_handler(HTTPException, self._failed)
        for path, handler, method in (
            ("/login", self._door, "GET"),
            ("/login", self._log_in, "POST"),
            ("/logout", self._log_out, "POST"),
            ("/enter", self._enter, "GET"),
            ("/static/{name}", self._static, "GET"),
        ):
            self.app.add_api_route(path, handler, methods=[method], response_model=None)

    def parts(self, template: str, **facts: Any) -> dict[str, Markup]:
        """Return the parts of a page: every macro ``part_NAME(facts)`` of a template, drawn."""
        module = self.environment.get_template(template).module
        found = {name.removeprefix("part_"): getattr(module, name) for name in dir(module) if name.startswith("part_")}
        return {name: Markup(macro(facts)) for name, macro in found.items()}  # noqa: S704 - a macro's text is escaped

    def show(self, request: Request, template: str, drawn: Drawn, *, events: str, status: int = 200, **more: Any) -> HTMLResponse:
        """Return a whole page with its parts in their places; `events` is where its changes come from."""
        text = self.environment.get_template(template).render(
            parts=drawn.parts,
            digests=drawn.digests,
            events="" if drawn.over else f"{events}?seen={drawn.digest}",
            **self._frame(request),
            **more,
        )
        return HTMLResponse(text, status)

    def follow(self, drawn: Callable[[], Drawn], seen: str) -> Response:
        """Return the stream of changes of a page."""
        if self.streams.is_full:
            return PlainTextResponse("too many viewers", 503)
        return StreamingResponse(self.streams.events(drawn, seen=seen), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    def _frame(self, request: Request) -> dict[str, Any]:
        session = request.state.session
        entered = session.entered and not self.access.is_open
        return {"title": self.title, "token": self.access.form_token(session), "entered": entered}

    def _door(self, request: Request) -> HTMLResponse:
        return self._login(request, "", 200)

    def _login(self, request: Request, said: str, status: int) -> HTMLResponse:
        told = {"said": said, "by_link": bool(self.access.link), "by_password": self.access.password is not None, "events": ""}
        return HTMLResponse(self.environment.get_template("login.html.j2").render(**told, **self._frame(request)), status)

    def _log_in(self, request: Request) -> Response:
        return self._try(request, lambda: self.access.is_password(request.state.form.get("password", "")), "This is not the password.")

    def _enter(self, request: Request) -> Response:
        return self._try(request, lambda: self.access.is_link(request.query_params.get("key", "")), "This link is not the one that was printed last.")

    def _try(self, request: Request, right: Callable[[], bool], wrong: str) -> Response:
        address = request.client.host if request.client else ""
        if wait := self.access.guesses.begin(address):
            answer = self._login(request, f"Too many attempts. Try again in {wait:.0f} seconds.", 429)
            answer.headers["retry-after"] = f"{wait:.0f}"
            return answer
        if not right():
            return self._login(request, wrong, 403)
        self.access.guesses.good(address)
        _, cookie = self.access.new_cookie(entered=True)  # a new one: whoever planted the old one gains nothing
        return RedirectResponse("/", 303, {"set-cookie": cookie_header(self.access, cookie)})

    def _log_out(self, request: Request) -> Response:
        self.access.end(request.state.session)
        _, cookie = self.access.new_cookie(entered=self.access.is_open)
        return RedirectResponse("/login", 303, {"set-cookie": cookie_header(self.access, cookie)})

    def _static(self, name: str) -> Response:
        if name not in STATIC:
            raise HTTPException(404)
        return Response(_text(name), media_type=STATIC[name], headers={"cache-control": "no-cache"})

    def _failed(self, request: Request, error: Exception) -> Response:
        """Say what is wrong in words; the value stays out of the answer."""
        if isinstance(error, FedILDError):
            status, words = (409 if not isinstance(error, BadInput) else 404 if request.method == "GET" else 422), f"{error.rule} ({error.code})"
        else:
            status = error.status_code if isinstance(error, HTTPException) else 500
            words = "There is nothing here." if status == 404 else "This did not work."
        if not hasattr(request.state, "session"):
            return PlainTextResponse(words, status)
        text = self.environment.get_template("failed.html.j2").render(said=words, events="", **self._frame(request))
        return HTMLResponse(text, status)


@cache
def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
