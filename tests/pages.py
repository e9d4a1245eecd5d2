"""The pages of the repository, and what stands in them: blocks, commands, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted((path for folder in (ROOT, ROOT / "docs", ROOT / "deploy") for path in folder.glob("*.md")), key=str)

BLOCK = re.compile(r"^(?:<!-- (?P<note>.*?) -->\n)?```(?P<kind>\w*)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, its title, what stands in it, and the comment above it."""

    kind: str
    title: str
    text: str
    note: str


def blocks(text: str) -> list[Block]:
    found = []
    for match in BLOCK.finditer(text):
        title = re.search(r'title="([^"]*)"', match["info"])
        found.append(Block(match["kind"], title[1] if title else "", match["text"], match["note"] or ""))
    return found


def lines_of(block: Block) -> list[str]:
    """Commands of a shell block, without blank lines and lines that are a comment."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def as_fedild(line: str) -> str:
    """A line as the command that it calls; the empty word when it calls none."""
    for short, long in (("fedild-site ", "fedild site "), ("fedild-server ", "fedild server ")):
        if line.startswith(short):
            return long + line.removeprefix(short)
    line = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line)
    return line if line.startswith("fedild ") else ""


def without_blocks(text: str) -> str:
    return BLOCK.sub("", text)


def said_in_text(text: str) -> list[str]:
    """Commands in running text and tables."""
    return [found for one in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", without_blocks(text)) if (found := as_fedild(one.replace("\\|", "|")))]


def anchors(text: str) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    heads = re.findall(r"(?m)^#{1,6} (.+?)\s*$", without_blocks(text))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", without_blocks(text))
