"""`fedild site doctor`: everything between this site and a run, looked at one by one; each fault with its remedy."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from client.approval import Approvals
from client.audit import AuditLog
from client.expiry import CERTIFICATES, authority_days
from client.identity import check_keys
from client.link import LARGEST_SKEW_S, Answer, ask_server, explain
from client.resident import socket_path
from client.site import Site
from shared_models.core.errors import FedILDError

LEAST_DISK_GB = 10.0
LEAST_MEMORY_GB = 4.0
GB = 1e9

Grade = Literal["good", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """What one check found; `remedy` is empty when all is well."""

    grade: Grade
    found: str
    remedy: str = ""


NOT_JOINED = Finding("warning", "not known without a server", "join a server first")


@dataclass(frozen=True)
class Subject:
    """What the checks look at: the site folder, its TOML, and what the server answered (asked once)."""

    folder: Path
    site: Site

    @functools.cached_property
    def address(self) -> tuple[str, int]:
        """Host and port of the server; empty and 0 before `join`."""
        host, _, port = (self.site.server.address if self.site.server else ":0").rpartition(":")
        return host, int(port)

    @functools.cached_property
    def answer(self) -> Answer | OSError:
        """What the server said, or what stands in the way."""
        host, port = self.address
        try:
            return ask_server(f"{host}:{port}", self.folder / "secrets" / "ca.crt")
        except OSError as error:
            return error


def keys(subject: Subject) -> Finding:
    """Keys are there, whole, and for their owner alone."""
    check_keys(subject.folder)
    return Finding("good", "three keys, 0600")


def joined(subject: Subject) -> Finding:
    """The site has joined a server."""
    if subject.site.server is None:
        return Finding("fault", "no server", "send request.json to the server's administrator, then `fedild site join KIT`")
    return Finding("good", subject.site.server.address)


def dns(subject: Subject) -> Finding:
    """The server's name is known."""
    host, port = subject.address
    if not host:
        return NOT_JOINED
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        return Finding("fault", f"{host}: unknown name", "check the address in site.toml; ask the network's administrator for DNS")
    return Finding("good", ", ".join(sorted(found)))


def port(subject: Subject) -> Finding:
    """The server's port can be reached."""
    host, number = subject.address
    if not host:
        return NOT_JOINED
    try:
        with socket.create_connection((host, number), timeout=5):
            return Finding("good", f"port {number} is open")
    except OSError as error:
        return Finding("fault", type(error).__name__, explain(error))


def proxy(subject: Subject) -> Finding:
    """A proxy of this machine is not in the way."""
    found = urllib.request.getproxies().get("https")
    if found and not urllib.request.proxy_bypass(subject.address[0]):
        return Finding("warning", "HTTPS_PROXY is set", f"if the proxy opens TLS, the line fails; set NO_PROXY={subject.address[0]}")
    return Finding("good", "none")


def certificate(subject: Subject) -> Finding:
    """The server's certificate is of the pinned authority, for this name, and lasts."""
    if not subject.address[0]:
        return NOT_JOINED
    answer = subject.answer
    if isinstance(answer, OSError):
        return Finding("fault", type(answer).__name__, explain(answer))
    return _lasting("certificate", answer.days_left)


def authority(subject: Subject) -> Finding:
    """The pinned authority of the consortium lasts."""
    if not subject.address[0]:
        return NOT_JOINED
    return _lasting("authority", authority_days(subject.folder))


def _lasting(name: str, days: float) -> Finding:
    found = f"{days:.0f} days left"
    grade = "fault" if days <= 0 else "warning" if days < CERTIFICATES[name].warn_days else "good"
    return Finding(grade, found, "" if grade == "good" else CERTIFICATES[name].remedy)


def clock(subject: Subject) -> Finding:
    """The clock agrees with the server's."""
    answer = subject.answer
    if isinstance(answer, OSError):
        return Finding("warning", "not known without the server", "mend the line first")
    if abs(answer.skew_s) > LARGEST_SKEW_S:
        return Finding("fault", f"clock {answer.skew_s:+.0f} s off the server's", "set the clock (NTP); the server refuses what is 5 minutes off")
    return Finding("good", f"clock {answer.skew_s:+.0f} s off the server's")


def disk(subject: Subject) -> Finding:
    """There is room for the cache."""
    free = shutil.disk_usage(subject.folder).free / GB
    found = f"{free:.0f} GB free"
    return (
        Finding("good", found) if free >= LEAST_DISK_GB else Finding("fault", found, f"free at least {LEAST_DISK_GB:.0f} GB where the site folder is")
    )


def memory(subject: Subject) -> Finding:
    """There is memory for a model and its training."""
    del subject
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
    found = f"{total:.0f} GB"
    return Finding("good", found) if total >= LEAST_MEMORY_GB else Finding("warning", found, f"large models want {LEAST_MEMORY_GB:.0f} GB or more")


