"""Markdown from plain values: tables, docstrings, and what a JSON schema allows in words."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SECTIONS = ("Parameters", "Returns", "Raises", "Examples", "Yields", "Notes", "References", "Attributes")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    r"""Return a Markdown table; without rows nothing.

    Examples
    --------
    >>> print(table(("a", "b"), [(1, "x|y")]))
    | a | b |
    |---|---|
    | 1 | x\|y |
    """
    lines = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines]) if lines else ""


def _cell(value: Any) -> str:
    return re.sub(r"\s+", " ", str(value)).strip().replace("|", "\\|")


def code(value: Any) -> str:
    """Return a value as inline code, or nothing for nothing.

    Examples
    --------
    >>> code(0.5), code(None), code("")
    ('`0.5`', '', '')
    """
    return "" if value is None or value == "" else f"`{value}`"


@dataclass(frozen=True)
class Told:
    """A docstring in parts: its first sentence, what follows, and what it says of each parameter."""

    summary: str = ""
    body: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def told(thing: Any) -> Told:
    """Take the docstring of `thing` apart.

    Examples
    --------
    >>> def blur(image, *, radius=1):
    ...     '''Blur it.
    ...
    ...     Slowly.
    ...
    ...     Parameters
    ...     ----------
    ...     radius : int
    ...         In voxels.
    ...     '''
    >>> told(blur)
    Told(summary='Blur it.', body='Slowly.', parameters={'radius': 'In voxels.'})
    """
    text = inspect.getdoc(thing) or ""
    parts = re.split(rf"(?m)^({'|'.join(SECTIONS)})\n-+\n", text)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    summary, _, body = parts[0].strip().partition("\n\n")
    return Told(plain(" ".join(summary.split())), plain(body), _parameters(sections.get("Parameters", "")))


def plain(text: str) -> str:
    r"""Return a docstring's prose as Markdown: its literal blocks are code, its double backticks single ones.

    Examples
    --------
    >>> plain("Takes ``x``::\n\n    y = x")
    'Takes `x`:\n\n    y = x'
    """
    return re.sub(r"``(.+?)``", r"`\1`", text.strip()).replace("::\n", ":\n")


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for block in re.split(r"(?m)^(?=\S)", text):
        head, _, body = block.partition("\n")
        for name in head.partition(":")[0].split(","):
            if name.strip():
                found[name.strip()] = " ".join(plain(body).split())
    return found


def allowed(schema: Mapping[str, Any]) -> str:
    """Say in words what a JSON schema takes.

    Examples
    --------
    >>> allowed({"type": "integer", "minimum": 1, "maximum": 9})
    'integer, 1 to 9'
    >>> allowed({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]})
    'number, above 0; or left out'
    >>> allowed({"type": "array", "items": {"enum": ["a", "b"]}})
    'list of: `a` or `b`'
    """
    if "anyOf" in schema:
        kinds = [allowed(part) for part in schema["anyOf"] if part.get("type") != "null"]
        return "; or ".join([*kinds, "left out"] if len(kinds) < len(schema["anyOf"]) else kinds)
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "a name and its knobs" if name == "Choice" else f"table, see [{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return "list of " + "; ".join(dict.fromkeys(allowed(part) for part in schema["prefixItems"])) + f" ({len(schema['prefixItems'])})"
        return "list of: " + allowed(schema.get("items", {}))
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return "table" + (f" of: {allowed(inner)}" if isinstance(inner, Mapping) else "")
    return f"{schema.get('type', 'anything')}{_bounds(schema)}"


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    words = []
    if low is not None and high is not None:
        words.append(f"{low:g} to {high:g}")
    elif low is not None:
        words.append(f"from {low:g}")
    elif high is not None:
        words.append(f"up to {high:g}")
    if (above := schema.get("exclusiveMinimum")) is not None:
        words.append(f"above {above:g}")
    if (below := schema.get("exclusiveMaximum")) is not None:
        words.append(f"below {below:g}")
    if (step := schema.get("multipleOf")) is not None:
        words.append(f"in steps of {step:g}")
    if (pattern := schema.get("pattern")) is not None:
        words.append(f"as `{pattern}`")
    return "".join(f", {word}" for word in words)
