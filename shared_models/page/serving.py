"""Where a live page listens: on this machine; beyond it only with a password and TLS, or behind a proxy that has them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from shared_models.core.errors import BadInput, Refused
from shared_models.page.access import Access
from shared_models.page.application import Page
from shared_models.page.guard import Guard

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Place:
    """What the command line says of where a page is.

    Parameters
    ----------
    host : str
        Address to listen on.
    port : int
        0 takes a free one.
    name : str, optional
        Public name under which browsers reach the page, through a proxy or on `host`: ``page.example.org`` or ``page.example.org:8443``.
    certificate, key : Path, optional
        TLS of this page itself.
    """

    host: str = "127.0.0.1"
    port: int = 0
    name: str | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def beyond(self) -> bool:
        """Whether anybody but this machine is meant to reach it."""
        return self.name is not None or not is_loopback(self.host)

    def check(self, *, password: Path | None) -> None:
        """Refuse to show a page to others without a password and TLS.

        Raises
        ------
        Refused
            E_PAGE_OPEN.
        BadInput
            Half of a certificate.
        """
        if (self.certificate is None) != (self.key is None):
            raise BadInput("TLS needs both the certificate and its key", remedy="--certificate and --key")
        if self.beyond and password is None:
            raise Refused(
                "a page that others can reach needs a password",
                value=self.name or self.host,
                remedy="`page-password` makes one; or leave out --host and --name",
                code="E_PAGE_OPEN",
            )
        if not is_loopback(self.host) and self.certificate is None:
            raise Refused(
                "a page that listens beyond this machine needs TLS",
                value=self.host,
                remedy="--certificate and --key; or listen on 127.0.0.1 behind a proxy with TLS and give --name",
                code="E_PAGE_OPEN",
            )


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches what listens on `host`.

    Examples
    --------
    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.1.2.3", "example.org")]
    [True, True, True, False, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_of(place: Place, port: int) -> list[str]:
    """Return every ``Host`` under which the page answers."""
    shown = f"[{place.host}]" if ":" in place.host else place.host
    names = [f"{name}:{port}" for name in dict.fromkeys((*LOOPBACK, shown))]
    return names + ([place.name] if place.name else [])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the event streams first: they would hold the server for an hour."""
        self._stop()
        super().handle_exit(sig, frame)


def serve(
    make: Callable[[Access], Page],
    place: Place,
    *,
    role: str,
    password: Path,
    link: bool,
    token: Path | None,
    told: Callable[[str], None],
) -> None:
    """Show a page until SIGTERM or SIGINT.

    Parameters
    ----------
    make : callable
        Makes the page behind its door.
    password : Path
        The password file; where there is none, the page is for this machine alone.
    link : bool
        Without a password, whether a visitor needs the link that is printed.
    told : callable
        Is given the address to open.

    Raises
    ------
    Refused
        E_PAGE_OPEN, or E_KEY_FILE.
    BadInput
        A port that is taken, or an address that is not of this machine.
    """
    kept = password if password.exists() else None
    place.check(password=kept)
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((place.host, place.port))
        except OSError as error:
            raise BadInput("the page must be able to listen", value=f"{place.host}:{place.port}: {error.strerror}", remedy="--port, --host") from None
        port = listener.getsockname()[1]
        secure = place.certificate is not None or place.name is not None
        access = Access(role, names_of(place, port), password=kept, link=link, token=token, secure=secure)
        page = make(access)
        config = uvicorn.Config(
            Guard(page.app, access),
            log_level="error",
            access_log=False,
            ws="none",
            proxy_headers=False,
            server_header=False,
            ssl_certfile=place.certificate,
            ssl_keyfile=place.key,
            timeout_graceful_shutdown=3,
            limit_concurrency=256,
        )
        config.load()
        told(_address(place, port, access))
        try:
            _Server(config, page.streams.stopping.set).run(sockets=[listener])
        except KeyboardInterrupt:  # an ordinary end
            return


def _address(place: Place, port: int, access: Access) -> str:
    if place.name:
        return f"https://{place.name}/"
    host = "127.0.0.1" if place.host in ("0.0.0.0", "localhost") else f"[{place.host}]" if ":" in place.host else place.host  # noqa: S104 - only compared
    way = f"enter?key={access.link}" if access.link else ""
    return f"{'https' if place.certificate else 'http'}://{host}:{port}/{way}"