def gpu(subject: Subject) -> Finding:
    """Training finds the device of the site's TOML, and a GPU if the machine has one."""
    import torch

    from client.training.device import find_device

    device = find_device(subject.site.site.device)
    if device.type == "cuda":
        return Finding("good", torch.cuda.get_device_name(device))
    if subject.site.site.device == "cpu":
        return Finding("good", "not used: device = cpu")
    if shutil.which("nvidia-smi"):
        return Finding("warning", "a GPU that training cannot use", "install the driver that fits this build of PyTorch")
    return Finding("good", "none; training uses the processor")


def data(subject: Subject) -> Finding:
    """Prepared patients, or patches, are there."""
    from client.cases.cohort import Cohort

    site = subject.site
    if site.site.patches is not None:
        there = site.path(site.site.patches).is_file()
        return Finding("good", "patches") if there else Finding("fault", "no patches file", "check `patches` in site.toml")
    if not (site.workspace / "cohort.json").exists():
        return Finding("fault", "nothing prepared", "fedild site prepare")
    labelled = sum(case.label is not None for case in Cohort.load(site.workspace / "cohort.json").cases)
    least = site.policy.least_cases(summed=True)
    if labelled < least:
        return Finding("fault", f"fewer than {least} patients with a diagnosis", "add studies and diagnoses, then `fedild site prepare`")
    if labelled < site.policy.min_cases:
        return Finding("good", f"{labelled} patients with a diagnosis: enough for the secure sum alone")
    return Finding("good", f"{labelled} patients with a diagnosis")


def decoders(subject: Subject) -> Finding:
    """Compressed CT can be read."""
    del subject
    from client.dicom.decoders import missing_decoders

    missing = missing_decoders()
    if missing:
        return Finding("fault", f"no decoder for {', '.join(missing)}", "install python-gdcm, pyjpegls, pylibjpeg and pylibjpeg-openjpeg")
    return Finding("good", "JPEG lossless, JPEG-LS, JPEG 2000, RLE")


def place(subject: Subject) -> Finding:
    """The folder can hold a socket and be written to."""
    socket_path(subject.folder)
    if not os.access(subject.folder, os.W_OK):
        return Finding("fault", "read only", "give the folder to the user that runs the daemon")
    return Finding("good", "writable")


def interpreter(subject: Subject) -> Finding:
    """The daemon's user can run this Python: the systemd unit hides the homes."""
    del subject
    found = Path(sys.executable).resolve()
    if found.is_relative_to("/root") or found.is_relative_to("/home"):
        return Finding("warning", "lies in somebody's home", "make the environment with the system's Python: the daemon cannot run this one")
    return Finding("good", f"Python {sys.version_info.major}.{sys.version_info.minor}")


def approvals(subject: Subject) -> Finding:
    """The list of approvals is whole, and nothing waits."""
    mine = Approvals(subject.folder)
    mine.entries()
    waiting = len(mine.pending())
    if waiting:
        return Finding("warning", f"{waiting} waiting", "fedild site approvals")
    return Finding("good", f"{sum(one.decision == 'approved' for one in mine.standing())} approved")


def audit(subject: Subject) -> Finding:
    """No line of the audit log was changed."""
    return Finding("good", f"{AuditLog(subject.folder).verify()} lines, whole")


CHECKS: dict[str, Callable[[Subject], Finding]] = {
    "keys": keys,
    "folder": place,
    "python": interpreter,
    "server": joined,
    "dns": dns,
    "port": port,
    "proxy": proxy,
    "certificate": certificate,
    "authority": authority,
    "clock": clock,
    "disk": disk,
    "memory": memory,
    "gpu": gpu,
    "data": data,
    "decoders": decoders,
    "approvals": approvals,
    "audit": audit,
}
"""What is looked at, in this order."""


def examine(folder: Path) -> dict[str, Finding]:
    """Return what every check of `CHECKS` finds at the site in `folder`; one that breaks is a fault, and the others go on.

    Raises
    ------
    BadExperiment
        The site TOML has faults.
    """
    subject = Subject(folder.resolve(), Site.load(folder / "site.toml"))
    return {name: _find(check, subject) for name, check in CHECKS.items()}


def as_rows(findings: dict[str, Finding]) -> list[dict[str, Any]]:
    """Return the findings as JSON values."""
    return [{"check": name, **asdict(finding)} for name, finding in findings.items()]


def _find(check: Callable[[Subject], Finding], subject: Subject) -> Finding:
    try:
        return check(subject)
    except FedILDError as error:
        return Finding("fault", error.rule, error.remedy)
    except Exception as error:
        return Finding("fault", type(error).__name__, "see the site's log")
