"""The table of faults leaves no row of the design out and names no test that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.deploy.faults import FAULTS, PARAGRAPH, Elsewhere

ROOT = Path(__file__).parents[2]


def rows_of(paragraph: str) -> list[str]:
    """Split at the semicolons that stand in no bracket."""
    rows, depth, row = [], 0, ""
    for letter in " ".join(paragraph.split()).removesuffix("."):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == ";" and depth == 0:
            rows.append(row.strip())
            row = ""
        else:
            row += letter
    return [*rows, row.strip()]


def test_every_row_of_the_design_is_in_the_table_and_nothing_else() -> None:
    assert list(FAULTS) == rows_of(PARAGRAPH)


@pytest.mark.parametrize("row", FAULTS)
def test_every_row_has_a_test_that_exists_or_a_reason(row: str) -> None:
    assert FAULTS[row]
    for entry in FAULTS[row]:
        if isinstance(entry, Elsewhere):
            assert re.search(r"issue [A-Z]|needs a GPU", entry.why)
            continue
        file, name = entry.split("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        found = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)
        assert found is not None, f"{entry} is not there"
        marks = " ".join(ast.unparse(mark) for mark in found.decorator_list)
        assert "skip" not in marks and "xfail" not in marks


def test_a_name_that_is_not_there_would_be_seen() -> None:
    assert rows_of("a (b; c), d; e.") == ["a (b; c), d", "e"]
    tree = ast.parse((ROOT / "tests/deploy/test_loopback.py").read_text(encoding="utf-8"))
    assert not any(isinstance(node, ast.FunctionDef) and node.name == "test_nothing" for node in tree.body)
