"""The door: the one port that hospitals reach. It speaks TLS and lets through what a SuperNode needs, and nothing else.

Flower serves its control interface (start a run, register a node: arbitrary code at every site) without asking who calls, on the same port
as the interface for SuperNodes. So the SuperLink listens on loopback and this proxy forwards

    POST /v1/fleet/<word>     a SuperNode's calls; Flower checks each signature against the registered keys
    GET  /health              for `fedild site doctor`

and answers 404 to everything else without forwarding a byte. Requests are read by RFC 9112 in its narrow form (`http_head`): what two
programs could read in two ways (two lengths, folded headers, a bare line feed) is refused, so nothing can be smuggled past. Bodies of any
size stream through at the memory of one block (`http_body`). An address that connects too often, or asks too often for what is refused,
waits (`rates`). A renewed certificate is shown to the next peer; no connection that stands is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
import socket
import ssl
import sys
import time
from collections import Counter
from pathlib import Path

from server.folder import Limits, ServerFolder, open_folder
from server.http_body import BLOCK, carry
from server.http_head import REASONS, Answered, Closed, Head, read_head
from server.rates import Buckets
from shared_models.core.events import event_log

ALLOWED = re.compile(rb"(?:POST /v1/fleet/[a-z0-9-]{1,64}|GET /health) HTTP/1\.1")
UPSTREAM_S = 5.0
"""Seconds to connect to the SuperLink on this machine."""
RELOAD_S = 2.0
"""Seconds between two looks whether the certificate was renewed."""
BLAMELESS = (502, 503, 504)
"""Answers that are the server's own fault: they cost a peer nothing."""


