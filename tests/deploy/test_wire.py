"""The recorder that the deployment tests lean on: it finds what is sent in plain, and nothing of it once it travels under TLS."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from server.identity import make_identities
from tests.deploy.wire import Relay, files_with, opened

CANARY = b"canary".ljust(64, b"z")
LARGE = CANARY + bytes(3_000_000) + CANARY[::-1]


class _Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identities") / "secrets"
    make_identities(folder, name="test", hosts=["localhost"])
    return folder


def _server(secrets: Path | None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    if secrets is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(secrets / "server.crt", secrets / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def _say(line: http.client.HTTPConnection, body: bytes) -> None:
    line.request("POST", "/", body=body)
    assert line.getresponse().read() == body
    line.close()


def test_what_is_sent_in_plain_is_found(tmp_path: Path) -> None:
    servers = _server(None)
    relay = Relay(next(servers))
    _say(http.client.HTTPConnection("127.0.0.1", relay.port, timeout=20), LARGE)
    assert relay.holds(CANARY.upper())
    assert relay.callers == 1
    relay.close()
    next(servers, None)


def test_under_tls_it_is_found_behind_the_key_alone(secrets: Path) -> None:
    servers = _server(secrets)
    plain = opened(secrets, next(servers))
    sealed = Relay(plain.port)
    trusted = ssl.create_default_context(cafile=str(secrets / "ca.crt"))
    _say(http.client.HTTPSConnection("127.0.0.1", sealed.port, timeout=20, context=trusted), LARGE)
    assert [sum(part in bytes(stream) for stream in plain.streams) for part in (CANARY, CANARY[::-1])] == [2, 2]
    assert not sealed.holds(CANARY)
    assert sum(map(len, sealed.streams)) > sum(map(len, plain.streams)) > 2 * len(LARGE)
    sealed.close()
    plain.close()
    next(servers, None)


def test_a_caller_without_the_authority_says_nothing(secrets: Path) -> None:
    servers = _server(secrets)
    plain = opened(secrets, next(servers))
    with pytest.raises(ssl.SSLCertVerificationError):
        _say(http.client.HTTPSConnection("localhost", plain.port, timeout=20, context=ssl.create_default_context()), CANARY)
    assert plain.streams == []
    plain.close()
    next(servers, None)


def test_files_are_searched_by_content_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "a" / "Doe").mkdir(parents=True)
    (tmp_path / "a" / "state.db-wal").write_bytes(b"\0\xff DOE \0")
    (tmp_path / "b").write_bytes(b"nobody")
    assert files_with(tmp_path, b"doe") == ["a/Doe", "a/state.db-wal"]
    assert files_with(tmp_path, b"body") == ["b"]
