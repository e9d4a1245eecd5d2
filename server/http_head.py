"""Heads of HTTP/1.1 messages by RFC 9112 in its narrow form: what two programs could read in two ways is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_REQUEST = re.compile(rb"[A-Z]{1,16} [\x21-\x7e]{1,4096} HTTP/1\.[01]")
_STATUS = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [\x20-\x7e\x80-\xff]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_HOPS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"proxy-authorization", b"expect"))
REASONS = {
    400: "Bad Request",
    404: "Not Found",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Answered(Exception):
    """A request that the door answers itself: status and, for the log, why."""

    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why
        super().__init__(why)


class Closed(Exception):
    """The side that was written to has gone."""


@dataclass(frozen=True)
class Head:
    """The head of a request or response."""

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
        """Say whether the sender will not keep the connection."""
        return any(name.lower() == b"connection" and b"close" in value.lower() for name, value in self.headers)


def read_head(raw: bytes, *, most: int, response: bool = False) -> Head:
    """Read the head of a request or response in the narrow form of RFC 9112.

    Raises
    ------
    Answered
        431 too large, 400 anything that could be read in two ways.
    """
    if len(raw) > most:
        raise Answered(431, "head too large")
    first, *lines = raw[:-4].split(b"\r\n")
    if not response and _REQUEST.fullmatch(first) is None:
        raise Answered(400, "bad request line")
    if response and _STATUS.fullmatch(first) is None:
        raise Answered(400, "bad status line")
    headers = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise Answered(400, "bad header")
        headers.append((match.group(1), match.group(2).rstrip(b" \t")))
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    codings = [value.lower() for name, value in headers if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1 or any(_LENGTH.fullmatch(value) is None for value in lengths) or codings not in ([], [b"chunked"]):
        raise Answered(400, "body of unclear length")
    if codings:
        return Head(first, headers, None)
    if lengths:
        return Head(first, headers, int(lengths[0]))
    return Head(first, headers, 0, until_close=response)