class Door:
    """Accept, check, forward.

    Parameters
    ----------
    certificate, key : Path
        What hospitals see.
    upstream : tuple of str and int
        The SuperLink.
    authority : Path
        The CA that signed the SuperLink's certificate.
    limits : Limits
        Sizes, numbers and times.
    log : logging.Logger
        Refusals, by kind; one line a kind and peer a minute.
    """

    def __init__(self, *, certificate: Path, key: Path, upstream: tuple[str, int], authority: Path, limits: Limits, log: logging.Logger) -> None:
        self.limits, self.upstream, self.log = limits, upstream, log
        self.certificate, self.key = certificate, key
        self._seen = self._files()
        self._tls = server_tls(certificate, key)
        self._arrivals = Buckets(per_s=limits.new_per_s, burst=limits.new_burst)
        self._refusals = Buckets(per_s=limits.refused_per_s, burst=limits.refused_burst)
        self._upstream_tls = ssl.create_default_context(cafile=str(authority))
        self._peers: Counter[str] = Counter()
        self._told: dict[tuple[str, str], float] = {}
        self._tasks: set[asyncio.Task] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Accept on a bound, listening socket until cancelled; then let every connection go."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        reloading = asyncio.create_task(self._reload())
        try:
            while True:
                try:
                    raw, address = await loop.sock_accept(listener)
                except OSError as error:  # a peer that went before it was accepted, or no file handle left
                    self._tell("-", f"accept: {error.__class__.__name__}")
                    await asyncio.sleep(0.05)
                    continue
                peer = str(address[0])
                if len(self._tasks) >= self.limits.connections or self._peers[peer] >= self.limits.per_address:
                    self._tell(peer, "too many connections")
                    raw.close()
                    continue
                if self._refusals.is_empty(peer) or not self._arrivals.take(peer):
                    self._tell(peer, "too often")
                    raw.close()
                    continue
                self._peers[peer] += 1
                task = asyncio.create_task(self._connection(raw, peer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            reloading.cancel()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0.05)  # transports close in the loop's next turns

    async def _reload(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_S)
            files = self._files()
            if files == self._seen:
                continue
            try:
                self._tls = server_tls(self.certificate, self.key)  # a new one: a pair that does not fit must not spoil the old
            except (OSError, ssl.SSLError) as error:  # key written, certificate not yet: the next look finds both
                self._tell("-", f"certificate: {error.__class__.__name__}")
                continue
            self._seen = files
            self.log.info("certificate renewed")

    def _files(self) -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for path in (self.certificate, self.key):
            try:
                about = path.stat()
                found.append((about.st_mtime_ns, about.st_ino))
            except OSError:
                found.append(None)
        return found

    async def _connection(self, raw: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        writer: asyncio.StreamWriter | None = None
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = asyncio.StreamReader(limit=BLOCK)
            protocol = asyncio.StreamReaderProtocol(reader)
            # The handshake has its own limit, and a peer that is still in it counts as a connection.
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, raw, ssl=self._tls, ssl_handshake_timeout=self.limits.handshake_s, ssl_shutdown_timeout=2.0
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            with contextlib.suppress(TimeoutError):  # a kept connection that stayed silent
                while await self._request(reader, writer, peer):
                    pass
        except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError) as error:
            if writer is None:
                self._refusals.take(peer)
            self._tell(peer, "no TLS" if writer is None else error.__class__.__name__)
        except Exception:
            self.log.exception("connection failed", extra={"more": {"peer": peer}})
        finally:
            self._peers[peer] -= 1
            if self._peers[peer] <= 0:
                del self._peers[peer]
            if writer is None:
                raw.close()
            else:
                writer.close()
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(writer.wait_closed(), 5.0)

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> bool:
        """Carry one request; return whether the connection may be kept."""
        first = await asyncio.wait_for(reader.read(1), self.limits.silent_s)
        if not first:
            return False
        up_writer: asyncio.StreamWriter | None = None
        begun = False
        try:
            head = await self._head(reader, first)
            if ALLOWED.fullmatch(head.first) is None:
                raise Answered(404, "not a path of the door")
            up_reader, up_writer = await self._dial()
            keep = not head.says_close()
            up_writer.write(head.text([b"Connection: close"]))
            try:
                await carry(reader, up_writer, head, limits=self.limits, late=408)
            except Closed:  # answered before it had read all, or gone: the answer, or its absence, tells
                keep = False
            answer = await self._answer(up_reader)
            keep = keep and not answer.until_close
            begun = True
            writer.write(answer.text([b"Connection: keep-alive" if keep else b"Connection: close"]))
            await carry(up_reader, writer, answer, limits=self.limits, late=502)
            return keep
        except Closed:  # the peer has gone
            return False
        except Answered as refused:
            self._tell(peer, f"{refused.status} {refused.why}")
            if refused.status not in BLAMELESS and not self._refusals.take(peer):
                return False
            if not begun:
                text = f"HTTP/1.1 {refused.status} {REASONS[refused.status]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                writer.write(text.encode())
                await asyncio.wait_for(writer.drain(), self.limits.idle_s)
                await self._linger(reader)
            return False
        finally:
            if up_writer is not None:
                up_writer.transport.abort()  # all that mattered has been read; a farewell would only hold the connection

    async def _linger(self, reader: asyncio.StreamReader) -> None:
        """Swallow a little of what the peer is still sending: closed at once, it would see a reset in place of the answer."""
        left = 1 << 20
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(1.0):
                while left > 0 and (data := await reader.read(BLOCK)):
                    left -= len(data)

    async def _head(self, reader: asyncio.StreamReader, first: bytes) -> Head:
        try:
            raw = first + await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.limits.head_s)
        except TimeoutError:
            raise Answered(408, "head took too long") from None
        except asyncio.LimitOverrunError:
            raise Answered(431, "head too large") from None
        return read_head(raw, most=self.limits.head_bytes)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.upstream
        try:
            # A connection of its own for every request: on loopback it costs a millisecond, and none can go stale under a request.
            return await asyncio.wait_for(asyncio.open_connection(host, port, ssl=self._upstream_tls, limit=BLOCK), UPSTREAM_S)
        except (OSError, TimeoutError) as error:
            raise Answered(503, f"SuperLink: {error.__class__.__name__}") from None

    async def _answer(self, reader: asyncio.StreamReader) -> Head:
        while True:
            try:
                raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.limits.answer_s)
            except TimeoutError:
                raise Answered(504, "SuperLink did not answer") from None
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
                raise Answered(502, "SuperLink went away") from None
            try:
                answer = read_head(raw, most=BLOCK, response=True)
            except Answered:
                raise Answered(502, "SuperLink answered nonsense") from None
            status = answer.first.split(b" ")[1]
            if not status.startswith(b"1"):
                return answer if status not in (b"204", b"304") else Head(answer.first, answer.headers, 0)

    def _tell(self, peer: str, what: str) -> None:
        now = time.monotonic()
        if now - self._told.get((peer, what), -60.0) >= 60.0:
            if len(self._told) > 10_000:
                self._told.clear()
            self._told[peer, what] = now
            self.log.info("refused", extra={"more": {"peer": peer, "why": what}})


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what the door speaks: TLS 1.2 or later, HTTP/1.1 alone.

    Raises
    ------
    OSError, ssl.SSLError
        A file is missing, or the key is not the certificate's.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.set_alpn_protocols(["http/1.1"])
    tls.load_cert_chain(certificate, key)
    return tls


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; a port that was just given up may be taken at once."""
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128, reuse_port=False)


async def _run(server: ServerFolder) -> None:
    address = server.settings.server
    door = Door(
        certificate=server.secrets / "server.crt",
        key=server.secrets / "server.key",
        upstream=("127.0.0.1", address.fleet_port),
        authority=server.secrets / "ca.crt",
        limits=server.settings.limits,
        log=event_log(server.path / "logs" / "refused.log", "door"),
    )
    task = asyncio.ensure_future(door.serve(listen(address.listen_host, address.listen_port)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main(arguments: list[str]) -> None:
    """Serve the door of the server folder named by the argument until SIGTERM."""
    asyncio.run(_run(open_folder(Path(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
