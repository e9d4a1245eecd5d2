"""Columns that are numbered are named by the first and the last of them: ``embedding_000..embedding_511``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_RANGE = re.compile(r"(?P<stem>.*?)(?P<first>\d+)\.\.(?P=stem)(?P<last>\d+)")
MOST = 10_000


def spelled_out(columns: Any) -> Any:
    """Return `columns` with every range in full; anything else is returned as it is.

    Raises
    ------
    ValueError
        A range that goes backwards, changes its number of digits, or holds more than 10000 columns.

    Examples
    --------
    >>> spelled_out(["age", "embedding_008..embedding_010"])
    ['age', 'embedding_008', 'embedding_009', 'embedding_010']
    """
    if not isinstance(columns, Iterable) or isinstance(columns, str):
        return columns
    found: list[Any] = []
    for column in columns:
        match = _RANGE.fullmatch(column) if isinstance(column, str) else None
        if match is None:
            found.append(column)
            continue
        first, last = match["first"], match["last"]
        if len(first) != len(last) or not 0 <= int(last) - int(first) < MOST:
            raise ValueError(f"a range of columns goes up, with as many digits at both ends, to at most {MOST}: {column!r}")
        found += [f"{match['stem']}{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return found
