"""The supervisor with small programs in place of Flower's: restarts, back-off, order, locks, and nobody left behind."""

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

from server.folder import init_folder
from server.supervisor import programs_of
from shared_models.core.errors import BadInput
from shared_models.core.events import LOG_BYTES, event_log
from shared_models.core.locks import is_locked, lock
from shared_models.core.supervision import Program, Supervisor, marked

ROOT = Path(__file__).parents[2]
RUN = """
import sys, os
from pathlib import Path
from shared_models.core import supervision
from shared_models.core.supervision import Program, Supervisor
supervision.GRACE_S = 2.0
folder = Path(sys.argv[1])
beat = "import time,sys,pathlib\\np=pathlib.Path(sys.argv[1])\\n" \\
    "open(p,'a').write('start\\\\n')\\nwhile True: time.sleep(0.05)"
family = "import subprocess,sys,time\\nsubprocess.Popen([sys.executable,'-c','import time; time.sleep(60)'])\\ntime.sleep(60)"
stubborn = "import signal,time\\nsignal.signal(signal.SIGTERM,signal.SIG_IGN)\\ntime.sleep(60)"
programs = [
    Program("first", [sys.executable, "-c", beat, str(folder / "first.txt")], ready=lambda: (folder / "first.txt").exists(), pauses_s=(0.1,)),
    Program("family", [sys.executable, "-c", family], pauses_s=(0.1,)),
]
if len(sys.argv) > 2:
    programs.append(Program("stubborn", [sys.executable, "-c", stubborn]))
ticks = folder / "ticks.txt"
def tick():
    with open(ticks, "a") as file:
        file.write("x")
    raise ValueError("a tick that fails stops nothing")
Supervisor(folder, programs, tick=tick, tick_s=0.1).run()
"""


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.05)


def note(folder: Path) -> dict:
    try:
        return json.loads((folder / "up.json").read_text())
    except (OSError, ValueError):
        return {"programs": {}, "mark": "-"}


def pid_of(folder: Path, program: str) -> int | None:
    return note(folder)["programs"].get(program, {}).get("pid")


def ready(folder: Path, *names: str) -> bool:
    programs = note(folder)["programs"]
    return all(programs.get(name, {}).get("ready") for name in names)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    started: list[subprocess.Popen] = []

    def run(*more: str) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path), *more], env=environment, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


def events(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "logs" / "up.log").read_text().splitlines()]


def test_it_starts_in_order_ticks_when_all_is_ready_and_ends_everything(tmp_path: Path, start: Callable) -> None:
    process = start()
    wait_for(lambda: ready(tmp_path, "first", "family") and (tmp_path / "ticks.txt").exists())
    mark = note(tmp_path)["mark"]
    wait_for(lambda: len(marked(mark)) == 3)  # first, family and its child
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert marked(mark) == []
    assert not (tmp_path / "up.json").exists()
    assert not is_locked(tmp_path / "up.lock")
    names = [event["program"] for event in events(tmp_path) if event["event"] == "started"]
    assert names == ["first", "family"]
    assert "tick failed" in {event["event"] for event in events(tmp_path)}


def test_a_killed_program_comes_back_with_its_family_replaced(tmp_path: Path, start: Callable) -> None:
    start()
    wait_for(lambda: ready(tmp_path, "first", "family"))
    mark, before, other = note(tmp_path)["mark"], pid_of(tmp_path, "family"), pid_of(tmp_path, "first")
    wait_for(lambda: len(marked(mark)) == 3)
    family = {process for process in marked(mark) if os.getpgid(process) == before}
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: pid_of(tmp_path, "family") not in (None, before) and ready(tmp_path, "family"))
    wait_for(lambda: len(marked(mark)) == 3)
    assert not family & set(marked(mark)), "the child of the killed program is gone too"
    assert pid_of(tmp_path, "first") == other, "nobody else was touched"


def test_a_killed_supervisor_takes_its_programs_along_and_is_followed(tmp_path: Path, start: Callable) -> None:
    first = start()
    wait_for(lambda: ready(tmp_path, "first", "family"))
    mark = note(tmp_path)["mark"]
    wait_for(lambda: len(marked(mark)) == 3)
    first.kill()
    first.wait(10)
    wait_for(lambda: len(marked(mark)) <= 1)  # a grandchild may be left until the next one comes
    assert not is_locked(tmp_path / "up.lock")
    second = start()
    wait_for(lambda: note(tmp_path)["mark"] not in ("-", mark) and ready(tmp_path, "first", "family"))
    assert marked(mark) == []
    second.terminate()
    assert second.wait(20) == 0


def test_one_supervisor_a_folder(tmp_path: Path, start: Callable) -> None:
    start()
    wait_for(lambda: is_locked(tmp_path / "up.lock"))
    other = start()
    assert other.wait(20) != 0
    assert "runs once in a folder" in other.communicate()[1]


