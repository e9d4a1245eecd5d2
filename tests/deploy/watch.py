"""Daemons and commands under `strace`: every address that any of their processes dials or sends to, children included, from the first moment.

`strace` (Debian package of that name) sees system calls, so nothing that runs in a process can get past it: Python or not, TCP, UDP or DNS.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CALLS = "connect,sendto,sendmsg,sendmmsg"
LOCAL = {"AF_UNIX", "AF_NETLINK", "AF_UNSPEC"}
"""Families that reach nobody but this machine's own kernel and processes."""
_FAMILY = re.compile(r"sa_family=(AF_\w+)")
_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
_HOST = re.compile(r'(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')


@dataclass(frozen=True)
class Dialled:
    """One address that a process used."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return self.host.startswith("127.") or self.host == "::1"


def under_watch(folder: Path) -> tuple[str, ...]:
    """The words before a command that write its system calls, and its children's, into `folder`: a file a process."""
    program = shutil.which("strace")
    if program is None:
        pytest.fail("strace is needed to see what processes dial: apt-get install strace")
    folder.mkdir(parents=True, exist_ok=True)
    # -D: the command stays the child of its caller, so that signals and exit codes are its own. --seccomp-bpf: other calls run at full speed.
    return (program, "-D", "-ff", "--seccomp-bpf", "-qq", "-s", "0", "-e", "signal=none", "-e", f"trace={CALLS}", "-A", "-o", str(folder / "calls"))


def dialled(folder: Path) -> set[Dialled]:
    """Every address in the traces of `folder`."""
    return {found for path in folder.glob("calls*") for line in path.read_text(errors="replace").splitlines() for found in addresses(line)}


def addresses(line: str) -> Iterator[Dialled]:
    """The addresses of one line of a trace that are not `LOCAL`; one of a family that is not known is named by the family."""
    for part in line.split("sa_family=")[1:]:
        family, port, host = _FAMILY.match(f"sa_family={part}"), _PORT.search(part), _HOST.search(part)
        name = family.group(1) if family else "?"
        if name not in LOCAL:
            yield Dialled(host.group(1) if host else name, int(port.group(1)) if port else 0)
