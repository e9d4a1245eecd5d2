"""The door: the one port that hospitals reach. It speaks TLS and lets through what a SuperNode needs, and nothing else.

Flower serves its control interface (start a run, register a node: arbitrary code at every site) without asking who calls, on the same port
as the interface for SuperNodes. So the SuperLink listens on loopback and this proxy forwards

    POST /v1/fleet/<word>     a SuperNode's calls; Flower checks each signature against the registered keys
    GET  /health              for `fedild site doctor`

and answers 404 to everything else without forwarding a byte. Requests are read by RFC 9112 in its narrow form: what two programs could
read in two ways (two lengths, folded headers, a bare line feed) is refused, so nothing can be smuggled past. Bodies of any size stream
through at the memory of one block.
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
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from server.folder import Limits, ServerFolder, open_folder
from shared_models.core.supervision import event_log

ALLOWED = re.compile(rb"(?:POST /v1/fleet/[a-z0-9-]{1,64}|GET /health) HTTP/1\.1")
BLOCK = 1 << 18
UPSTREAM_S = 5.0
"""Seconds to connect to the SuperLink on this machine."""
_REQUEST = re.compile(rb"[A-Z]{1,16} [\x21-\x7e]{1,4096} HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,12})(?:;[\x20-\x7e]*)?\r\n")
_HOPS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"proxy-authorization", b"expect"))
_REASONS = {
    400: "Bad Request",
    404: "Not Found",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class _Answered(Exception):
    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why
        super().__init__(why)


class _Closed(Exception):
    pass


@dataclass(frozen=True)
class _Head:
    first: bytes
    headers: list[tuple[bytes, bytes]]
    length: int | None
    """Bytes of the body; None is chunked."""
    until_close: bool = False

    def text(self, extra: Iterable[bytes] = ()) -> bytes:
        """Return the head to be sent on: what concerns one connection alone is left out."""
        lines = [name + b": " + value for name, value in self.headers if name.lower() not in _HOPS]
        return b"\r\n".join([self.first, *lines, *extra, b"", b""])

    def says_close(self) -> bool:
        return any(name.lower() == b"connection" and b"close" in value.lower() for name, value in self.headers)


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
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.set_alpn_protocols(["http/1.1"])
        self._tls.load_cert_chain(certificate, key)
        self._upstream_tls = ssl.create_default_context(cafile=str(authority))
        self._peers: Counter[str] = Counter()
        self._told: dict[tuple[str, str], float] = {}
        self._tasks: set[asyncio.Task] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Accept on a bound, listening socket until cancelled; then let every connection go."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
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
                self._peers[peer] += 1
                task = asyncio.create_task(self._connection(raw, peer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0.05)  # transports close in the loop's next turns

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
                raise _Answered(404, "not a path of the door")
            up_reader, up_writer = await self._dial()
            keep = not head.says_close()
            up_writer.write(head.text([b"Connection: close"]))
            try:
                await self._body(reader, up_writer, head, 408)
            except _Closed:  # answered before it had read all, or gone: the answer, or its absence, tells
                keep = False
            answer = await self._answer(up_reader)
            keep = keep and not answer.until_close
            begun = True
            writer.write(answer.text([b"Connection: keep-alive" if keep else b"Connection: close"]))
            await self._body(up_reader, writer, answer, 502)
            return keep
        except _Closed:  # the peer has gone
            return False
        except _Answered as refused:
            self._tell(peer, f"{refused.status} {refused.why}")
            if not begun:
                text = f"HTTP/1.1 {refused.status} {_REASONS[refused.status]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
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

    async def _head(self, reader: asyncio.StreamReader, first: bytes) -> _Head:
        try:
            raw = first + await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.limits.head_s)
        except TimeoutError:
            raise _Answered(408, "head took too long") from None
        except asyncio.LimitOverrunError:
            raise _Answered(431, "head too large") from None
        return read_head(raw, most=self.limits.head_bytes)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.upstream
        try:
            # A connection of its own for every request: on loopback it costs a millisecond, and none can go stale under a request.
            return await asyncio.wait_for(asyncio.open_connection(host, port, ssl=self._upstream_tls, limit=BLOCK), UPSTREAM_S)
        except (OSError, TimeoutError) as error:
            raise _Answered(503, f"SuperLink: {error.__class__.__name__}") from None

    async def _answer(self, reader: asyncio.StreamReader) -> _Head:
        while True:
            try:
                raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.limits.answer_s)
            except TimeoutError:
                raise _Answered(504, "SuperLink did not answer") from None
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
                raise _Answered(502, "SuperLink went away") from None
            try:
                answer = read_head(raw, most=BLOCK, response=True)
            except _Answered:
                raise _Answered(502, "SuperLink answered nonsense") from None
            status = answer.first.split(b" ")[1]
            if not status.startswith(b"1"):
                return answer if status not in (b"204", b"304") else _Head(answer.first, answer.headers, 0)

    async def _body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: _Head, late: int) -> None:
        """Carry a body from `reader` to `writer`, block by block, as fast as the slower side takes it."""
        pace = _Pace(reader, writer, self.limits, late)
        try:
            if head.until_close:
                while await pace.some(BLOCK):
                    pass
            elif head.length is not None:
                await pace.exactly(head.length)
            else:
                await pace.chunks()
            if head.length != 0:
                await pace.flush()
        except (asyncio.IncompleteReadError, OSError) as error:
            raise _Answered(late if late == 502 else 400, f"body broke off: {error.__class__.__name__}") from None

    def _tell(self, peer: str, what: str) -> None:
        now = time.monotonic()
        if now - self._told.get((peer, what), -60.0) >= 60.0:
            if len(self._told) > 10_000:
                self._told.clear()
            self._told[peer, what] = now
            self.log.info("refused", extra={"more": {"peer": peer, "why": what}})


class _Pace:
    """Moves bytes and sees that they go on: at least `slowest_bytes` in every `idle_s` seconds, whichever side is slow."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits, late: int) -> None:
        self.reader, self.writer, self.limits, self.late = reader, writer, limits, late
        self.began, self.moved = time.monotonic(), 0

    async def some(self, most: int) -> int:
        """Move at most `most` bytes; return how many, 0 at the end."""
        data = await self._in_time(self.reader.read(min(most, BLOCK)))
        if data:
            await self.send(data)
        return len(data)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        if self.writer.transport.get_write_buffer_size() > BLOCK:
            await self.flush()
        self.moved += len(data)
        now = time.monotonic()
        if self.moved >= self.limits.slowest_bytes:
            self.began, self.moved = now, 0
        elif now - self.began > self.limits.idle_s:
            raise _Answered(self.late, "body too slow")

    async def flush(self) -> None:
        try:
            await self._in_time(self.writer.drain())
        except OSError:
            raise _Closed from None

    async def exactly(self, count: int) -> None:
        while count:
            moved = await self.some(count)
            if not moved:
                raise asyncio.IncompleteReadError(b"", count)
            count -= moved

    async def chunks(self) -> None:
        """Carry a chunked body; trailers are refused."""
        while True:
            line = await self._in_time(self.reader.readuntil(b"\r\n"))
            match = _CHUNK.fullmatch(line)
            if match is None or len(line) > 256:
                raise _Answered(400 if self.late != 502 else 502, "bad chunk")
            size = int(match.group(1), 16)
            await self.send(match.group(1) + b"\r\n")
            if size:
                await self.exactly(size)
            if await self._in_time(self.reader.readexactly(2)) != b"\r\n":
                raise _Answered(400 if self.late != 502 else 502, "bad chunk")
            await self.send(b"\r\n")
            if not size:
                return

    async def _in_time(self, waiting):
        try:
            return await asyncio.wait_for(waiting, self.limits.idle_s)
        except TimeoutError:
            raise _Answered(self.late, "body stopped") from None
        except asyncio.LimitOverrunError:
            raise _Answered(400, "bad chunk") from None


def read_head(raw: bytes, *, most: int, response: bool = False) -> _Head:
    """Read the head of a request or response in the narrow form of RFC 9112.

    Raises
    ------
    _Answered
        431 too large, 400 anything that could be read in two ways.
    """
    if len(raw) > most:
        raise _Answered(431, "head too large")
    first, *lines = raw[:-4].split(b"\r\n")
    if not response and _REQUEST.fullmatch(first) is None:
        raise _Answered(400, "bad request line")
    if response and re.fullmatch(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [\x20-\x7e\x80-\xff]*)?", first) is None:
        raise _Answered(400, "bad status line")
    headers = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise _Answered(400, "bad header")
        headers.append((match.group(1), match.group(2).rstrip(b" \t")))
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    codings = [value.lower() for name, value in headers if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1 or any(_LENGTH.fullmatch(value) is None for value in lengths) or codings not in ([], [b"chunked"]):
        raise _Answered(400, "body of unclear length")
    if codings:
        return _Head(first, headers, None)
    if lengths:
        return _Head(first, headers, int(lengths[0]))
    return _Head(first, headers, 0, until_close=response)


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
