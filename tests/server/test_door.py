"""The door on real sockets: what is let through, what is refused without reaching Flower, and what a bad peer can cost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import logging
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from server import door as module
from server.door import Door, listen
from server.folder import Limits
from server.http_head import Answered, read_head
from server.identity import make_authority, make_identities, make_server_certificate

QUICK = Limits(connections=6, per_address=6, head_bytes=4096, head_s=0.6, idle_s=0.6, slowest_bytes=1000, answer_s=2.0, silent_s=1.5, handshake_s=1.0)
BIG = 100 << 20


@dataclass
class Seen:
    requests: list[tuple[str, str, dict[str, str], str, int]] = field(default_factory=list)


def superlink(seen: Seen, folder: Path) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _body(self) -> tuple[str, int]:
            digest, count = hashlib.sha256(), 0
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    digest.update(self.rfile.read(size))
                    count += size
                    self.rfile.readline()
                self.rfile.readline()
            left = int(self.headers.get("Content-Length", 0))
            while left and (data := self.rfile.read(min(left, 1 << 20))):
                digest.update(data)
                count, left = count + len(data), left - len(data)
            return digest.hexdigest(), count

        def _do(self) -> None:
            digest, count = self._body()
            seen.requests.append((self.command, self.path, dict(self.headers), digest, count))
            if self.path == "/v1/fleet/silent":
                time.sleep(3)
            if self.path == "/v1/fleet/breaks":
                self.connection.close()
                return
            self.send_response(200)
            if self.path == "/v1/fleet/chunked":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"5\r\nhello\r\n0\r\n\r\n")
                return
            size = BIG if self.path == "/v1/fleet/pull-object" else 0
            answer = digest.encode()
            self.send_header("Content-Length", str(size or len(answer)))
            self.end_headers()
            if size:
                block = bytes(1 << 20)
                for _ in range(size >> 20):
                    self.wfile.write(block)
            else:
                self.wfile.write(answer)

        do_POST = do_GET = do_PUT = do_DELETE = _do

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


@dataclass
class Place:
    port: int
    folder: Path
    seen: Seen

    def context(self, authority: Path | None = None) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(authority or self.folder / "ca.crt"))

    def http(self, timeout: float = 20) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self.port, context=self.context(), timeout=timeout)

    def tls(self) -> ssl.SSLSocket:
        return self.context().wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=10), server_hostname="localhost")

    def raw(self, data: bytes) -> bytes:
        """Send bytes, return all that comes back until the door closes."""
        with self.tls() as line:
            line.sendall(data)
            answer = b""
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while more := line.recv(65536):
                    answer += more
                    if answer.endswith(b"\r\n\r\n") and b"Content-Length: 0" in answer:
                        break
            return answer


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identities")
    make_identities(folder / "secrets", name="test", hosts=["localhost"])
    return folder / "secrets"


@contextlib.contextmanager
def open_door(folder: Path, seen: Seen, limits: Limits, upstream: int) -> Iterator[Place]:
    door = Door(
        certificate=folder / "server.crt",
        key=folder / "server.key",
        upstream=("127.0.0.1", upstream),
        authority=folder / "ca.crt",
        limits=limits,
        log=logging.getLogger("test-door"),
    )
    listener = listen("127.0.0.1", 0)
    loop = asyncio.new_event_loop()
    task = loop.create_task(door.serve(listener))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield Place(listener.getsockname()[1], folder, seen)
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture
def place(identities: Path) -> Iterator[Place]:
    seen = Seen()
    upstream = superlink(seen, identities)
    try:
        with open_door(identities, seen, QUICK, upstream.server_address[1]) as opened:
            yield opened
    finally:
        upstream.shutdown()
        upstream.server_close()


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/fleet/pull-messages"), ("POST", "/v1/fleet/get-fab"), ("GET", "/health")])
def test_what_a_supernode_needs_passes_with_its_headers(place: Place, method: str, path: str) -> None:
    line = place.http()
    line.request(method, path, body=b"abc" if method == "POST" else None, headers={"flwr-signature": "s", "Connection": "keep-alive"})
    answer = line.getresponse()
    body = answer.read()
    line.close()
    assert answer.status == 200
    assert body.decode() == hashlib.sha256(b"abc" if method == "POST" else b"").hexdigest()
    (seen,) = place.seen.requests
    assert seen[:2] == (method, path)
    assert seen[2]["flwr-signature"] == "s"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/start-run"),
        ("POST", "/v1/control/register-node"),
        ("POST", "/v1/runtime/acquire-task"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
        ("GET", "/v1/fleet/pull-messages"),
        ("PUT", "/v1/fleet/pull-messages"),
        ("POST", "/health"),
        ("POST", "/v1/fleet/"),
        ("POST", "/v1/fleet/a/b"),
        ("POST", "/v1/fleet/../control/start-run"),
        ("POST", "/v1/fleet/..%2fcontrol%2fstart-run"),
        ("POST", "/v1/fleet/%2e%2e/control/start-run"),
        ("POST", "/v1/fleet/pull-messages?x=1"),
        ("POST", "/v1/fleet/pull-messages#x"),
        ("POST", "//v1/fleet/pull-messages"),
        ("POST", "/V1/FLEET/PULL-MESSAGES"),
        ("POST", "http://localhost/v1/fleet/pull-messages"),
        ("CONNECT", "localhost:443"),
        ("OPTIONS", "*"),
    ],
)
def test_everything_else_is_404_and_reaches_nobody(place: Place, method: str, path: str) -> None:
    answer = place.raw(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert not place.seen.requests


POST = b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: +3\r\n\r\nabc",
        POST + b"Content-Length: 0x3\r\n\r\nabc",
        POST + b"Content-Length : 3\r\n\r\nabc",
        POST + b"X: a\r\n folded\r\n\r\n",
        POST + b"X: a\nY: b\r\n\r\n",
        POST + b"X: a\rY: b\r\n\r\n",
        POST + b"no-colon\r\n\r\n",
        POST + b"X: a\x00b\r\n\r\n",
        b"POST  /v1/fleet/pull-messages HTTP/1.1\r\n\r\n",
        b"POST /v1/fleet/pull-messages HTTP/1.1 x\r\n\r\n",
        b"POST /v1/fleet/pull-messages\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(place: Place, data: bytes) -> None:
    answer = place.raw(data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 200" not in answer
    assert not place.seen.requests


@pytest.mark.parametrize("body", [b"zz\r\nabc\r\n0\r\n\r\n", b"3\r\nabcde\r\n0\r\n\r\n", b"-1\r\nabc\r\n0\r\n\r\n", b"3\nabc\r\n0\r\n\r\n"])
def test_bad_chunks_never_become_a_request(place: Place, body: bytes) -> None:
    answer = place.raw(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert b"HTTP/1.1 200" not in answer
    assert not place.seen.requests


def test_chunked_bodies_pass_both_ways(place: Place) -> None:
    answer = place.raw(POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
    assert answer.endswith(hashlib.sha256(b"abcde").hexdigest().encode())
    line = place.http()
    line.request("POST", "/v1/fleet/chunked", body=b"")
    assert line.getresponse().read() == b"hello"
    line.close()


def test_a_kept_connection_carries_many_requests_and_then_is_let_go(place: Place) -> None:
    line = place.http()
    for number in range(20):
        line.request("POST", "/v1/fleet/push-messages", body=str(number).encode())
        assert line.getresponse().read().decode() == hashlib.sha256(str(number).encode()).hexdigest()
    assert line.sock is not None
    line.sock.settimeout(5)
    began = time.monotonic()
    assert line.sock.recv(1) == b""  # silent: the door closes
    assert QUICK.silent_s - 0.3 < time.monotonic() - began < 4
    line.close()


def test_big_bodies_stream_both_ways_at_the_memory_of_a_block(place: Place) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    block = bytes(range(256)) * 4096
    count = BIG // len(block)

    def blocks() -> Iterator[bytes]:
        for _ in range(count):
            yield block

    line = place.http(60)
    line.request("POST", "/v1/fleet/push-object", body=blocks(), headers={"Content-Length": str(BIG)})
    answer = line.getresponse()
    answer.read()
    assert answer.status == 200
    assert place.seen.requests[0][4] == BIG
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(block)
    assert place.seen.requests[0][3] == digest.hexdigest()
    line.request("POST", "/v1/fleet/pull-object", body=b"")
    answer, got = line.getresponse(), 0
    while data := answer.read(1 << 20):
        got += len(data)
    line.close()
    assert got == BIG
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 40, "neither 100 MB body may be held in memory"


@pytest.mark.parametrize(
    ("drip", "status"),
    [
        ([b"POST /v1"], b"408"),  # a head that never ends
        ([b"P", *[b"X"] * 12], b"408"),  # one byte at a time
        ([POST + b"Content-Length: 9000\r\n\r\n", *[b"x"] * 12], b"408"),  # a body that drips
        ([POST + b"Content-Length: 9000\r\n\r\nabc"], b"408"),  # a body that stops
    ],
)
def test_a_slow_peer_is_let_go(place: Place, drip: list[bytes], status: bytes) -> None:
    began = time.monotonic()
    with place.tls() as line:
        with contextlib.suppress(OSError):
            for part in drip:
                line.sendall(part)
                time.sleep(0.1)
        answer = line.recv(100)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert time.monotonic() - began < 4


def test_a_slow_body_that_goes_on_is_waited_for(place: Place) -> None:
    with place.tls() as line:
        line.sendall(POST + b"Content-Length: 16000\r\n\r\n")
        for _ in range(16):
            line.sendall(bytes(1000))
            time.sleep(0.1)  # 1.6 s in all: longer than the idle limit, but never idle
        assert line.recv(100).startswith(b"HTTP/1.1 200")


def test_a_large_head_is_refused(place: Place) -> None:
    assert place.raw(POST + b"X: " + b"a" * 5000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
    assert place.raw(POST + b"X: " + b"a" * 400_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
    assert not place.seen.requests


def test_plain_text_is_refused(place: Place) -> None:
    with socket.create_connection(("127.0.0.1", place.port), timeout=5) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = line.recv(1000)
    assert b"HTTP" not in answer
    assert not place.seen.requests


def test_old_tls_is_refused(place: Place) -> None:
    context = place.context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(("127.0.0.1", place.port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="localhost"),
    ):
        pass


@pytest.mark.parametrize("case", ["other authority", "other name", "expired"])
def test_a_client_notices_a_wrong_certificate(case: str, tmp_path: Path) -> None:
    make_identities(tmp_path, name="test", hosts=["localhost"])
    make_authority(tmp_path / "other", name="other")
    authority = tmp_path / "other" / "ca.crt" if case == "other authority" else tmp_path / "ca.crt"
    if case == "expired":
        make_server_certificate_in_the_past(tmp_path)
    with open_door(tmp_path, Seen(), QUICK, 1) as place:
        name = "wrong.example" if case == "other name" else "localhost"
        began = time.monotonic()
        with (
            pytest.raises(ssl.SSLCertVerificationError) as found,
            socket.create_connection(("127.0.0.1", place.port), timeout=5) as raw,
            place.context(authority).wrap_socket(raw, server_hostname=name),
        ):
            pass
    assert {"other authority": "self-signed", "other name": "Hostname mismatch", "expired": "expired"}[case] in str(
        found.value
    ) or "unable to get local issuer" in str(found.value)
    assert time.monotonic() - began < 10


def make_server_certificate_in_the_past(folder: Path) -> None:
    from server import identity

    dated = identity._dated
    with pytest.MonkeyPatch.context() as patch:
        import datetime

        then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
        patch.setattr(identity, "_dated", lambda days: _moved(dated(days), then))
        make_server_certificate(folder, hosts=["localhost"], days=1)


def _moved(builder, then):
    import datetime

    from cryptography import x509

    return x509.CertificateBuilder().serial_number(1).not_valid_before(then).not_valid_after(then + datetime.timedelta(days=1))


def test_no_more_connections_than_allowed_and_places_are_given_back(place: Place) -> None:
    lines = [place.tls() for _ in range(QUICK.per_address)]
    with pytest.raises((ConnectionError, ssl.SSLError)):
        place.tls()
    for line in lines:
        line.close()
    until = time.monotonic() + 5
    while True:
        try:
            with place.tls() as line:
                line.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert line.recv(100).startswith(b"HTTP/1.1 200")
            break
        except (ConnectionError, ssl.SSLError):
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_peer_that_stays_in_the_handshake_gives_its_place_back(place: Place) -> None:
    idle = [socket.create_connection(("127.0.0.1", place.port), timeout=5) for _ in range(QUICK.per_address)]
    time.sleep(0.2)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        place.tls()
    time.sleep(QUICK.handshake_s + 0.5)
    place.tls().close()
    for line in idle:
        line.close()


def test_one_stuck_peer_keeps_nobody_waiting(place: Place) -> None:
    with place.tls() as stuck, ThreadPoolExecutor(4) as pool:
        stuck.sendall(POST + b"Content-Length: 9000\r\n\r\n")

        def ask(_: int) -> int:
            line = place.http()
            line.request("GET", "/health")
            status = line.getresponse().status
            line.close()
            return status

        began = time.monotonic()
        assert list(pool.map(ask, range(4))) == [200] * 4
        assert time.monotonic() - began < QUICK.idle_s + 3


def test_a_superlink_that_is_away_silent_or_breaks_off_is_named(place: Place, identities: Path) -> None:
    assert place.raw(b"POST /v1/fleet/breaks HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 502 ")
    assert place.raw(b"POST /v1/fleet/silent HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 504 ")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    with open_door(identities, Seen(), QUICK, closed) as away:
        assert away.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 503 ")


def test_the_superlink_must_be_ours(tmp_path: Path, identities: Path) -> None:
    make_identities(tmp_path, name="impostor", hosts=["localhost"])
    seen = Seen()
    impostor = superlink(seen, tmp_path)
    try:
        with open_door(identities, seen, QUICK, impostor.server_address[1]) as place:
            assert place.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 503 ")
    finally:
        impostor.shutdown()
        impostor.server_close()
    assert not seen.requests


def test_heads_are_read_narrowly() -> None:
    head = read_head(b"POST /v1/fleet/x HTTP/1.1\r\nA: 1\r\nContent-Length: 7\r\n\r\n", most=1000)
    assert (head.first, head.length, head.until_close) == (b"POST /v1/fleet/x HTTP/1.1", 7, False)
    assert read_head(b"HTTP/1.1 200 OK\r\n\r\n", most=1000, response=True).until_close
    with pytest.raises(Answered):
        read_head(b"HTTP/9.1 200 OK\r\n\r\n", most=1000, response=True)


def knock(place: Place, source: str = "127.0.0.1", data: bytes = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") -> bytes:
    """Ask from an address of this machine; return the first line, or nothing where the door closes without a word."""
    try:
        raw = socket.create_connection(("127.0.0.1", place.port), timeout=5, source_address=(source, 0))
        with raw, place.context().wrap_socket(raw, server_hostname="localhost") as line:
            line.sendall(data)
            return line.recv(4096).partition(b"\r\n")[0]
    except (ConnectionError, ssl.SSLError):
        return b""


def knock_until(place: Place, wanted: bytes, seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not knock(place).startswith(wanted):
        assert time.monotonic() < until
        time.sleep(0.05)


OK, NOT_FOUND = b"HTTP/1.1 200", b"HTTP/1.1 404"
WRONG = b"GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def limited(identities: Path, **limits: float) -> Iterator[Place]:
    seen = Seen()
    upstream = superlink(seen, identities)
    try:
        with open_door(identities, seen, QUICK.model_copy(update=limits), upstream.server_address[1]) as place:
            yield place
    finally:
        upstream.shutdown()
        upstream.server_close()


def test_an_address_that_connects_too_often_waits_and_no_other_does(identities: Path) -> None:
    with limited(identities, new_per_s=0.5, new_burst=3) as place:
        assert [knock(place)[:12] for _ in range(5)] == [OK, OK, OK, b"", b""]
        assert knock(place, "127.0.0.2").startswith(OK)
        knock_until(place, OK)


def test_an_address_that_asks_for_what_is_refused_waits_and_no_other_does(identities: Path) -> None:
    with limited(identities, refused_per_s=0.5, refused_burst=3) as place:
        assert [knock(place, data=WRONG)[:12] for _ in range(3)] == [NOT_FOUND] * 3
        assert knock(place) == b"", "now it must wait, whatever it asks"
        assert knock(place, "127.0.0.2").startswith(OK)
        knock_until(place, OK)
        assert {path for _, path, *_ in place.seen.requests} == {"/health"}


def test_failed_handshakes_count(identities: Path) -> None:
    with limited(identities, refused_per_s=0.01, refused_burst=3) as place:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", place.port), timeout=5) as line:
                line.sendall(b"GET / HTTP/1.1\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    while line.recv(1000):
                        pass
        assert knock(place) == b""
        assert knock(place, "127.0.0.2").startswith(OK)


def test_what_is_the_servers_own_fault_costs_a_peer_nothing(identities: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    with open_door(identities, Seen(), QUICK.model_copy(update={"refused_per_s": 0.01, "refused_burst": 2}), closed) as place:
        assert [knock(place)[:12] for _ in range(5)] == [b"HTTP/1.1 503"] * 5


def test_a_renewed_certificate_is_shown_without_a_restart_and_touches_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELOAD_S", 0.05)
    make_identities(tmp_path, name="test", hosts=["localhost"])

    def shown(place: Place) -> bytes | None:
        with place.tls() as line:
            return line.getpeercert(binary_form=True)

    with limited(tmp_path) as place:
        before = shown(place)
        kept = place.http()
        kept.request("GET", "/health")
        assert kept.getresponse().read() is not None
        line = kept.sock
        key = (tmp_path / "server.key").read_bytes()
        make_server_certificate(tmp_path, hosts=["localhost"])
        until = time.monotonic() + 5
        while shown(place) == before:
            assert time.monotonic() < until
            time.sleep(0.05)
        kept.request("GET", "/health")
        assert kept.getresponse().status == 200
        assert kept.sock is line, "the connection that stood still stands"
        kept.close()
        renewed = shown(place)
        (tmp_path / "server.key").write_bytes(key)  # a pair that does not fit: the last good one is shown on
        time.sleep(0.3)
        assert shown(place) == renewed
