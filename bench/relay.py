"""A relay that counts: TCP connections from sites to the server's door go through it, byte for byte, as they are on the wire (TLS included)."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass

BLOCK = 1 << 16


@dataclass(frozen=True)
class Crossed:
    """Bytes that have crossed so far."""

    up: int
    down: int

    def __sub__(self, before: Crossed) -> Crossed:
        return Crossed(self.up - before.up, self.down - before.down)


class Relay:
    """Listen on a free port of loopback and pass everything on to `port`, until closed. Two threads a connection."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._counts = {"up": 0, "down": 0}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def crossed(self) -> Crossed:
        """Return the bytes from sites (up) and to sites (down) so far."""
        with self._lock:
            return Crossed(**self._counts)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        # A closed listener does not wake a thread that waits in accept on every system; shutting it down does on Linux.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=10)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            pumps = [threading.Thread(target=self._pump, args=way, daemon=True) for way in ((near, far, "up"), (far, near, "down"))]
            for pump in pumps:
                pump.start()
            threading.Thread(target=_close_after, args=(pumps, near, far), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        with suppress(OSError):
            while data := source.recv(BLOCK):
                sink.sendall(data)
                with self._lock:
                    self._counts[way] += len(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _close_after(pumps: list[threading.Thread], *ends: socket.socket) -> None:
    for pump in pumps:
        pump.join()
    for end in ends:
        end.close()
