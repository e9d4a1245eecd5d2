"""The line between hospitals and door, recorded: as it travels (a relay of bytes), and opened with the server's own key behind it.

sites -> Relay (bytes as they travel) -> Relay (TLS ended and begun anew: the same bytes in plain) -> door
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from pathlib import Path


class Relay:
    """Listens on a port of this machine, carries each connection on to `target`, and keeps what passed in either direction.

    Parameters
    ----------
    target : int
        Port on 127.0.0.1.
    accept, dial : ssl.SSLContext, optional
        TLS towards the caller and towards the target; None passes bytes through.
    """

    def __init__(self, target: int, *, accept: ssl.SSLContext | None = None, dial: ssl.SSLContext | None = None) -> None:
        self.target, self.accept, self.dial = target, accept, dial
        self.streams: list[bytearray] = []
        self.callers = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def holds(self, needle: bytes) -> bool:
        """Whether `needle` passed, in any letter case."""
        return any(needle.lower() in bytes(stream).lower() for stream in self.streams)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                self.callers += 1
                threading.Thread(target=self._carry, args=(raw,), daemon=True).start()

    def _carry(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            near = stack.enter_context(stack.enter_context(raw) if self.accept is None else self.accept.wrap_socket(raw, server_side=True))
            far = stack.enter_context(socket.create_connection(("127.0.0.1", self.target)))
            onward = far if self.dial is None else stack.enter_context(self.dial.wrap_socket(far, server_hostname="127.0.0.1"))
            self._pump(near, onward)

    def _pump(self, near: socket.socket, onward: socket.socket) -> None:
        """Carry what comes from either side to the other, until one of them ends. One thread: a TLS connection is not made for two."""
        streams, other = {near: bytearray(), onward: bytearray()}, {near: onward, onward: near}
        self.streams += streams.values()
        while True:
            held = [side for side in other if isinstance(side, ssl.SSLSocket) and side.pending()]
            for source in held or select.select(list(other), [], [])[0]:
                source.setblocking(False)
                try:
                    data = source.recv(1 << 16)
                except (BlockingIOError, ssl.SSLWantReadError):  # a part of a TLS record, or a session ticket
                    continue
                finally:
                    source.setblocking(True)
                if not data:
                    return
                streams[source] += data
                other[source].sendall(data)


def opened(secrets: Path, target: int) -> Relay:
    """A relay that speaks TLS on both sides with the server's own certificate and key, and so sees what is said."""
    accept = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accept.load_cert_chain(secrets / "server.crt", secrets / "server.key")
    accept.set_alpn_protocols(["http/1.1"])
    dial = ssl.create_default_context(cafile=str(secrets / "ca.crt"))
    dial.set_alpn_protocols(["http/1.1"])
    return Relay(target, accept=accept, dial=dial)


def files_with(folder: Path, needle: bytes) -> list[str]:
    """Files under `folder` (databases and their journals included) whose content, name or path below `folder` holds `needle`."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if needle.lower() in name.lower().encode() or (path.is_file() and needle.lower() in path.read_bytes().lower()):
            found.append(name)
    return found
