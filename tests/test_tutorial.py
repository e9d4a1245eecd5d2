"""The tutorial does what it says: every command is run, ends as it should, and prints what is promised.

A comment above a block says how: *slow* ones are run by the deployment test alone, from the first to the last, each in a process of its own; the
others also here, over a run that is as small as it can be.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared_models.core.errors import BadInput
from shared_models.experiment import Experiment
from sim.cli import app
from sim.deployment import running_in
from sim.simulation import simulate
from tests.pages import ROOT, Block, blocks, lines_of

TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")

SMALL = """
name = "fibrosis"
[data]
classes = ["normal", "UIP", "OP"]
[preparation]
segmenter = { name = "threshold" }
[inputs]
slices = 3
size = 32
[model]
name = "mil_cnn"
widths = [4, 8]
features = 8
[train]
batch = 6
[federation]
rounds = 1
[evaluation]
bootstrap = 20
[simulation]
held_out = ["epsilon"]
defaults = { patients = 13, grid_mm = 5.0, resolution = 6.0, mix = { normal = 1, UIP = 1, OP = 1 } }
hospitals = [
  { name = "alpha", scanner = "A" },
  { name = "beta", scanner = "B" },
  { name = "gamma", scanner = "C" },
  { name = "epsilon", scanner = "F", patients = 6 },
]
"""


def steps() -> list[tuple[Block, str]]:
    """Blocks of commands, each with what is promised below it."""
    found, after = [], [*blocks(TEXT)[1:], Block("", "", "", "")]
    for block, following in zip(blocks(TEXT), after, strict=True):
        if block.kind == "sh" and not block.note.startswith("not run"):
            found.append((block, following.text if following.kind == "text" else ""))
    return found


def broken(promise: str, printed: str) -> list[str]:
    """Return the promised lines that were not printed, in order, one after the other; … stands for anything."""
    rest, missing = " ".join(printed.split()), []
    for line in promise.splitlines():
        wanted = re.sub(r"(\\ )?…(\\ )?", ".*?", re.escape(" ".join(line.split())))
        match = re.search(wanted, rest)
        if match is None:
            missing.append(line)
        else:
            rest = rest[match.end() :]
    return missing


def ends_with(line: str) -> int:
    found = re.search(r"# ends with (\d)$", line)
    return int(found[1]) if found else 0


def made() -> list[str]:
    """Files and folders that the page says are there after its quick commands."""
    return sorted(set(re.findall(r"`(runs/(?:demo|prediction)/[^`\s]+)`", TEXT)))


def in_process(line: str) -> tuple[int, str]:
    """Run a line: a command of ours here, anything else in a shell."""
    words = shlex.split(line, comments=True)
    if words[0] != "fedild":
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr
    done = CliRunner().invoke(app, words[1:])
    if isinstance(done.exception, BadInput):
        return 2, str(done.exception)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_the_page_is_read_as_it_is_meant() -> None:
    quick = [block for block, _ in steps() if not block.note]
    assert len(steps()) >= 14 and len(quick) >= 9
    told = TEXT.count("```text")
    assert sum(bool(promise) for _, promise in steps()) == told
    assert broken("a … c\nd", "a b c and d") == [] and broken("d\na", "a d") == ["a"]
    commands = " ".join(line for block, _ in steps() for line in lines_of(block))
    for name in (
        "simulate",
        "evaluate",
        "predict",
        "verify",
        "registry add",
        "registry promote",
        "registry list",
        "registry verify",
        "federation-demo",
    ):
        assert f"fedild {name} " in commands


def test_its_quick_commands_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    simulate(Experiment.load(tmp_path / "small.toml"), tmp_path / "runs" / "demo", quiet=True, processes=2)
    monkeypatch.chdir(tmp_path)
    for block, promise in steps():
        if block.note:
            continue
        printed = ""
        for line in lines_of(block):
            code, said = in_process(line)
            assert code == ends_with(line), f"{line}\n{said}"
            printed += said
        assert not broken(promise, printed), f"{block.text}\n{printed}"
    assert len(made()) >= 8
    assert not [path for path in made() if not Path(path).exists()]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own folder: a worker's socket needs a short path.
    out = Path(tempfile.mkdtemp(prefix="ft-"))
    yield out
    shutil.rmtree(out)


@pytest.mark.deployment
@pytest.mark.timeout(3600)
def test_the_whole_of_it_from_the_first_command_to_the_last(folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    world = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    daemons: list[subprocess.Popen] = []
    try:
        for block, promise in steps():
            if "stays up" in block.note:
                [line] = lines_of(block)
                daemons.append(subprocess.Popen(shlex.split(line), cwd=folder, env=world, start_new_session=True))
                home, until = folder / shlex.split(line)[-1], time.monotonic() + 120
                while not (programs := running_in(home)) or not all(program["ready"] for program in programs.values()):
                    assert time.monotonic() < until and daemons[-1].poll() is None, "the server must be ready in time"
                    time.sleep(0.2)
                continue
            printed = ""
            for line in lines_of(block):
                done = subprocess.run(["bash", "-c", line], cwd=folder, env=world, capture_output=True, text=True, timeout=1800)
                assert done.returncode == ends_with(line), f"{line}\n{done.stdout}\n{done.stderr[-3000:]}"
                printed += done.stdout + done.stderr
            assert not broken(promise, printed), f"{block.text}\n{printed}"
        assert not [one for one in made() if not (folder / one).exists()]
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait(timeout=60)
