"""What mkdocs calls while it builds: pages that are generated, pages that lie outside this folder, and links between them.

mkdocs loads this file by its path, so what it calls is imported where it is needed, from the repository's root.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parents[2]))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name the generated pages in the navigation."""
    from docs.gen.site import navigation

    config.nav = navigation(list(config.nav or []))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is generated and what lies outside of the folder of pages."""
    from docs.gen.site import generated, outside

    for path, text in (generated() | outside()).items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links that hold in the repository to where the site has those pages."""
    from docs.gen.site import relinked

    return relinked(markdown, page.file.src_uri)
