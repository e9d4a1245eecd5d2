"""The SuperNode's process: a broken line is dialled again, a wrong certificate or a dead thread of Flower's ends the process."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from client.identity import make_site
from client.node import GAVE_UP, is_broken_line
from server.identity import make_identities
from shared_models.signing import write_private

ROOT = Path(__file__).parents[2]


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (caused(httpx.ConnectTimeout("_ssl.c:989: The handshake operation timed out"), TimeoutError()), True),
        (caused(httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING]"), ssl.SSLEOFError()), True),
        (caused(httpx.ReadError("ssl"), ConnectionResetError()), True),
        (caused(httpx.ConnectError("ssl"), caused(OSError(), BrokenPipeError())), True),
        (caused(httpx.ConnectError("certificate verify failed"), ssl.SSLCertVerificationError()), False),
        (caused(httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER]"), ssl.SSLError()), False),
        (httpx.ConnectError("nothing is known"), False),
    ],
)
def test_a_broken_line_is_told_from_a_wrong_certificate(error: Exception, broken: bool) -> None:
    assert is_broken_line(error) is broken


def test_a_circle_of_causes_ends() -> None:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    assert not is_broken_line(one)


def test_flowers_loop_looks_again_after_a_second() -> None:
    import inspect

    from flwr.supernode import start_client_internal

    from client.node import LOOK_S, _Impatient

    assert "time.sleep(3)" in inspect.getsource(start_client_internal), "Flower waits in another way now: look at it again"
    began = time.monotonic()
    _Impatient().sleep(3.0)
    _Impatient().sleep(0.01)
    assert LOOK_S <= time.monotonic() - began < 2.5
    assert abs(_Impatient().time() - time.time()) < 1.0


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen]]:
    make_site(tmp_path / "site", "a")
    make_identities(tmp_path / "ours", name="ours", hosts=["localhost"])
    write_private(tmp_path / "superexec.secret", b"0" * 64)
    processes: list[subprocess.Popen] = []

    def start(port: int) -> subprocess.Popen:
        secrets = tmp_path / "site" / "secrets"
        options = {
            "--superlink": f"localhost:{port}",
            "--root-certificates": str(tmp_path / "ours" / "ca.crt"),
            "--auth-supernode-private-key": str(secrets / "node.key"),
            "--host": "127.0.0.1",
            "--port": str(_free_port()),
            "--isolation": "process",
            "--superexec-auth-secret-file": str(tmp_path / "superexec.secret"),
        }
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLWR_HOME": str(tmp_path / "flwr")}
        with open(tmp_path / "node.log", "ab") as output:
            command = [sys.executable, "-m", "client.node", *(word for pair in options.items() for word in pair)]
            processes.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_line_that_breaks_inside_the_handshake_is_dialled_again(started: Callable[[int], subprocess.Popen], tmp_path: Path) -> None:
    dialled: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(120)
        process = started(listener.getsockname()[1])
        while len(dialled) < 3:
            line, _ = listener.accept()
            line.recv(1000)  # the hello, to which there is no answer
            line.close()
            dialled.append(time.monotonic())
    assert process.poll() is None, (tmp_path / "node.log").read_text()


def test_a_wrong_certificate_ends_the_process(started: Callable[[int], subprocess.Popen], tmp_path: Path) -> None:
    """Flower's own program would stay: its interface runs in a thread that nobody ends."""
    make_identities(tmp_path / "other", name="other", hosts=["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "other" / "server.crt", tmp_path / "other" / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            try:
                while True:
                    line, _ = listener.accept()
                    with line:
                        try:
                            context.wrap_socket(line, server_side=True).close()
                        except OSError:
                            continue
            except OSError:
                return

        threading.Thread(target=answer, daemon=True).start()
        assert started(listener.getsockname()[1]).wait(timeout=120) == GAVE_UP
        listener.shutdown(socket.SHUT_RDWR)
    assert "certificate" in (tmp_path / "node.log").read_text()


def test_an_exception_in_a_thread_of_flowers_ends_the_process() -> None:
    script = (
        "import sys, threading, time\nimport client.node as node\nimport flwr.supernode.cli.flower_supernode as flower\n"
        "def serve():\n    threading.Thread(target=lambda: 1 / 0).start()\n    time.sleep(100)\n"
        "sys.modules['flwr.supernode.cli.flower_supernode'].flower_supernode = serve\nnode.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == GAVE_UP
    assert "ZeroDivisionError" in done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
