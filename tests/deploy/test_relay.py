"""The relay does to a connection what it says: the faults of the network are real ones."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.deploy.relay import Relay


@pytest.fixture
def relay() -> Iterator[Relay]:
    """In front of a server that sends back whatever it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def echo(line: socket.socket) -> None:
        try:
            while data := line.recv(1000):
                line.sendall(data)
        except OSError:
            return
        finally:
            line.close()

    def serve() -> None:
        try:
            while True:
                threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    with Relay(listener.getsockname()) as relay:
        yield relay
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def dial(relay: Relay, *, timeout_s: float = 10.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=timeout_s)


def said(line: socket.socket, text: bytes) -> bytes:
    line.sendall(text)
    return line.recv(100)


def test_it_carries_both_ways_and_counts(relay: Relay) -> None:
    with dial(relay) as line:
        assert said(line, b"hello") == b"hello"
        assert said(line, b"again") == b"again"
        assert relay.carried >= 15  # the last block is counted once it has been sent


def test_held_bytes_come_when_the_cable_is_mended(relay: Relay) -> None:
    with dial(relay) as line:
        assert said(line, b"a") == b"a"
        relay.hold()
        line.settimeout(0.5)
        with pytest.raises(TimeoutError):
            said(line, b"b")
        relay.heal()
        line.settimeout(10)
        assert line.recv(100) == b"b"


def test_a_reset_breaks_old_and_new_lines(relay: Relay) -> None:
    with dial(relay) as line:
        assert said(line, b"a") == b"a"
        relay.reset()
        with pytest.raises(ConnectionError):
            if said(line, b"b") == b"":
                raise ConnectionResetError
    with pytest.raises(ConnectionError), dial(relay) as line:
        if said(line, b"c") == b"":
            raise ConnectionResetError
    relay.heal()
    with dial(relay) as line:
        assert said(line, b"d") == b"d"


def test_a_delay_delays(relay: Relay) -> None:
    with dial(relay) as line:
        assert said(line, b"a") == b"a"
        relay.delay(0.2)
        began = time.monotonic()
        assert said(line, b"b") == b"b"
        assert time.monotonic() - began >= 0.4


def test_a_forgotten_line_stays_silent_for_ever_and_a_new_one_works(relay: Relay) -> None:
    with dial(relay, timeout_s=0.5) as line:
        assert said(line, b"a") == b"a"
        relay.forget()
        with pytest.raises(TimeoutError):
            said(line, b"b")
        relay.heal()
        with pytest.raises(TimeoutError):
            said(line, b"c")
        with dial(relay) as another:
            assert said(another, b"d") == b"d"
