"""How long the certificates last that this site depends on, said weeks ahead: in `doctor`, in `status` and in the log of `up`.

The consortium's authority lies here (``secrets/ca.crt``); the server's certificate is seen by asking, and `up` writes into ``expiry.json``
until when it lasts, so that `status` need not ask.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import Logger
from pathlib import Path

from client.link import Answer, ask_server
from client.site import Site
from shared_models.core.errors import Refused
from shared_models.core.files import read_json, write_json

DAY_S = 86400.0
EVERY_S = DAY_S / 2
"""Seconds between two looks of `up`."""
AGAIN_S = 600.0
"""Seconds until the next look when the server did not answer."""


@dataclass(frozen=True)
class Certificate:
    """Days before its end at which a certificate is warned of, and what is to be done."""

    words: str
    warn_days: float
    remedy: str


CERTIFICATES = {
    "certificate": Certificate("the server's certificate", 30.0, "ask the server's administrator to renew the certificate"),
    "authority": Certificate("the consortium's authority", 90.0, "ask the server's administrator for a new authority, and for a kit with it"),
}


def authority_days(folder: Path) -> float:
    """Return the days that the pinned authority of a site folder still lasts.

    Raises
    ------
    Refused
        E_AUTHORITY: ``secrets/ca.crt`` is missing or no certificate.
    """
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate((folder / "secrets" / "ca.crt").read_bytes())
    except (OSError, ValueError):
        raise Refused("the pinned authority must be readable", remedy="`fedild site join KIT` again", code="E_AUTHORITY") from None
    return (certificate.not_valid_after_utc.timestamp() - time.time()) / DAY_S


def days_left(folder: Path) -> dict[str, float]:
    """Return the days left by the names of `CERTIFICATES`, as far as they are known without asking the server."""
    found = {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # `up` has not asked yet
        found["certificate"] = (float(read_json(folder / "expiry.json")["certificate_until"]) - time.time()) / DAY_S
    with contextlib.suppress(Refused):  # not joined
        found["authority"] = authority_days(folder)
    return found


def warning(name: str, days: float) -> str:
    """Return in words that a certificate runs out, with the way out; empty while there is time.

    Examples
    --------
    >>> warning("authority", 60.0)
    "the consortium's authority: 60 days left; ask the server's administrator for a new authority, and for a kit with it"
    >>> warning("certificate", 60.0)
    ''
    """
    one = CERTIFICATES[name]
    return f"{one.words}: {days:.0f} days left; {one.remedy}" if days < one.warn_days else ""


class ExpiryWatch:
    """What `up` calls again and again: looks twice a day, and writes into its log what runs out.

    Parameters
    ----------
    folder : Path
        The site folder.
    log : Logger
        Of the supervisor.
    ask : callable, optional
        Asks the server.
    """

    def __init__(self, folder: Path, log: Logger, *, ask: Callable[[str, Path], Answer] = ask_server) -> None:
        self.folder, self.log, self.ask = folder, log, ask
        self._next = 0.0

    def __call__(self) -> None:
        """Look, if it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_S
        server = Site.load(self.folder / "site.toml").server
        if server is None:
            return
        try:
            answer = self.ask(server.address, self.folder / "secrets" / "ca.crt")
        except ssl.SSLCertVerificationError:
            self.log.warning("certificate", extra={"more": {"warning": "the server's certificate is not accepted; run `fedild site doctor`"}})
        except OSError:
            self._next = time.monotonic() + AGAIN_S
            return
        else:
            until = time.time() + answer.days_left * DAY_S
            write_json(self.folder / "expiry.json", {"certificate_until": round(until)}, mode=0o600, durable=False)
        for name, days in days_left(self.folder).items():
            if said := warning(name, days):
                self.log.warning("certificate", extra={"more": {"certificate": name, "days_left": round(days), "warning": said}})
