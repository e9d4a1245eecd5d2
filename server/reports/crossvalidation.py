"""One page of a cross-validation: ``crossvalidation.json`` of a folder is read, ``crossvalidation.html`` written beside it."""

from __future__ import annotations

import functools
from pathlib import Path

import jinja2

from server.reports import wording
from server.reports.evaluation import environment
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_atomic

NAME = "crossvalidation.json"


def write_crossvalidation(folder: Path) -> Path:
    """Write ``crossvalidation.html`` into the folder of a cross-validation and return its path.

    Raises
    ------
    BadInput
        ``crossvalidation.json`` is missing or damaged.
    """
    try:
        found = read_json(Path(folder) / NAME)
    except (FileNotFoundError, ValueError):
        remedy = "`fedild cross-validate` into this folder goes on where it was stopped"
        raise BadInput(f"the page needs its {NAME}", value=Path(folder).name, remedy=remedy) from None
    path = Path(folder) / "crossvalidation.html"
    write_atomic(path, _template().render(found=found, metrics=list(found["pooled"])).encode(), durable=False)
    return path


@functools.cache
def _template() -> jinja2.Template:
    return environment(shown=wording.shown, metric=wording.metric_title).get_template("crossvalidation.html.j2")
