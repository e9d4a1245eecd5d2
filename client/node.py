"""`flower-supernode` as a hospital runs it: Flower's own program, which dials again when only the line broke and ends when it has given up.

Flower's gives up on every error whose text holds "ssl", so also on a handshake that took too long and on a line that broke inside TLS; and a
SuperNode that has given up, or whose heartbeat has, stays alive for the sake of its own interface, takes no message any more, and looks well
from outside. Here a broken line is dialled again for ever, and whatever ends Flower's part ends the process: the site's supervisor starts it anew.
"""

from __future__ import annotations

import os
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

LOOK_S = 1.0
"""Seconds between two looks for a message at the server."""
NEAR_S = 0.2
"""Seconds between two looks for what this machine's own processes make ready."""
GAVE_UP = 1
"""Exit code of a SuperNode that has given up; the supervisor asks the server why."""
BROKEN = (TimeoutError, ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What a line that is cut, reset or held raises, in TLS or before it. A certificate that is not right is none of these."""


def is_broken_line(error: BaseException) -> bool:
    """Say whether an error of Flower's HTTP client means no more than that the line broke.

    Examples
    --------
    >>> is_broken_line(TimeoutError("_ssl.c:989: The handshake operation timed out"))
    True
    >>> is_broken_line(ssl.SSLCertVerificationError("certificate verify failed"))
    False
    """
    return any(isinstance(one, BROKEN) for one in _causes(error))


def main() -> None:
    """Run Flower's program on this process's arguments and end the process with it."""
    from flwr.supercore.retry import http_retry
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli.flower_supernode import flower_supernode

    plain = http_retry.RetryInvoker

    def patient(*arguments: Any, should_giveup: Callable[[Exception], bool], **more: Any) -> Any:
        return plain(*arguments, should_giveup=lambda error: not is_broken_line(error) and should_giveup(error), **more)

    http_retry.RetryInvoker = patient  # type: ignore[assignment, misc]
    start_client_internal.time = _Impatient()  # type: ignore[assignment]
    threading.excepthook = lambda failed: _end(GAVE_UP, failed.exc_value)
    try:
        flower_supernode()
    except SystemExit as ended:
        _end(ended.code if isinstance(ended.code, int) else GAVE_UP if ended.code else 0)
    except BaseException as error:
        _end(GAVE_UP, error)
    _end(0)


class _Impatient:
    """The `time` of Flower's loop, which sleeps 3 s whenever it finds nothing to do: at both ends of a round a site waited for nothing."""

    def sleep(self, seconds: float) -> None:
        """Sleep shorter than Flower would."""
        time.sleep(min(seconds, LOOK_S if seconds > LOOK_S else NEAR_S))

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        yield one
        one = one.__cause__ or one.__context__


def _end(code: int, error: BaseException | None = None) -> None:
    """End at once: a thread that serves Flower's interface would keep the process otherwise."""
    if error is not None:
        traceback.print_exception(error)  # into the supervisor's log of this process
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
