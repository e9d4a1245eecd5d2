"""Keeping a page up to date: what has changed goes out, nothing else, and every stream ends."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from markupsafe import Markup

from server.reports import report
from shared_models.page import application
from shared_models.page.stream import MOST_KEPT, Drawings, Drawn, Streams, stamp_of


def events_of(pages: list[Drawn], *, seen: str = "", longest_s: float = 60.0) -> list[tuple[str, dict]]:
    streams = Streams(look_s=0.0, longest_s=longest_s)
    left = iter(pages)

    async def all_of_them() -> list[str]:
        return [text async for text in streams.events(lambda: next(left), seen=seen)]

    texts = asyncio.run(all_of_them())
    assert streams.open == 0
    assert texts[0].startswith("retry: ")
    return [(kind, json.loads(data)) for text in texts[1:] for kind, data in re.findall(r"event: (\w+)\ndata: (.*)\n\n", text)]


def page(over: bool = False, **parts: str) -> Drawn:
    return Drawn({name: Markup(text) for name, text in parts.items()}, over)  # noqa: S704


def test_only_what_has_changed_goes_out_and_the_end_is_told() -> None:
    first, second = page(a="1", b="1"), page(a="2\n", b="1")
    events = events_of([first, first, second, second, page(over=True, a="2\n", b="1")], seen=first.digest)
    assert events == [("parts", {"a": [second.digests["a"], "2\n"]}), ("over", {})]


def test_a_browser_with_an_older_page_gets_all_of_it() -> None:
    now = page(over=True, a="1", b="1")
    assert events_of([now], seen="older") == [("parts", {name: [now.digests[name], "1"] for name in "ab"}), ("over", {})]


def test_a_stream_ends_by_itself() -> None:
    assert events_of([], longest_s=0.0) == []


def test_ten_viewers_cost_as_much_as_one(tmp_path: Path) -> None:
    drawn: list[int] = []
    drawings, file = Drawings(), tmp_path / "file"

    def draw() -> Drawn:
        drawn.append(1)
        return page(a=str(len(drawn)))

    for _ in range(10):
        drawings.get("page", lambda: stamp_of(file), draw)
    assert len(drawn) == 1
    file.write_text("x")
    assert drawings.get("page", lambda: stamp_of(file), draw).parts["a"] == "2"
    for number in range(3 * MOST_KEPT):
        drawings.get(number, lambda: 0, draw)
    assert len(drawings._kept) == MOST_KEPT


def test_pages_have_the_colours_of_the_reports() -> None:
    ours, theirs = (
        [dict(re.findall(r"(--[a-z0-9-]+):([^;}\s]+)", block)) for block in re.findall(r":root\{([^}]*)\}", text)[:2]]
        for text in (
            (Path(application.__file__).parent / "page.css").read_text(),
            (Path(report.__file__).parent / "report.css").read_text(),
        )
    )
    assert len(ours) == 2
    for mine, reports in zip(ours, theirs, strict=True):
        assert len(mine) > 12
        assert {name: value for name, value in mine.items() if name in reports} == {name: reports[name] for name in mine}


def test_nothing_comes_from_elsewhere() -> None:
    for path in Path(application.__file__).parent.iterdir():
        if path.suffix in (".js", ".css", ".j2"):
            assert not re.search(r"https?:|//[a-z]|@import|<script>|<style|\son[a-z]+=|style=", path.read_text()), path.name
