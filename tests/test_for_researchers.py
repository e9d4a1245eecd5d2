"""The page for researchers: what it adds to a copy of the sources is taken up by the tables, and its experiments are sound."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, Block, blocks

PAGE = blocks((ROOT / "docs" / "for-researchers.md").read_text(encoding="utf-8"))
PACKAGES = ("client", "server", "shared_models", "sim")

LOOK = """
import doctest, importlib, sys
for name in sys.argv[2:]:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed, name
sys.argv = ["fedild", "check", sys.argv[1]]
from sim.cli import main
main()
"""


def added(copy: Path) -> list[str]:
    """Add what the page adds and return the new modules."""
    modules = []
    for block in PAGE:
        if block.kind == "python" and block.title.endswith(".py"):
            (copy / block.title).write_text(block.text)
            modules.append(block.title.removesuffix(".py").replace("/", "."))
        elif block.kind == "python" and block.title:
            _lines(copy / block.title.partition(",")[0], block)
    return modules


def _lines(path: Path, block: Block) -> None:
    text = path.read_text()
    for line in block.text.splitlines():
        if line.startswith("    "):  # into the first table, as its last line
            end = text.index("\n}", text.index(" = {\n"))
            text = f"{text[:end]}\n{line}{text[end:]}"
        else:  # an import, before the first one
            start = text.index("\nfrom ") + 1
            text = f"{text[:start]}{line}\n{text[start:]}"
    path.write_text(text)


def world(tmp_path: Path) -> tuple[dict[str, str], list[str]]:
    """Make the copy and the page's experiments; return the environment in which they hold, and the new modules."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for block in PAGE:
        if block.kind == "toml" and block.title:
            (tmp_path / block.title).write_text(block.text)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}, added(tmp_path)


def test_a_file_and_a_line_are_enough(tmp_path: Path) -> None:
    environment, modules = world(tmp_path)
    assert len(modules) == 3
    done = subprocess.run(
        [sys.executable, "-c", LOOK, "mine.toml", *modules], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("mine: sound; digest ")


@pytest.mark.deployment
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["density", "mine"])
def test_its_experiments_run(tmp_path: Path, name: str) -> None:
    environment, _ = world(tmp_path)
    command = [sys.executable, "-m", "sim.cli", "simulate", f"{name}.toml", "--out", "run", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "report.html").exists()
