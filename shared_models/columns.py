"""Lists of columns in short: braces as in a shell stand for each of the words or numbers between them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from shared_models.core.errors import BadChoice

MOST = 20_000
"""Columns that a list may stand for: a few braces multiply into more than any memory holds."""

_RANGE = re.compile(r"(\d{1,5})\.\.(\d{1,5})")


def expanded(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that `names` stand for, in order; the last brace of a name turns fastest.

    ``{a,b}`` is each of the words, ``{0..8}`` each of the numbers, ``{000..511}`` with as many digits.

    Parameters
    ----------
    names : sequence of str
        Columns, with or without braces; braces do not nest.

    Raises
    ------
    BadChoice
        A brace that does not close, holds no list and no rising range, or more than `MOST` columns in all.

    Examples
    --------
    >>> expanded(["age", "{right,left}_mld_hu", "lbp8_{7..9}", "embedding_{08..10}"])
    ('age', 'right_mld_hu', 'left_mld_hu', 'lbp8_7', 'lbp8_8', 'lbp8_9', 'embedding_08', 'embedding_09', 'embedding_10')
    """
    found: list[str] = []
    for name in names:
        parts = re.split(r"\{([^{}]*)\}", name)
        if any("{" in part or "}" in part for part in parts[::2]):
            raise BadChoice("a brace in a column opens once and closes", value=name[:100])
        choices = [[part] if place % 2 == 0 else _words(part, name) for place, part in enumerate(parts)]
        total = 1
        for words in choices:
            total *= len(words)
            if len(found) + total > MOST:
                raise BadChoice(f"a list of columns stands for at most {MOST}", value=name[:100])
        found += ["".join(words) for words in itertools.product(*choices)]
    return tuple(found)


def of_visits(columns: Sequence[str], visits: int) -> tuple[str, ...]:
    """Return the columns of a patient's course in one row: of each visit the years since the first one, then `columns`.

    Examples
    --------
    >>> of_visits(["age"], 2)
    ('visit1_years', 'visit1_age', 'visit2_years', 'visit2_age')
    """
    return tuple(f"visit{number}_{name}" for number in range(1, visits + 1) for name in ("years", *columns))


def _words(inside: str, name: str) -> list[str]:
    if span := _RANGE.fullmatch(inside):
        first, last = int(span[1]), int(span[2])
        if first < last:
            return [str(number).zfill(len(span[1])) for number in range(first, last + 1)]
    elif "," in inside and all(inside.split(",")):
        return inside.split(",")
    raise BadChoice("braces in a column hold words with commas between, or a rising range such as 0..8", value=name[:100])
