"""A page of each table that an experiment chooses from: every entry with its text, its knobs, what they may be, and its source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from docs.gen.markdown import allowed, code, table, told
from shared_models.core.choices import knob_types, knobs_of
from sim.tables import TABLES, function_of

PLACES = {
    "models": "`[model]`",
    "strategies": "`[strategy]`",
    "statistics": "`[[statistics]]`",
    "steps": "`preparation.steps`",
    "segmenters": "`preparation.segmenter`",
    "segmentation_networks": '`[model]` of `data.target = "segmentation"`, and the segmenter `network`',
    "features": "`preparation.features`",
    "metrics": "`evaluation.headline`; all of them are in a report",
    "augmentations": "`train.augment`",
    "compressions": "`federation.compression`",
    "schedules": "`train.schedule`",
    "calibrations": "`[[calibration]]`",
    "ensembles": "`evaluation.ensemble`",
    "explanations": "`fedild predict --explanation`",
}
"""Where an experiment names an entry of each table."""


def _model(name: str, spec: Any) -> list[str]:
    del name
    heard = {"gradient": "weights travel", "adversarial": "weights of all players travel", "sums": "exact sums travel", "trees": "trees travel"}
    return [f"predicts {spec.task}", f"reads {spec.takes}", heard[spec.fit]]


def _strategy(name: str, spec: Any) -> list[str]:
    from server.combines import COMBINES

    del spec
    words = {
        "secure_sum": "secure sum",
        "patient_privacy": "privacy of patients",
        "site_privacy": "privacy of sites",
        "absence": "absent sites",
        "compression": "compression",
    }
    goes = [words[key] for key, value in COMBINES[name]._asdict().items() if value]
    return [f"goes together with {', '.join(goes) or 'none of secure sum, privacy, compression'}"]


def _metric(name: str, spec: Any) -> list[str]:
    del name
    return [spec.means, f"{spec.better} is better"]


FACTS: Mapping[str, Callable[[str, Any], list[str]]] = {"models": _model, "strategies": _strategy, "metrics": _metric}
"""What a page says of an entry beside its docstring."""


def knob_rows(function: Callable[..., Any]) -> list[tuple[str, str, str, str]]:
    """Return (knob, meaning, what it may be, default) of each keyword-only argument."""
    hints, meant = knob_types(function), told(function).parameters
    rows = []
    for name, parameter in knobs_of(function).items():
        needed = parameter.default is parameter.empty
        default = "required" if needed else code(repr(parameter.default)) if parameter.default is not None else ""
        rows.append((code(name), meant.get(name, ""), _allowed(hints.get(name)), default))
    return rows


def _allowed(hint: Any) -> str:
    try:
        return re.sub(r"table, see \[\w+\]\(#\w+\)", "table", allowed(TypeAdapter(hint).json_schema()))  # it has no heading on this page
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema):
        return code(getattr(hint, "__name__", hint))


def table_page(name: str) -> str:
    """Return the page of a table of `TABLES`."""
    entries = TABLES[name]()
    parts = [f"# {name.replace('_', ' ').capitalize()}", f"Named in {PLACES[name]}. `fedild list {name}` shows the same in a terminal."]
    for key, entry in entries.items():
        function = function_of(entry)
        text = told(function if function is not None else entry)
        parts += [f"## {key}", getattr(entry, "title", "") and f"**{entry.title}**", text.summary if function is not None else "", text.body]
        if facts := FACTS.get(name, lambda key, entry: [])(key, entry):
            parts.append("; ".join(facts).rstrip(".") + ".")
        if function is not None and name != "metrics":
            parts.append(table(("knob", "what it is", "may be", "default"), knob_rows(function)))
        if source := getattr(entry, "source", ""):
            parts.append(f"Source: {source}")
    return "\n\n".join(filter(None, map(_safe, parts))) + "\n"


def _safe(text: str) -> str:
    # A bare < would open a tag.
    return re.sub(r"<(?=[A-Za-z/!])", "&lt;", text) if "`" not in text else text


def table_pages() -> dict[str, str]:
    """Return the pages of all tables by their path in the site; recipes have pages of their own."""
    return {f"reference/{name}.md": table_page(name) for name in TABLES if name in PLACES}
