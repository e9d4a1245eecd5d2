"""What a hospital installs: the packages that `fedild` needs to run, with theirs, as they are installed here. No tests, no tools."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def declared() -> list[str]:
    """Return the requirements of ``pyproject.toml``."""
    return list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])


def installed() -> dict[str, importlib.metadata.Distribution]:
    """Return every distribution that is needed at run time, by normalised name, sorted."""
    found: dict[str, importlib.metadata.Distribution] = {}
    extras_done: dict[str, set[str]] = {}
    waiting = [(Requirement(text), "") for text in declared()]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        new = ({""} | requirement.extras) - extras_done.setdefault(name, set())
        if not new:
            continue
        extras_done[name] |= new
        found[name] = importlib.metadata.distribution(requirement.name)
        waiting += [(Requirement(text), one) for one in new for text in found[name].requires or ()]
    return dict(sorted(found.items()))


def needs(distribution: importlib.metadata.Distribution, among: set[str]) -> list[str]:
    """Return the names in `among` that a distribution asks for, with or without an extra."""
    names = {canonicalize_name(Requirement(text).name) for text in distribution.requires or ()}
    return sorted(names & among)


def constraints() -> dict[str, str]:
    """Return the versions of ``constraints.txt`` by normalised name."""
    lines = (ROOT / "constraints.txt").read_text().split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


DENIED = {
    "pydicom": ("<3.0.2", "parses what comes from outside: none before the version that was reviewed"),
    "monai": ("<1.6.1", "downloads, unpacks and loads files: none before the version that was reviewed"),
}
"""Versions that are never to be installed, with the reason; `tests/deploy/test_supply_chain.py` holds it."""

UNHASHED = {"torch": "builds for a processor and for each CUDA come from different indexes under one version: pin the build that you mirror"}
"""Packages that ``requirements.lock`` leaves out, with the reason."""
