"""The words of refusals: every code that the site's own code can raise is in the table, and no other word leaves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import client
from client.privacy.codes import CODES, FALLBACK, outward

ROOT = Path(client.__file__).parents[1]


def test_the_table_holds_every_code_of_the_site() -> None:
    raised = {
        code
        for package in ("client", "shared_models")
        for path in (ROOT / package).rglob("*.py")
        for code in re.findall(r"code\s*=\s*\"(E_[A-Z0-9_]+)\"", path.read_text(encoding="utf-8"))
    }
    assert len(raised) > 20
    assert raised <= CODES, f"add to client/privacy/codes.py: {sorted(raised - CODES)}"


@pytest.mark.parametrize("word", ["E_DOE_JONATHAN", "E_19570612", "doe", "E_", "E_few_cases"])
def test_other_words_do_not_leave(word: str) -> None:
    assert outward(word) == FALLBACK
