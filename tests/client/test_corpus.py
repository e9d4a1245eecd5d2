"""Everything odd, malformed and hostile at once: the command ends well, every file ends as it must, and memory stays small."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.corpus import CORPUS, folder_of, write_corpus

MAX_RSS_MB = 1024
RUN = """
import atexit, re, sys
# not ru_maxrss: that of a child begins with the size of the process it was forked from
atexit.register(lambda: print("peak", int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024))
sys.argv = ["fedild", "prepare", sys.argv[1], "--out", sys.argv[2], "--processes", "1", "--memory-mb", "0", "--seconds", "0", "--quiet"]
from sim.cli import main
main()
"""


class Prepared:
    """What one run over the whole corpus left."""

    def __init__(self, folder: Path) -> None:
        write_corpus(folder / "in")
        done = subprocess.run([sys.executable, "-c", RUN, folder / "in", folder / "out"], capture_output=True, text=True, timeout=280)
        self.code, self.text = done.returncode, done.stdout + done.stderr
        self.peak_mb = int(re.findall(r"peak (\d+)", self.text)[-1])
        self.report = json.loads((folder / "out" / "report.json").read_text())
        ends = {line["item"]: "accepted" for line in self.report["accepted"]}
        ends |= {line["item"]: line["reason"] for line in self.report["skipped"] + self.report["quarantined"]}
        self.findings = {line["item"]: {finding["code"] for finding in line["findings"]} for line in self.report["accepted"]}
        with open(folder / "out" / "items.csv", newline="", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        self.items: dict[str, set[str]] = {}
        for row in rows:
            self.items.setdefault(Path(row["path"]).relative_to(folder / "in").parts[0], set()).add(row["item"])
        self.named = {row["path"] for row in rows}
        self.ends = ends


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("corpus"))


def test_the_command_ends_well_and_memory_stays_small(prepared: Prepared) -> None:
    assert prepared.code == 0, prepared.text
    assert prepared.peak_mb <= MAX_RSS_MB
    assert "Traceback" not in prepared.text and "accepted" in prepared.text
    assert len(CORPUS) >= 40


@pytest.mark.parametrize("name", CORPUS)
def test_each_kind_ends_as_it_must(name: str, prepared: Prepared) -> None:
    kind, items = CORPUS[name], prepared.items.get(folder_of(name), set())
    assert {prepared.ends[item] for item in items} == set(kind.outcomes)
    if kind.finding:
        assert any(kind.finding in prepared.findings[item] for item in items if item in prepared.findings)


def test_every_file_is_named_with_a_reason_and_a_remedy(prepared: Prepared) -> None:
    assert all(line["reason"] and line["remedy"] for line in prepared.report["skipped"] + prepared.report["quarantined"])
    counted = sum(row["files"] for row in prepared.report["outcomes"])
    assert counted >= len(prepared.named)
