"""`fedild site up` with stand-ins for Flower's programs: what is started, restarted, refused, locked and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.audit import AuditLog
from client.identity import join, make_site
from client.resident import is_listening, socket_path
from client.station import standing
from client.supervisor import programs_of, supervise
from shared_models.core.errors import BadInput, Refused
from tests.client.papers import write_kit
from tests.client.sites import table_site

STAND_IN = """#!{python}
import json, os, sys, time, socketserver
port = [int(b) for a, b in zip(sys.argv, sys.argv[1:]) if a == "--port"]
with open({said!r}, "a") as file:
    file.write(json.dumps({{"argv": sys.argv, "env": dict(os.environ)}}) + "\\n")
if os.path.exists({refuse!r}):
    sys.exit(1)
if port:
    socketserver.TCPServer.allow_reuse_address = True
    socketserver.TCPServer(("127.0.0.1", port[0]), socketserver.BaseRequestHandler).serve_forever()
time.sleep(3600)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = table_site(tmp_path, "a").parent
    join(folder, write_kit(tmp_path / "kit.json", make_site(folder, "a"), address="127.0.0.1:1"))
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("flower-supernode", "flower-superexec"):
        text = STAND_IN.format(python=sys.executable, said=str(tmp_path / f"{name}.said"), refuse=str(tmp_path / "refuse"))
        (programs / name).write_text(text)
        (programs / name).chmod(0o700)
    monkeypatch.setenv("FEDILD_TEST_PROGRAMS", str(programs))
    return folder


@pytest.fixture
def up(site: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    started: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        script = (
            "import os, sys\nfrom pathlib import Path\nimport client.supervisor as s\n"
            "where = Path(os.environ['FEDILD_TEST_PROGRAMS'])\ns._node = lambda: (str(where / 'flower-supernode'),)\n"
            "s._executor = lambda: (str(where / 'flower-superexec'),)\ns.PAUSES_S = (0.2,)\ns.supervise(Path(sys.argv[1]))\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        started.append(subprocess.Popen([sys.executable, "-c", script, str(site)], env=environment))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for(what: Callable[[], bool], *, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def programs(site: Path) -> dict[str, dict]:
    try:
        return json.loads((site / "up.json").read_text())["programs"]
    except (OSError, ValueError):
        return {}


def all_ready(site: Path) -> bool:
    now = programs(site)
    return len(now) == 3 and all(state["ready"] for state in now.values())


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_up_restart_and_down(site: Path, up: Callable[[], subprocess.Popen], tmp_path: Path) -> None:
    supervisor = up()
    wait_for(lambda: all_ready(site))
    assert is_listening(socket_path(site))
    first = {name: state["pid"] for name, state in programs(site).items()}
    assert set(first) == {"resident", "supernode", "superexec"}
    said = json.loads((tmp_path / "flower-supernode.said").read_text().splitlines()[0])
    assert said["env"]["FLWR_TELEMETRY_ENABLED"] == "0"
    assert said["env"]["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert said["env"]["FLWR_HOME"] == str(site / "flwr")
    assert said["env"]["FEDILD_SOCKET"] == str(socket_path(site))
    arguments = said["argv"]
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert "--insecure" not in arguments
    secrets = [path.read_text().strip() for path in (site / "secrets").glob("*.key")] + [(site / "secrets" / "superexec.secret").read_text()]
    assert not [secret for secret in secrets if any(secret in argument for argument in arguments)]
    assert (site / "secrets" / "superexec.secret").stat().st_mode & 0o777 == 0o600

    for name in ("resident", "supernode"):
        os.kill(first[name], signal.SIGKILL)
    wait_for(lambda: all_ready(site) and all(programs(site)[name]["pid"] != first[name] for name in ("resident", "supernode")))
    assert programs(site)["superexec"]["pid"] == first["superexec"]  # the others are left alone
    now = standing(site)
    assert (now["up"], now["restarts"], now["resident"]) == (True, 2, "running")

    with pytest.raises(BadInput, match="once in a folder"):
        supervise(site)

    logs = site / "logs"
    assert {path.name for path in logs.iterdir()} == {"up.log", "worker.log", "resident.log", "supernode.log", "superexec.log"}
    assert {path.stat().st_mode & 0o777 for path in logs.iterdir()} == {0o600}
    assert logs.stat().st_mode & 0o777 == 0o700
    for name in ("up", "worker"):
        lines = [json.loads(line) for line in (logs / f"{name}.log").read_text().splitlines()]
        assert all({"time", "level", "event"} <= set(line) for line in lines)
    assert not [path.name for path in logs.iterdir() if any(secret in path.read_text() for secret in secrets)]

    last = [state["pid"] for state in programs(site).values()]
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(timeout=30) == 0
    assert not [pid for pid in last if lives(pid)]
    assert not socket_path(site).exists()
    assert not (site / "up.json").exists()
    assert standing(site)["up"] is False
    assert AuditLog(site).verify() >= 2
    assert [entry["event"] for entry in AuditLog(site).entries()][-1] == "down"


def test_a_killed_supervisor_leaves_nobody_and_its_lock_is_taken_over(site: Path, up: Callable[[], subprocess.Popen]) -> None:
    first = up()
    wait_for(lambda: all_ready(site))
    before = [state["pid"] for state in programs(site).values()]
    first.kill()
    first.wait()
    wait_for(lambda: not [pid for pid in before if lives(pid)], seconds=20)
    second = up()
    wait_for(lambda: all_ready(site) and not set(before) & {state["pid"] for state in programs(site).values()})
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=30) == 0


def test_a_refused_supernode_dials_again_for_ever_and_says_why(site: Path, up: Callable[[], subprocess.Popen], tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    up()
    wait_for(lambda: programs(site).get("supernode", {}).get("restarts", 0) >= 4)
    assert "port" in standing(site)["refused"]
    (tmp_path / "refuse").unlink()
    wait_for(lambda: all_ready(site))


def test_what_is_not_started(site: Path) -> None:
    (site / "secrets" / "signing.key").chmod(0o644)
    with pytest.raises(Refused):
        supervise(site)
    (site / "secrets" / "signing.key").chmod(0o600)
    (site / "approvals.jsonl").write_text("x\n")
    with pytest.raises(Refused):
        supervise(site)
    (site / "approvals.jsonl").unlink()
    (site / "secrets" / "ca.crt").unlink()
    with pytest.raises(BadInput, match="joins a server"):
        programs_of(site)
    assert not (site / "up.json").exists()
