"""The C-STORE receiver: a PACS or a scanner pushes studies into the inbox (PS3.4 annex B).

Let in are the callers that the site names, calling it by its own title. Every storage class and transfer syntax is taken as it comes,
bytes unchanged; what is not CT is named and set aside by the preparation. Success is answered when the file is on the disk.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # pyright: ignore[reportAttributeAccessIssue]

from client.cases.identity import Pseudonyms, site_secret
from client.intake.landing import Landing
from client.intake.settings import Receiver, Tls
from client.site import Site
from client.watch import stop_on_signal
from shared_models.core.errors import BadInput
from shared_models.core.supervision import event_log

log = logging.getLogger("fedild.receiver")

GREETING_S = 5.0
STORED, OUT_OF_RESOURCES, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
"""Statuses of C-STORE (PS3.4 table B.2-1)."""


@contextmanager
def receiving(receiver: Receiver, landing: Landing, folder: Path) -> Iterator[Any]:
    """Listen for the body; everything that arrives lands in the inbox. Yields pynetdicom's server.

    Parameters
    ----------
    receiver : Receiver
        Title, callers, address and certificates.
    landing : Landing
        Where files go.
    folder : Path
        From which the paths of certificates count.

    Raises
    ------
    BadInput
        The port is taken, or a certificate cannot be read.
    """
    entity = AE(ae_title=receiver.title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(receiver.callers)
    entity.maximum_associations = receiver.associations
    entity.maximum_pdu_size = 1 << 20
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(Verification)
    sizes: dict[int, int] = {}

    def store(event: evt.Event) -> int:
        sizes[id(event.assoc)] = 0
        try:
            landing.put(event.encoded_dataset())
        except BadInput as error:
            log.warning("refused an object: %s", error.rule)
            return NOT_UNDERSTOOD
        except OSError as error:
            log.error("not stored: %s", errno.errorcode.get(error.errno or 0, "OSError"))
            return OUT_OF_RESOURCES
        return STORED

    def arrived(event: evt.Event) -> None:
        # an object is held in memory until it is whole: one that never ends is cut off
        sizes[id(event.assoc)] = sizes.get(id(event.assoc), 0) + len(event.data)
        if sizes[id(event.assoc)] > receiver.max_file_mb << 20:
            log.error("an object of more than %s MB: the connection is cut", receiver.max_file_mb)
            if event.assoc.dul.socket is not None:
                event.assoc.dul.socket.close()

    def ended(event: evt.Event) -> None:
        sizes.pop(id(event.assoc), None)

    def turned_away(event: evt.Event) -> None:
        del event  # whatever it called itself is not for our log
        log.warning("a caller that is not on the list, or does not know our title, was turned away")

    handlers = [
        *sockets(),
        (evt.EVT_C_STORE, store),
        (evt.EVT_C_ECHO, lambda event: STORED),
        (evt.EVT_DATA_RECV, arrived),
        (evt.EVT_CONN_CLOSE, ended),
        (evt.EVT_REJECTED, turned_away),
    ]
    context = None if receiver.tls is None else tls_context(receiver.tls, folder, server=True)
    try:
        server = entity.start_server((receiver.host, receiver.port), block=False, evt_handlers=handlers, ssl_context=context)  # pyright: ignore
    except OSError as error:
        raise BadInput("the receiver's port must be free", value=f"{receiver.host}:{receiver.port}, {error.strerror}") from None
    try:
        yield server
    finally:
        if server is not None:
            server.shutdown()
            for association in server.active_associations:
                association.abort()


def sockets() -> list[tuple[Any, Callable[[evt.Event], None]]]:
    """Return handlers that send small packets at once (waiting for acknowledgements costs 40 ms a file) and close every socket at its end.

    pynetdicom 3.0 leaves a socket open whose other end has gone first.
    """
    opened: dict[int, socket.socket] = {}

    def open_(event: evt.Event) -> None:
        line = event.assoc.dul.socket.socket if event.assoc.dul.socket is not None else None
        if line is not None:
            opened[id(event.assoc)] = line
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(event: evt.Event) -> None:
        one = opened.pop(id(event.assoc), None)
        if one is not None:
            one.close()

    return [(evt.EVT_CONN_OPEN, open_), (evt.EVT_CONN_CLOSE, close)]


class _Patient(ssl.SSLContext):
    """A context of a server that waits some seconds for a caller's greeting, not for ever: the greeting holds up all other callers."""

    def wrap_socket(self, sock: socket.socket, *arguments: Any, **options: Any) -> ssl.SSLSocket:  # pyright: ignore[reportIncompatibleMethodOverride]
        sock.settimeout(GREETING_S)
        try:
            wrapped = super().wrap_socket(sock, *arguments, **options)
        except OSError:
            sock.close()
            raise
        wrapped.settimeout(None)
        return wrapped


def tls_context(tls: Tls, folder: Path, *, server: bool) -> ssl.SSLContext:
    """Return TLS 1.2 or newer with certificates on both sides (PS3.15 annex B.12).

    Raises
    ------
    BadInput
        A file is missing or is no certificate or key.
    """
    context = _Patient(ssl.PROTOCOL_TLS_SERVER) if server else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(folder / tls.certificate, folder / tls.key)
        context.load_verify_locations(folder / tls.authority)
    except (OSError, ssl.SSLError) as error:
        raise BadInput("certificate, key and authority must be readable PEM files", value=type(error).__name__) from None
    return context


def receiver_of(site: Site) -> tuple[Receiver, Landing]:
    """Return a site's receiver and where it puts things.

    Raises
    ------
    BadInput
        The site TOML has no ``[receiver]``.
    """
    if site.receiver is None:
        raise BadInput("the site TOML has no [receiver]", remedy='add [receiver] with callers = ["TITLE"]')
    return site.receiver, landing_of(site)


def landing_of(site: Site) -> Landing:
    """Return where retrieved and received objects go at a site."""
    site.workspace.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Landing(site.path(site.site.inbox), Pseudonyms(site_secret(site.workspace)))


def main(arguments: list[str]) -> int:
    """Receive into the inbox of the site folder named in `arguments` until SIGTERM or SIGINT; return the exit code."""
    folder = Path(arguments[0]).resolve()
    os.umask(0o077)
    for handler in event_log(folder / "logs" / "receive.log", "receive").handlers:
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    warnings.simplefilter("ignore")  # they name values of the files, and what is written here goes into a log
    receiver, landing = receiver_of(Site.load(folder / "site.toml"))
    landing.sweep()
    stop = stop_on_signal()
    with receiving(receiver, landing, folder):
        log.info("listening")
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
