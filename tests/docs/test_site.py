"""The site: what is generated is whole, what is linked is there, and no reader's browser asks another machine for anything."""

from __future__ import annotations

import functools
import posixpath
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from docs.gen.recipes import recipe_of
from docs.gen.site import OUTSIDE, generated, outside, relinked
from docs.gen.tables import PLACES
from sim.tables import TABLES
from sim.zoo.systems import recipes
from tests.pages import ROOT, links


@functools.cache
def pages() -> dict[str, str]:
    return {**{path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}, **outside(), **generated()}


def test_every_entry_of_every_table_has_its_place() -> None:
    assert set(PLACES) == set(TABLES) - {"experiments"}
    for table in PLACES:
        text = pages()[f"reference/{table}.md"]
        assert all(f"\n## {name}\n" in text for name in TABLES[table]()), table
    assert "| `epochs` | integer, 1 to 1000 | `1` |" in pages()["reference/experiment.md"]
    assert "| `min_cases` | integer, from 1 | `10` |" in pages()["reference/site.md"]
    assert "| `E_FEW_CASES` |" in pages()["reference/codes.md"]
    assert "\n## fedild registry promote\n" in pages()["reference/commands.md"]


def test_no_page_is_left_out_and_every_link_leads_to_one() -> None:
    named = set(re.findall(r"(?m)^ +- (?:.+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text()))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} | set(OUTSIDE.values()) <= named
    dead = []
    for page, text in pages().items():
        for link in links(relinked(text, page)):
            target = link.partition("#")[0]
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
            if target and "://" not in target and path not in pages() and not (ROOT / "docs" / path).is_file():
                dead.append((page, link))
    assert not dead


def test_every_system_says_whose_figures_are_whose_and_shows_its_picture() -> None:
    assert len(recipes()) > 30
    for name in recipes():
        text, recipe = pages()[f"systems/{name}.md"], recipe_of(name)
        assert recipe.source and "not by us" not in recipe.source, name
        assert not recipe.reported or "not by us" in recipe.reported, name
        assert '!!! quote "Theirs, not ours"' in text and f"fedild simulate {name} --out runs/{name}" in text
        [drawn] = re.findall(r"<svg.*?</svg>", text)
        picture = ElementTree.fromstring(drawn)  # noqa: S314 - made here
        width, height = map(float, picture.attrib["viewBox"].split()[2:])
        for words in picture.iter("text"):
            x, middle = float(words.attrib["x"]), "sp-middle" in words.attrib["class"]
            half = 3.3 * len(words.text or "")  # letters of 12 pixels are some 6.6 wide
            low, high = (x - half, x + half) if middle else (x - 2 * half, x) if "sp-end" in words.attrib["class"] else (x, x + 2 * half)
            assert low >= 0 and high <= width and 0 < float(words.attrib["y"]) < height, (name, words.text)


@pytest.mark.deployment
@pytest.mark.timeout(900)
def test_the_built_site_asks_nobody_and_finds_from_a_folder_of_files(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        asked, faults = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        for name in ("index", "tutorial", "systems/mufinet", "reference/strategies"):
            page.goto((tmp_path / f"{name}.html").as_uri())
        page.click("label.md-header__button[for=__search]") if page.is_visible("label.md-header__button[for=__search]") else None
        page.fill("input.md-search__input", "scaffold")
        page.wait_for_selector(".md-search-result__item", timeout=30_000)
        browser.close()
    assert not faults
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))]
