"""A thousand connections to the door's process, in every bad manner: its handles and its memory stay where they were."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.folder import init_folder, open_folder
from sim.deployment import free_ports

ROOT = Path(__file__).parents[2]
CONNECTS = 1000
MEMORY_KB = 6 * 1024
"""What the allocator may keep; a connection that were held would cost some 50 KB."""


@dataclass
class Process:
    pid: int
    port: int
    authority: Path

    def handles(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def resident_kb(self) -> int:
        line = next(line for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1])

    def health(self) -> int:
        line = http.client.HTTPSConnection("localhost", self.port, context=ssl.create_default_context(cafile=str(self.authority)), timeout=20)
        try:
            line.request("GET", "/health")
            answer = line.getresponse()
            answer.read()  # an answer that is not read keeps its socket
            return answer.status
        finally:
            line.close()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Process]:
    port, fleet = free_ports(2)
    init_folder(tmp_path / "s", name="test", address=f"localhost:{port}", listen_host="127.0.0.1", listen_port=port, fleet_port=fleet)
    server = open_folder(tmp_path / "s")
    process = subprocess.Popen(
        [sys.executable, "-m", "server.door", str(server.path)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL
    )
    door = Process(process.pid, port, server.secrets / "ca.crt")
    try:
        _until(lambda: _answers(door), "the door must open")
        yield door
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_thousand_connects_leave_nothing_behind(door: Process) -> None:
    for number in range(50):
        _connect(door, number)  # what is loaded once is loaded now
    _until(lambda: door.handles() <= handles_at_rest(door), "the warm-up must end")
    handles, memory = door.handles(), door.resident_kb()
    for number in range(CONNECTS):
        _connect(door, number)
    _until(lambda: door.handles() <= handles, "every connection must be let go")
    assert door.resident_kb() - memory < MEMORY_KB
    _until(lambda: _answers(door), "the SuperLink is away, the door is not")  # one that limits rates may say no for a while


def handles_at_rest(door: Process) -> int:
    """Handles when no connection is open: those that are no sockets, and the listening one with the loop's own pair."""
    kinds = [str(path.readlink()) for path in Path(f"/proc/{door.pid}/fd").iterdir() if path.is_symlink()]
    return sum(not kind.startswith("socket:") for kind in kinds) + 3


def _connect(door: Process, number: int) -> None:
    """One connection: closed at once, reset, half a hello, plain text, TLS without a word, or a request."""
    manner = number % 6
    with contextlib.suppress(OSError, http.client.HTTPException):
        if manner == 5:
            door.health()
            return
        line = socket.create_connection(("127.0.0.1", door.port), timeout=20)
        with line:
            if manner == 1:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif manner == 2:
                line.sendall(b"\x16\x03\x01\x02\x00")
            elif manner == 3:
                line.sendall(b"GET /health HTTP/1.1\r\n\r\n")
                line.recv(100)
            elif manner == 4:
                ssl.create_default_context(cafile=str(door.authority)).wrap_socket(line, server_hostname="localhost").close()


def _answers(door: Process) -> bool:
    try:
        return door.health() == 503
    except OSError:
        return False


def _until(what, why: str) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until, why
        time.sleep(0.1)
