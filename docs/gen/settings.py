"""Pages of what a TOML may say: the experiment, its simulation, the site and the server, from their schemas."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from docs.gen.markdown import allowed, code, plain, table

HIDDEN = frozenset({"Choice", "Path"})
"""Parts of a schema that are no table of a TOML."""


def schema_page(title: str, lead: str, *sections: type[BaseModel]) -> str:
    """Return a page with every key of `sections` and of the tables inside them."""
    parts, seen = [f"# {title}", lead], set()
    for section in sections:
        schema = section.model_json_schema(mode="validation", by_alias=True)
        for name, part in ((section.__name__, schema), *schema.get("$defs", {}).items()):
            if name in HIDDEN or name in seen or "properties" not in part:
                continue
            seen.add(name)
            parts += [f"## {name}", _text(part), table(("key", "may be", "default"), _rows(part))]
    return "\n\n".join(filter(None, parts)) + "\n"


def _text(part: dict[str, Any]) -> str:
    return plain(part.get("description", "").partition("\nExamples\n")[0].partition("\nParameters\n")[0])


def _rows(part: dict[str, Any]) -> list[tuple[str, str, str]]:
    needed = part.get("required", ())
    return [
        (code(name), allowed(schema), "required" if name in needed else _default(schema))
        for name, schema in part["properties"].items()
        if schema.get("format") != "path"
    ]


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    return "" if value is None or (isinstance(value, dict) and "name" not in value) else code(value)


def settings_pages() -> dict[str, str]:
    """Return the pages of all settings by their path in the site."""
    from client.site import Site
    from server.folder import Server
    from shared_models.experiment import Experiment, Stage
    from sim.settings import OneTable, Patches, Phantoms, Tables

    knobs = 'Where a table takes *a name and its knobs*, the name is an entry of the page of that table: `{ name = "clip", low_hu = -1000.0 }`.'
    head = "Unknown keys are refused, and all faults are told at once: `fedild check experiment.toml`."
    return {
        "reference/experiment.md": schema_page("Experiment", f"{head} {knobs}", Experiment, Stage),
        "reference/simulation.md": schema_page(
            "Simulation",
            "`[simulation]` of an experiment: what stands in for hospitals. No site ever receives it.",
            Phantoms,
            Patches,
            Tables,
            OneTable,
        )
        + "\n"
        + _hospital(),
        "reference/site.md": schema_page("Site", "`site.toml`: what a hospital says of itself and allows. No other machine reads it.", Site),
        "reference/server.md": schema_page("Server", "`server.toml` of the consortium's server.", Server),
    }


def _hospital() -> str:
    from dataclasses import MISSING, fields

    from docs.gen.markdown import told
    from sim.hospital.preset import HospitalPreset

    meant = told(HospitalPreset).parameters
    rows = []
    for one in fields(HospitalPreset):
        default = "" if one.default is MISSING or one.default is None else code(one.default)
        rows.append((code(one.name), meant.get(one.name, ""), default))
    return (
        "## Phantom hospital\n\nKeys of `[[simulation.hospitals]]` and of `simulation.defaults`.\n\n"
        + table(("key", "what it is", "default"), rows)
        + "\n"
    )