def test_a_program_that_will_not_end_is_killed(tmp_path: Path, start: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start("stubborn")
    wait_for(lambda: ready(tmp_path, "stubborn"))
    mark = note(tmp_path)["mark"]
    time.sleep(0.5)  # let it ignore the signal first
    began = time.monotonic()
    process.terminate()
    assert process.wait(30) == 0
    assert 2 <= time.monotonic() - began < 20
    assert marked(mark) == []


def _looks(supervisor: Supervisor, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        supervisor._look()
        time.sleep(0.02)


def _supervisor(folder: Path, *programs: Program) -> Supervisor:
    (folder / "logs").mkdir(exist_ok=True)
    return Supervisor(folder, programs)


def test_pauses_grow_and_an_exit_code_may_name_its_own(tmp_path: Path) -> None:
    ends = Program("ends", [sys.executable, "-S", "-c", "raise SystemExit(7)"], pauses_s=(0.1, 0.2, 50.0), folder=tmp_path)
    told = []

    def pause(code: int) -> float:
        told.append(code)
        return 60.0

    refused = Program("refused", [sys.executable, "-S", "-c", "raise SystemExit(49)"], pause_of=pause, folder=tmp_path)
    supervisor = _supervisor(tmp_path, ends)
    wait_for(lambda: supervisor._look() or len([e for e in events(tmp_path) if e["event"] == "ended"]) == 3)
    assert [e["again_in_s"] for e in events(tmp_path) if e["event"] == "ended"] == [0.1, 0.2, 50.0]
    assert {e["code"] for e in events(tmp_path) if e["event"] == "ended"} == {7}
    other = _supervisor(tmp_path, refused)
    wait_for(lambda: other._look() or told)
    _looks(other, 0.3)
    assert told == [49]


def test_a_program_that_is_not_ready_in_time_is_started_again(tmp_path: Path) -> None:
    never = Program("never", [sys.executable, "-S", "-c", "import time; time.sleep(60)"], ready=lambda: False, ready_s=0.5, pauses_s=(0.1,))
    supervisor = _supervisor(tmp_path, never)
    wait_for(lambda: supervisor._look() or len([e for e in events(tmp_path) if e["event"] == "started"]) == 2)
    assert "not ready in time" in {event["event"] for event in events(tmp_path)}
    supervisor._end_all()


def test_the_next_program_waits_for_the_one_before_at_the_start(tmp_path: Path) -> None:
    slow = Program("slow", [sys.executable, "-S", "-c", "import time; time.sleep(60)"], ready=lambda: (tmp_path / "go").exists())
    after = Program("after", [sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    supervisor = _supervisor(tmp_path, slow, after)
    _looks(supervisor, 0.5)
    assert [e["program"] for e in events(tmp_path) if e["event"] == "started"] == ["slow"]
    (tmp_path / "go").touch()
    _looks(supervisor, 0.5)
    assert [e["program"] for e in events(tmp_path) if e["event"] == "started"] == ["slow", "after"]
    supervisor._end_all()


def test_logs_are_cut_when_they_grow_large(tmp_path: Path) -> None:
    chatty = Program("chatty", [sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    supervisor = _supervisor(tmp_path, chatty)
    _looks(supervisor, 0.3)
    with open(tmp_path / "logs" / "chatty.log", "wb") as file:
        file.truncate(LOG_BYTES + 1)
    _looks(supervisor, 0.3)
    assert (tmp_path / "logs" / "chatty.log").stat().st_size == 0
    assert (tmp_path / "logs" / "chatty.log.1").stat().st_size == LOG_BYTES + 1
    supervisor._end_all()


def test_the_log_of_a_program_that_never_gets_ready_is_cut_too(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with open(tmp_path / "logs" / "refused.log", "wb") as file:
        file.truncate(LOG_BYTES + 1)
    refused = Program("refused", [sys.executable, "-S", "-c", "print('no')"], ready=lambda: False, pauses_s=(0.1,))
    supervisor = _supervisor(tmp_path, refused)
    _looks(supervisor, 1.0)
    assert (tmp_path / "logs" / "refused.log").stat().st_size < 1000
    assert (tmp_path / "logs" / "refused.log.1").stat().st_size == LOG_BYTES + 1
    supervisor._end_all()


def test_a_lock_names_its_holder_and_a_stale_one_cannot_exist(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.write_text("999999\n")  # left by a process that was killed
    with lock(path, what="a test"):
        assert path.read_text() == f"{os.getpid()}\n"
        assert is_locked(path)
        with pytest.raises(BadInput, match=str(os.getpid())), lock(path, what="a test"):
            pass
    assert not is_locked(path)
    with lock(path, what="a test", wait_s=1.0):
        assert is_locked(path)
    assert not is_locked(tmp_path / "none")


def test_events_are_lines_of_json(tmp_path: Path) -> None:
    log = event_log(tmp_path / "logs" / "x.log", "x")
    log.info("said", extra={"more": {"what": 'a "quote"\nand a line'}})
    (line,) = (tmp_path / "logs" / "x.log").read_text().splitlines()
    assert json.loads(line)["what"] == 'a "quote"\nand a line'


def test_no_secret_stands_in_a_command_and_nothing_listens_beyond_loopback(tmp_path: Path) -> None:
    server = init_folder(tmp_path / "server", name="c", address="a.example:1")
    programs = {program.name: program for program in programs_of(server)}
    assert list(programs) == ["superlink", "superexec", "door"]
    said = " ".join(word for program in programs.values() for word in program.command)
    for name in ("superexec.secret", "signing.key"):
        assert (server.secrets / name).read_text().strip() not in said
    superlink = list(programs["superlink"].command)
    assert superlink[superlink.index("--host") + 1] == "127.0.0.1"
    assert "--enable-supernode-auth" in superlink
    assert superlink[superlink.index("--isolation") + 1] == "process"
    assert "--disable-runtime-dependency-installation" in superlink
    assert "--insecure" not in said
    for program in programs.values():
        assert program.environment["FLWR_TELEMETRY_ENABLED"] == "0"
        assert program.environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
        assert not list(program.folder.glob("*.py")), "Flower puts the working folder first on its import path"
