"""A page that really listens, and a browser that really looks."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from shared_models.page.access import Access
from shared_models.page.application import Page
from shared_models.page.guard import Guard
from shared_models.page.serving import Place, names_of

NAME = "127.0.0.1:8600"
ORIGIN = {"origin": f"http://{NAME}"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def chromium() -> str:
    """Path of the browser. FEDILD_CHROMIUM names it; unset, a missing one skips by name; set, it fails."""
    named = os.environ.get("FEDILD_CHROMIUM")
    if named:
        if not Path(named).is_file():
            pytest.fail("FEDILD_CHROMIUM names no program: apt-get install chromium")
        return named
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("Chromium is not installed, and FEDILD_CHROMIUM is not set")
    return found


class Client:
    """A browser without scripts: asks the application itself, keeps cookies, follows no redirect."""

    def __init__(self, make: Callable[[Access], Page], door: Access) -> None:
        self.door = door
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(Guard(make(door).app, door)), base_url=f"http://{NAME}")
        self.cookies = self._client.cookies

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return asyncio.run(self._client.request(method, path, **more))

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("POST", path, **more)


def client_of(make: Callable[[Access], Page], *, role: str = "server", **access: Any) -> Client:
    """A client of a page behind its door."""
    return Client(make, Access(role, [NAME], **access))


def token_of(text: str) -> str:
    """The form token in a page."""
    return text.split('name="token" value="', 1)[1].split('"', 1)[0]


@contextmanager
def listening(make: Callable[[Access], Page], *, role: str, link: bool = False) -> Iterator[tuple[str, Access]]:
    """Serve a page on a free port of this machine; gives its address and its door."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        access = Access(role, names_of(Place(), port), link=link)
        page = make(access)
        server = uvicorn.Server(uvicorn.Config(Guard(page.app, access), log_level="error", access_log=False, ws="none", timeout_graceful_shutdown=3))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}", access
        finally:
            page.streams.stopping.set()
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
