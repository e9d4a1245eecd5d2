"""One page of the zoo: ``write_zoo`` reads ``zoo.json`` of a folder and writes ``zoo.html`` beside it."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import jinja2

from server.reports import wording
from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic


def write_zoo(folder: Path) -> Path:
    """Write ``zoo.html`` into the folder of a zoo and return its path.

    Raises
    ------
    BadInput
        ``zoo.json`` is missing or damaged.
    """
    try:
        found = json.loads((Path(folder) / "zoo.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise BadInput("the zoo's page needs its zoo.json", value=Path(folder).name, remedy="run `fedild zoo` into this folder") from None
    path = Path(folder) / "zoo.html"
    write_atomic(path, _template().render(systems=found["systems"]).encode(), durable=False)
    return path


@functools.cache
def _template() -> jinja2.Template:
    folder = Path(__file__).parent
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals["css"] = (folder / "report.css").read_text(encoding="utf-8")
    environment.filters.update(shown=wording.shown, duration=wording.duration_text, size=wording.size_text, metric=wording.metric_title)
    return environment.get_template("zoo.html.j2")
