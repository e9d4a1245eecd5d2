"""Which pages the site has beside those of this folder, and where links of the repository lead in it."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from docs.gen.codes import codes_page
from docs.gen.commands import commands_page
from docs.gen.recipes import recipe_pages
from docs.gen.settings import settings_pages
from docs.gen.tables import table_pages

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/nginx.md": "nginx.md",
    "LICENSE": "licence.md",
}
"""Files of the repository outside this folder, and the page that each becomes."""


def generated() -> dict[str, str]:
    """Return every generated page by its path in the site."""
    return {
        **table_pages(),
        **settings_pages(),
        **recipe_pages(),
        "reference/commands.md": commands_page(),
        "reference/codes.md": codes_page(),
    }


def outside() -> dict[str, str]:
    """Return the pages made of files outside this folder by their path in the site; what is no Markdown is shown as it is."""
    texts = {source: (ROOT / source).read_text(encoding="utf-8") for source in OUTSIDE}
    return {path: texts[one] if one.endswith(".md") else f"# Licence\n\n```text\n{texts[one]}```\n" for one, path in OUTSIDE.items()}


def navigation(nav: list[Any]) -> list[Any]:
    """Return the site's navigation with the generated pages under the headings that end in their index.

    Examples
    --------
    >>> [entry] = navigation([{"Systems": ["systems/index.md"]}])
    >>> entry["Systems"][:2]
    ['systems/index.md', {'attention_cnn': 'systems/attention_cnn.md'}]
    """
    from docs.gen.tables import PLACES
    from sim.zoo.systems import recipes

    more = {
        "Systems": [{name: f"systems/{name}.md"} for name in recipes()],
        "Reference": [{name.replace("_", " ").capitalize(): f"reference/{name}.md"} for name in PLACES],
    }
    return [{name: [*pages, *more.get(name, [])] if isinstance(pages, list) else pages for name, pages in entry.items()} for entry in nav]


def relinked(markdown: str, page: str) -> str:
    """Return a page's text with links as the site has them; `page` is its path there.

    Examples
    --------
    >>> relinked("[a](docs/ct.md#x) [b](CONTRIBUTING.md)", "index.md")
    '[a](ct.md#x) [b](contributing.md)'
    >>> relinked("[a](../deploy/nginx.md) [b](ct.md)", "deploy.md")
    '[a](nginx.md) [b](ct.md)'
    """
    sources = {path: source for source, path in OUTSIDE.items()}
    here = sources.get(page, f"docs/{page}")

    def lead(match: re.Match[str]) -> str:
        target, mark, place = match[1].partition("#")
        if "://" in target or not target:
            return match[0]
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        path = OUTSIDE.get(whole) or whole.removeprefix("docs/")
        return f"]({posixpath.relpath(path, posixpath.dirname(page) or '.')}{mark}{place})"

    return re.sub(r"\]\(([^)\s]+)\)", lead, markdown)
