"""Bodies of HTTP/1.1 messages, carried from one side to the other at the memory of a block. Any size is allowed; standing still is not."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable
from typing import Any

from server.folder import Limits
from server.http_head import Answered, Closed, Head

BLOCK = 1 << 18
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,12})(?:;[\x20-\x7e]*)?\r\n")


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: Head, *, limits: Limits, late: int) -> None:
    """Carry a body from `reader` to `writer`, block by block, as fast as the slower side takes it.

    `late` is the status that is answered when `reader` is the one that is slow: 408 for a peer, 502 for the SuperLink.
    """
    pace = Pace(reader, writer, limits, late)
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
        raise Answered(late if late == 502 else 400, f"body broke off: {error.__class__.__name__}") from None


class Pace:
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
        """Send `data` on; refuse a body that is too slow."""
        self.writer.write(data)
        if self.writer.transport.get_write_buffer_size() > BLOCK:
            await self.flush()
        self.moved += len(data)
        now = time.monotonic()
        if self.moved >= self.limits.slowest_bytes:
            self.began, self.moved = now, 0
        elif now - self.began > self.limits.idle_s:
            raise Answered(self.late, "body too slow")

    async def flush(self) -> None:
        """Wait until the writer has taken what was sent."""
        try:
            await self._in_time(self.writer.drain())
        except OSError:
            raise Closed from None

    async def exactly(self, count: int) -> None:
        """Carry `count` bytes."""
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
                raise Answered(400 if self.late != 502 else 502, "bad chunk")
            size = int(match.group(1), 16)
            await self.send(match.group(1) + b"\r\n")
            if size:
                await self.exactly(size)
            if await self._in_time(self.reader.readexactly(2)) != b"\r\n":
                raise Answered(400 if self.late != 502 else 502, "bad chunk")
            await self.send(b"\r\n")
            if not size:
                return

    async def _in_time(self, waiting: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(waiting, self.limits.idle_s)
        except TimeoutError:
            raise Answered(self.late, "body stopped") from None
        except asyncio.LimitOverrunError:
            raise Answered(400, "bad chunk") from None
