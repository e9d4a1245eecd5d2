"""The executor: each message in a process of its own, forked from one that has imported the messenger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from client.executor import arguments_of

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, os, sys, time
import client.executor as executor, client.messenger as messenger

def main():
    os.write({pipe}, json.dumps([sys.argv, os.getpid(), open("/proc/self/comm").read().strip()]).encode() + b"\\n")
    {does}

messenger.main = main
parent, children = os.getpid(), [executor.fork(["flwr-clientapp", str(number)]) for number in range(3)]
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
last = executor.fork(["flwr-clientapp", "last"])
until = time.monotonic() + 30
while time.monotonic() < until:
    executor.bury()
    try:
        os.kill(last, 0)
    except ProcessLookupError:
        break
    time.sleep(0.02)
else:
    sys.exit("a child was left over")
executor.bury()
print(json.dumps([parent, children, codes]))
"""


def run(does: str) -> tuple[list, list, str]:
    reads, writes = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(does=does, pipe=writes)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=(writes,),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    finally:
        os.close(writes)
    with open(reads) as pipe:
        said = [json.loads(line) for line in pipe]
    return said, json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize(
    ("does", "code"), [("pass", 0), ("sys.exit(7)", 7), ("sys.exit()", 0), ("raise OSError('a text of this site')", 1), ("os._exit(3)", 3)]
)
def test_every_message_has_a_process_of_its_own(does: str, code: int) -> None:
    said, (parent, children, codes), log = run(does)
    assert sorted(one[0] for one in said) == [["flwr-clientapp", word] for word in ("0", "1", "2", "last")]
    assert {one[2] for one in said} == {"flwr-clientapp"}
    numbers = {one[1] for one in said}
    assert len(numbers) == 4
    assert parent not in numbers
    assert set(children) < numbers
    assert codes == [code] * 3
    assert ("a text of this site" in log) == ("text" in does)  # the site's own log


def test_the_command_line_is_flowers() -> None:
    from flwr.supercore.constant import TASK_TYPE_TO_APPIO_API_ADDRESS_ARG, TaskType
    from flwr.supernode.cli import flwr_clientapp

    spec = SimpleNamespace(runtime_api_address="127.0.0.1:9", token="t", insecure=True, root_certificates_path=None, parent_pid=7)
    words = arguments_of(spec)
    assert words == [
        "flwr-clientapp",
        TASK_TYPE_TO_APPIO_API_ADDRESS_ARG[TaskType.CLIENT_APP],
        "127.0.0.1:9",
        "--token",
        "t",
        "--insecure",
        "--parent-pid",
        "7",
    ]
    assert callable(flwr_clientapp)
    with_tls = arguments_of(SimpleNamespace(**{**vars(spec), "insecure": False, "root_certificates_path": "ca.crt", "parent_pid": None}))
    assert with_tls[-2:] == ["--root-certificates", "ca.crt"]


def test_a_site_starts_nothing_but_client_apps(tmp_path: Path) -> None:
    script = """
import importlib
import client.executor as executor
flower = importlib.import_module("flwr.supercore.cli.flower_superexec")

def stand_in():
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
    from types import SimpleNamespace
    one = SubprocessExecutor()
    for kind in TaskType:
        if kind is not TaskType.CLIENT_APP:
            print(kind, one.launch(SimpleNamespace(task_type=kind)).status.name)
    one.reconcile()

flower.flower_superexec = stand_in
executor.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=True
    )
    lines = done.stdout.split("\n")[:-1]
    assert len(lines) >= 4
    assert all(line.endswith("FAILED") for line in lines)
