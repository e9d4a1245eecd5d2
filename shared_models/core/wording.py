"""How commands write what they found: the same words at the server and at a site."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def lines_of(found: dict[str, Any]) -> Iterator[str]:
    """Write values as lines, one a key.

    Examples
    --------
    >>> list(lines_of({"up": True, "sites": {"a": "approved"}, "warnings": []}))
    ['up                 yes', 'sites              a approved', 'warnings           -']
    """
    for key, value in found.items():
        if isinstance(value, dict):
            text = ", ".join(f"{name} {_word(inner)}" for name, inner in value.items())
        elif isinstance(value, list):
            text = ", ".join(map(str, value))
        else:
            text = _word(value)
        yield f"{key.replace('_', ' '):<18} {text or '-'}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)
