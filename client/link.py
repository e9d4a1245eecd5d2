"""The way to the server, looked at from the hospital: name, port, certificate, clock. What `doctor` asks and what explains a refusal."""

from __future__ import annotations

import datetime
import email.utils
import http.client
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 5.0
LARGEST_SKEW_S = 240.0
"""Flower signs a timestamp that is good for 300 seconds."""


@dataclass(frozen=True)
class Answer:
    """What the server's door said: how far this machine's clock is ahead of its, and how long its certificate lasts."""

    skew_s: float
    days_left: float


def ask_server(address: str, authority: Path) -> Answer:
    """Ask the server's door for its health over TLS.

    Parameters
    ----------
    address : str
        host:port.
    authority : Path
        PEM of the certificate authority that the kit pinned; no other is trusted.

    Raises
    ------
    OSError
        Whatever stands in the way: `explain` puts it into words.
    """
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    line = http.client.HTTPSConnection(host, int(port), timeout=PATIENCE_S, context=context)
    try:
        line.connect()
        certificate = line.sock.getpeercert() if isinstance(line.sock, ssl.SSLSocket) else None
        line.request("GET", "/health")
        answer = line.getresponse()
        answer.read(1000)
        skew = _skew(answer.getheader("Date"))
    except http.client.HTTPException as error:
        raise ConnectionError("not a server of ours") from error
    finally:
        line.close()
    return Answer(skew, days_left(str((certificate or {}).get("notAfter", ""))))


def days_left(not_after: str) -> float:
    """Return the days until the end that a certificate names; 0 when it names none.

    Examples
    --------
    >>> days_left("Jan  1 00:00:00 2001 GMT") < 0
    True
    """
    return (ssl.cert_time_to_seconds(not_after) - time.time()) / 86400 if not_after else 0.0


def explain(error: OSError) -> str:
    """Return in words what stands between this site and the server, and the way out."""
    if isinstance(error, socket.gaierror):
        return "the server's name is not known here; ask the network's administrator for DNS, or check the address in site.toml"
    if isinstance(error, ssl.SSLCertVerificationError):
        if "expired" in str(error):
            return "the server's certificate has expired (or this clock is wrong); the server renews it"
        if "not yet valid" in str(error):
            return "the server's certificate is not valid yet: set this clock (NTP), or ask the server's administrator about theirs"
        if "mismatch" in str(error) or "not valid for" in str(error):
            return "the certificate is for another name than the address in site.toml; ask for a new kit"
        return "the certificate is not of the consortium's authority; a proxy may open TLS: ask for an exception, or ask for a new kit"
    if isinstance(error, ssl.SSLError):
        return "what answers there does not speak TLS; check the address in site.toml"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens at the server's port; is the server up, and is the port right?"
    if isinstance(error, TimeoutError):
        return "no answer; open the firewall for outgoing TCP to the address in site.toml"
    return "the line to the server broke; the daemon goes on trying"


def why_refused(address: str, authority: Path) -> str:
    """Return in words why the server may have refused this site's SuperNode."""
    try:
        answer = ask_server(address, authority)
    except OSError as error:
        return explain(error)
    if abs(answer.skew_s) > LARGEST_SKEW_S:
        return f"this clock is {answer.skew_s:+.0f} s off the server's; set the clock (NTP)"
    return "this site is not registered, or was revoked, or its last connection has not run out yet (one minute)"


def _skew(date: str | None) -> float:
    if not date:
        return 0.0
    try:
        there = email.utils.parsedate_to_datetime(date)
    except ValueError:
        return 0.0
    return (datetime.datetime.now(datetime.UTC) - there).total_seconds()
