"""A TCP relay between a site and the door that a test can hold, reset, slow down, or make forget a connection. It sees only TLS."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

BLOCK = 1 << 16
LOOK_S = 0.1


@dataclass(eq=False)
class _Link:
    """A connection: the site's end, the door's end, and whether a middlebox has forgotten it."""

    near: socket.socket
    far: socket.socket
    forgotten: bool = False


@dataclass
class Relay:
    """Carry connections from a port of its own to `upstream`, in threads; as a context it ends all of them.

    Parameters
    ----------
    upstream : tuple of str and int
        The door.
    """

    upstream: tuple[str, int]
    delay_s: float = 0.0
    carried: int = 0
    """Bytes that have passed, both ways."""
    _links: set[_Link] = field(default_factory=set)
    _flows: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _resets: bool = False
    _forgets: bool = False

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.settimeout(LOOK_S)
        self._flows.set()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port to dial."""
        return self._listener.getsockname()[1]

    def hold(self) -> None:
        """Carry nothing more, either way; what comes waits. A cut cable: TCP itself goes on when it is mended."""
        self._flows.clear()

    def delay(self, seconds: float) -> None:
        """Let every block wait for `seconds`."""
        self.delay_s = seconds

    def reset(self) -> None:
        """Answer every connection, present and new, with a TCP reset."""
        self._resets = True
        for link in list(self._links):
            _break(link.near)
            _break(link.far)

    def forget(self) -> None:
        """Swallow what present and new connections send, for ever, and tell neither end: half-open, as after a firewall's restart."""
        self._forgets = True
        for link in list(self._links):
            link.forgotten = True

    def heal(self) -> None:
        """Carry again. Connections that were forgotten stay forgotten."""
        self.delay_s, self._resets, self._forgets = 0.0, False, False
        self._flows.set()

    def close(self) -> None:
        """End the relay and every connection."""
        self._ended.set()
        self._flows.set()
        self._thread.join(timeout=5)
        self._listener.close()
        for link in list(self._links):
            _break(link.near)
            _break(link.far)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        self._flows.wait()
        try:
            far = socket.create_connection(self.upstream, timeout=10)
        except OSError:
            _break(near)
            return
        far.settimeout(None)
        link = _Link(near, far, forgotten=self._forgets)
        if self._resets or self._ended.is_set():
            _break(near)
            _break(far)
            return
        self._links.add(link)
        back = threading.Thread(target=self._pump, args=(link, far, near), daemon=True)
        back.start()
        self._pump(link, near, far)
        back.join()
        self._links.discard(link)
        near.close()
        far.close()

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BLOCK):
                if self.delay_s:
                    time.sleep(self.delay_s)
                self._flows.wait()
                if not link.forgotten:
                    sink.sendall(data)
                    self.carried += len(data)
        if not link.forgotten:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


def _break(end: socket.socket) -> None:
    """Close with a reset in place of a farewell, and wake whoever reads it."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RD)  # a close alone would leave a blocked reader waiting
    with contextlib.suppress(OSError):
        end.close()
