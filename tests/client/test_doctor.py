"""Each fault that the doctor knows is found, named and given a remedy; one broken check never hides the others."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

import client.doctor
from client.doctor import CHECKS, Finding, Subject, as_rows, examine
from client.identity import join, make_site
from client.link import Answer, ask_server, explain, why_refused
from client.site import Link, Site
from tests.client.papers import authority_pem, server_files, write_kit
from tests.client.sites import table_site


class _Door(http.server.BaseHTTPRequestHandler):
    ahead_s = 0.0

    def do_GET(self) -> None:
        self.send_response_only(200)
        import time

        self.send_header("Date", formatdate(time.time() + type(self).ahead_s, usegmt=True))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _serve(folder: Path, *, days: float = 200, host: str = "localhost", ahead_s: float = 0.0, tls: bool = True) -> Iterator[int]:
    handler = type("Door", (_Door,), {"ahead_s": ahead_s})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign,assignment]
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*server_files(folder, days=days, host=host))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = table_site(tmp_path, "alpha").parent
    request = make_site(folder, "alpha")
    join(folder, write_kit(tmp_path / "kit.json", request))
    return folder


def dialling(folder: Path, port: int, host: str = "localhost") -> Subject:
    site = Site.load(folder / "site.toml")
    return Subject(folder, site.model_copy(update={"server": Link(address=f"{host}:{port}", name="lungs")}))


CASES = {
    "all well": ({}, {"port": "good", "certificate": "good", "clock": "good"}, ""),
    "clock behind": ({"ahead_s": 600.0}, {"clock": "fault", "certificate": "good"}, "clock"),
    "clock ahead": ({"ahead_s": -600.0}, {"clock": "fault"}, "clock"),
    "certificate runs out": ({"days": 10}, {"certificate": "warning"}, "renew"),
    "certificate expired": ({"days": -1}, {"certificate": "fault", "clock": "warning"}, "expired"),
    "certificate of another host": ({"host": "other.example"}, {"certificate": "fault"}, "name"),
    "no TLS": ({"tls": False}, {"certificate": "fault", "port": "good"}, "TLS"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_line_to_the_server(name: str, site: Path, tmp_path: Path) -> None:
    settings, grades, word = CASES[name]
    served = _serve(tmp_path / "tls", **settings)
    subject = dialling(site, next(served))
    findings = {check: CHECKS[check](subject) for check in grades}
    assert {check: finding.grade for check, finding in findings.items()} == grades
    assert word in " ".join(f"{finding.found} {finding.remedy}" for finding in findings.values())
    assert all(finding.remedy for finding in findings.values() if finding.grade != "good")
    next(served, None)


@pytest.mark.parametrize(("path", "grade"), [("/opt/fedild/.venv/bin/python", "good"), ("/home/anna/.pyenv/bin/python", "warning")])
def test_a_python_in_a_home_cannot_be_run_by_the_daemon(path: str, grade: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.doctor.sys.executable", path)
    assert CHECKS["python"](Subject(site, Site.load(site / "site.toml"))).grade == grade


def test_another_authority(site: Path, tmp_path: Path) -> None:
    from tests.client import papers

    papers.authority.cache_clear()  # the server's certificate comes from a new authority; the site has pinned the old one
    served = _serve(tmp_path / "tls")
    finding = CHECKS["certificate"](dialling(site, next(served)))
    assert finding.grade == "fault"
    assert "authority" in finding.remedy
    next(served, None)


def test_nobody_there(site: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    finding = CHECKS["port"](dialling(site, port))
    assert (finding.grade, "nobody listens" in finding.remedy) == ("fault", True)
    unknown = dialling(site, 443, "no-such-host.invalid")
    assert CHECKS["dns"](unknown).grade == "fault"
    assert "DNS" in CHECKS["port"](unknown).remedy


@pytest.mark.parametrize(("ahead_s", "word"), [(600.0, "clock"), (0.0, "registered")])
def test_why_a_supernode_was_refused(ahead_s: float, word: str, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text(authority_pem())
    served = _serve(tmp_path / "tls", ahead_s=ahead_s)
    port = next(served)
    assert word in why_refused(f"localhost:{port}", tmp_path / "ca.crt")
    assert abs(ask_server(f"localhost:{port}", tmp_path / "ca.crt").skew_s + ahead_s) < 5
    next(served, None)
    assert "port" in why_refused(f"localhost:{port}", tmp_path / "ca.crt")


def test_a_whole_site(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.doctor.ask_server", lambda *_: Answer(0.0, 300.0))
    findings = examine(site)
    assert list(findings) == list(CHECKS)
    faults = {name: finding for name, finding in findings.items() if finding.grade == "fault"}
    assert set(faults) == {"port"}  # nobody listens at the kit's address
    assert [row["check"] for row in as_rows(findings)] == list(CHECKS)


def test_a_check_that_breaks_is_a_fault_and_the_others_go_on(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(subject: Subject) -> Finding:
        raise ValueError("Doe^Jonathan")

    monkeypatch.setitem(client.doctor.CHECKS, "gpu", broken)
    monkeypatch.setattr("client.doctor.ask_server", lambda *_: Answer(0.0, 300.0))
    findings = examine(site)
    assert findings["gpu"] == Finding("fault", "ValueError", "see the site's log")
    assert findings["keys"].grade == "good"


FAULTS = {
    "keys": lambda folder: (folder / "secrets" / "node.key").chmod(0o644),
    "data": lambda folder: (folder / "workspace" / "cohort.json").unlink(),
    "approvals": lambda folder: (folder / "approvals.jsonl").write_text("x\n"),
    "audit": lambda folder: (folder / "audit.jsonl").write_text("x\n"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_the_folder(name: str, site: Path) -> None:
    FAULTS[name](site)
    finding = client.doctor._find(CHECKS[name], Subject(site, Site.load(site / "site.toml")))
    assert finding.grade == "fault"
    assert finding.remedy


def test_small_machines(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(site, Site.load(site / "site.toml"))
    monkeypatch.setattr("client.doctor.LEAST_DISK_GB", 1e9)
    monkeypatch.setattr("client.doctor.LEAST_MEMORY_GB", 1e9)
    assert CHECKS["disk"](subject).grade == "fault"
    assert CHECKS["memory"](subject).grade == "warning"
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    assert CHECKS["proxy"](subject).grade == "warning"
    monkeypatch.setattr("client.dicom.decoders._can", lambda uid: "2000" not in uid.name)
    assert "2000" in CHECKS["decoders"](subject).found


def test_before_joining(site: Path) -> None:
    subject = Subject(site, Site.load(site / "site.toml").model_copy(update={"server": None}))
    assert CHECKS["server"](subject).grade == "fault"
    assert {CHECKS[name](subject).grade for name in ("dns", "port", "certificate", "clock")} == {"warning"}


def test_few_patients(tmp_path: Path) -> None:
    folder = table_site(tmp_path, "alpha", patients=9).parent
    subject = Subject(folder, Site.load(folder / "site.toml"))
    assert CHECKS["data"](subject).found == "fewer than 10 patients with a diagnosis"
    patches = subject.site.model_copy(update={"site": subject.site.site.model_copy(update={"patches": "none.npz"})})
    assert CHECKS["data"](replace(subject, site=patches)).grade == "fault"


@pytest.mark.parametrize("error", [socket.gaierror(), ssl.SSLError(), ConnectionRefusedError(), TimeoutError(), OSError(), ConnectionResetError()])
def test_every_break_is_put_into_words(error: OSError) -> None:
    assert len(explain(error)) > 20
