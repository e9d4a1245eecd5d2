"""The shipped experiments: one TOML each in this folder."""

from __future__ import annotations

import difflib
from pathlib import Path

from shared_models.core.errors import BadChoice
from shared_models.experiment import Experiment

FOLDER = Path(__file__).parent


def shipped() -> dict[str, Path]:
    """Return the shipped experiments by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def path_of(name: str) -> Path:
    """Return the TOML of a shipped experiment, or the path itself.

    Raises
    ------
    BadChoice
        Neither a shipped name nor a file.
    """
    if name in shipped():
        return shipped()[name]
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    close = difflib.get_close_matches(name, shipped(), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise BadChoice(f"no experiment {name!r}", remedy=f"{hint}(shipped: {', '.join(shipped())}; or give the path of a TOML)")


def find(name: str, settings: list[str]) -> Experiment:
    """Load a shipped experiment or a TOML, with overrides."""
    return Experiment.load(path_of(name), settings)
