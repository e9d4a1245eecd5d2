"""One page of an evaluation: ``write_evaluation`` reads ``evaluation.json`` of a folder and writes ``evaluation.html`` beside it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import jinja2

from server.reports import wording
from server.reports.evaluation_plots import class_panels
from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic


def write_evaluation(folder: Path) -> Path:
    """Write ``evaluation.html`` into the folder of an evaluation and return its path.

    Raises
    ------
    BadInput
        ``evaluation.json`` is missing or damaged.
    """
    try:
        found = json.loads((Path(folder) / "evaluation.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise BadInput("the page needs its evaluation.json", value=Path(folder).name, remedy="run `fedild evaluate RUN`") from None
    path = Path(folder) / "evaluation.html"
    drawn = {name: class_panels(name, place, of) for place, (name, of) in enumerate((found.get("curves") or {}).items())}
    write_atomic(path, _template().render(found=found, drawn=drawn).encode(), durable=False)
    return path


def shade(value: float | None) -> str:
    """Return the background of a cell: the darker, the further an AUROC lies from .5; colour never says what the number does not.

    Examples
    --------
    >>> shade(None), shade(0.5), shade(1.0)
    ('transparent', 'rgba(43,108,176,0.00)', 'rgba(43,108,176,0.45)')
    """
    return "transparent" if value is None else f"rgba(43,108,176,{max(0.0, min(1.0, 2 * (value - 0.5))) * 0.45:.2f})"


def environment(**filters: Callable[..., object]) -> jinja2.Environment:
    """Return where the templates of evaluations are found, with `filters`; everything is escaped."""
    folder = Path(__file__).parent
    found = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    found.globals["css"] = (folder / "report.css").read_text(encoding="utf-8")
    found.filters.update(filters)
    return found


@functools.cache
def _template() -> jinja2.Template:
    return environment(shown=wording.shown, shade=shade, coded=wording.coded).get_template("evaluation.html.j2")
