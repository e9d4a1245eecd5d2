"""What stands before every answer of a live page: the Host, the session, the form's origin and token, and the headers of the answer."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared_models.page.access import SESSION_S, Access

MOST_FORM_BYTES = 64 << 10
PUBLIC = ("/login", "/enter", "/static/")
METRICS = "/metrics"
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # without one, browsers would send no origin with a form
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
STRICT_TRANSPORT = "max-age=31536000"


class Guard:
    """An ASGI application around a page's own one; nothing reaches that one unasked.

    A handler finds the visitor's `Session` in ``request.state.session`` and, of a form, its fields in ``request.state.form``.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        session = self.access.session(request.cookies.get(self.access.cookie, ""))
        cookie = ""
        if session is None:
            session, cookie = self.access.new_cookie(entered=self.access.is_open)
        refusal = self._refusal(request, entered=session.entered)
        form: dict[str, str] = {}
        if refusal is None and request.method == "POST":
            body = await _body(request)
            form = _fields(body, request.headers.get("content-type", "")) if body is not None else {}
            if body is None:
                refusal = PlainTextResponse("the form is too large", 413)
            elif not self.access.is_form_token(session, form.pop("token", "")):
                refusal = PlainTextResponse("this form is out of date: go back, reload the page and send it again", 403)
        scope.setdefault("state", {}).update(session=session, form=form)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._headers(message["headers"], cookie)
            await send(message)

        await (refusal or self.app)(scope, receive, answer)

    def _refusal(self, request: Request, *, entered: bool) -> Response | None:
        path, host = request.url.path, request.headers.get("host", "").lower()
        if host not in self.access.names:
            return PlainTextResponse("this page does not answer under that name: start it with --name", 421)
        if request.method not in ("GET", "POST"):
            return PlainTextResponse("not allowed", 405)
        if request.method == "POST" and urlsplit(request.headers.get("origin", "")).netloc.lower() != host:
            return PlainTextResponse("a form comes from the page itself", 403)
        if entered or path.startswith(PUBLIC):
            return None
        if path == METRICS and self._may_measure(request):
            return None
        if request.method == "POST" or path == METRICS or path.endswith("/events"):
            return PlainTextResponse("log in first", 401)
        return RedirectResponse("/login", 303)

    def _may_measure(self, request: Request) -> bool:
        if self.access.token is None:
            return self.access.password is None  # this machine alone, and counts alone
        return self.access.is_bearer(request.headers.get("authorization", ""))

    def _headers(self, own: list[tuple[bytes, bytes]], cookie: str) -> list[tuple[bytes, bytes]]:
        named = {name for name, _ in own}
        more = {**HEADERS, **({"strict-transport-security": STRICT_TRANSPORT} if self.access.secure else {})}
        if cookie and b"set-cookie" not in named:
            more["set-cookie"] = cookie_header(self.access, cookie)
        return own + [(name.encode(), value.encode()) for name, value in more.items() if name.encode() not in named]


def cookie_header(access: Access, value: str) -> str:
    """Return the header that sets a session's cookie: for this origin alone, never for scripts, never sent from another site."""
    return f"{access.cookie}={value}; Path=/; Max-Age={SESSION_S}; HttpOnly; SameSite=Strict{'; Secure' if access.secure else ''}"


async def _body(request: Request) -> bytes | None:
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > MOST_FORM_BYTES:
            return None
    return body


def _fields(body: bytes, kind: str) -> dict[str, str]:
    if kind.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return {}
    try:
        return {name: values[-1] for name, values in parse_qs(body.decode(), keep_blank_values=True, max_num_fields=32).items()}
    except ValueError:
        return {}
