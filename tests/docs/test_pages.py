"""Every page of the repository: no dead link, no command that is not there, no block that does not parse."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from docs.gen.commands import commands, fault_of
from tests.pages import PAGES, ROOT, anchors, as_fedild, blocks, lines_of, links, said_in_text

TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
IDS = [path.relative_to(ROOT).as_posix() for path in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_no_link_is_dead(page: Path) -> None:
    dead = []
    for link in links(TEXTS[page]):
        target, _, place = link.partition("#")
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (place and place not in anchors(TEXTS[path])):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_is_one(page: Path) -> None:
    text = TEXTS[page]
    shell = [line for block in blocks(text) if block.kind in ("sh", "console") for line in lines_of(block)]
    faults = [f"{line}: {fault}" for line in shell if (found := as_fedild(line)) and (fault := fault_of(found))]
    faults += [f"{line}: {fault}" for line in said_in_text(text) if (fault := fault_of(line, whole=False))]
    assert not faults


def test_targets_and_modules_that_pages_name_are_there() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = {(page.name, name) for page, text in TEXTS.items() for name in re.findall(r"(?:`|^|&& )make ([a-z-]+)", text, re.MULTILINE)}
    assert len(named) > 20
    assert not {(page, name) for page, name in named if name not in targets}
    modules = {(page.name, name) for page, text in TEXTS.items() for name in re.findall(r"python -m (bench\.\w+|deploy\.\w+|tests\.[\w.]+)", text)}
    assert len(modules) > 5
    assert not {(page, name) for page, name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()}


def test_blocks_of_toml_and_shell_parse() -> None:
    seen = 0
    for page, text in TEXTS.items():
        for block in blocks(text):
            if block.kind == "toml":
                tomllib.loads(block.text)
            if block.kind == "sh":
                done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, timeout=20)
                assert done.returncode == 0, f"{page.name}: {done.stderr}"
            seen += 1
    assert seen > 40


def test_every_command_shows_an_example_that_it_takes() -> None:
    found = list(commands())
    assert len(found) > 45
    assert not {" ".join(words): fault for words, command in found if (fault := fault_of((command.epilog or "").removeprefix("Example: ")))}
