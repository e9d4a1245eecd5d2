"""A real PACS: Debian's Orthanc with its DICOMweb plugin, on loopback and free ports, with its store in a folder of the test.

FEDILD_ORTHANC names the program. Unset, it is looked for, and where there is none its tests skip by name; set, a missing one is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import pytest

PROGRAMS = os.pathsep.join(("/usr/bin", "/usr/sbin", os.environ.get("PATH", os.defpath)))
"""The system first: an activated environment has programs of dcmtk's names, too, which are pynetdicom's."""
PLUGINS = Path("/usr/share/orthanc/plugins")
REFUSED = "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
"""For tests in which nobody listens: pynetdicom drops the socket of a refused connection unclosed."""
USER, PASSWORD = "site", "sitepw"


def program() -> str:
    """Path of Orthanc; skips or fails where there is none."""
    named = os.environ.get("FEDILD_ORTHANC")
    if named:
        if not Path(named).is_file():
            pytest.fail("FEDILD_ORTHANC names no program: apt-get install orthanc orthanc-dicomweb dcmtk")
        if not (PLUGINS / "libOrthancDicomWeb.so").exists() or dcmtk("storescu") is None:
            pytest.fail("Orthanc is here without its DICOMweb plugin or dcmtk")
        return named
    found = shutil.which("Orthanc", path=PROGRAMS)
    if found is None or dcmtk("storescu") is None or not PLUGINS.exists():
        pytest.skip("Orthanc, orthanc-dicomweb or dcmtk is not installed, and FEDILD_ORTHANC is not set")
    return found


def dcmtk(name: str) -> str | None:
    """Path of a program of dcmtk."""
    return shutil.which(name, path=PROGRAMS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Orthanc:
    """Starts on demand; may be killed and started again over the same store.

    It cannot be told to listen on loopback alone for DIMSE: known callers from 127.0.0.1 are let in, nobody else.
    """

    def __init__(self, folder: Path, *, callers: dict[str, int]) -> None:
        self.program, self.folder = program(), folder
        self.http, self.dicom = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        settings = {
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "Plugins": [str(PLUGINS)],
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": True,
            **{f"DicomAlwaysAllow{verb}": False for verb in ("Echo", "Store", "Find", "Get", "Move")},
            "DicomModalities": {title.lower(): [title, "127.0.0.1", port] for title, port in callers.items()},
            "Gdcm": {"Enable": False},
            "Worklists": {"Enable": False},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))

    def start(self) -> None:
        with open(self.folder / "orthanc.log", "ab") as log:
            environment = {**os.environ, "TCP_NODELAY": "1"}
            self.process = subprocess.Popen(
                [self.program, str(self.folder / "orthanc.json")], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )
        until = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < until, (self.folder / "orthanc.log").read_text()[-2000:]
            time.sleep(0.05)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, path: str, data: bytes | None = None) -> bytes:
        """GET or, with data, POST of Orthanc's own interface."""
        credentials = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=data, headers={"Authorization": f"Basic {credentials}"})
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.read()

    def _answers(self) -> bool:
        try:
            return bool(self.ask("/system"))
        except (urllib.error.URLError, OSError):
            return False
