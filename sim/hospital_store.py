"""Phantom hospitals made and prepared once, lent to every run that asks for the very same ones.

    <store>/<key>/hospital/      dicom/, clinical.csv, site.toml, workspace/ as its preparation left it
    <store>/<key>/truth/

The key says everything that the files depend on: seed, preset, preparation, and the code that makes and prepares. Large files are lent as hard
links (nothing writes into them), all others as copies, so that no run sees what another one leaves behind.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from client.cases.cache import code_version
from shared_models.core.files import canonical_json, sha256
from shared_models.experiment import Experiment
from sim.hospital.preset import HospitalPreset

CODE_FOLDERS = ("hospital", "phantom", "scanner")
"""Folders of `sim` whose code decides what a hospital looks like."""
LARGE = ("dicom", "cache", "truth")
"""Folders whose files are only ever replaced, never written into."""


@cache
def _phantom_code() -> str:
    digest, root = hashlib.sha256(), Path(__file__).parent
    for folder in CODE_FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}|".encode() + path.read_bytes())
    return digest.hexdigest()


def key_of(preset: HospitalPreset, experiment: Experiment) -> str:
    """Return the name of a prepared hospital: equal names, equal files.

    Examples
    --------
    >>> from sim.experiments import find
    >>> from sim.settings import simulation_of
    >>> one, other = find("vgg", []), find("vgg", ["preparation.grid_mm=[4,4,4]"])
    >>> preset = simulation_of(one).presets()[0]
    >>> key_of(preset, one) == key_of(preset, find("vgg", ["train.epochs=9"])), key_of(preset, one) == key_of(preset, other)
    (True, False)
    """
    # the order of a mix is part of it: patients are drawn class after class
    made = [experiment.seed, asdict(preset), list(preset.mix), experiment.preparation.digest, code_version(), _phantom_code()]
    return sha256(canonical_json(made).encode())[:40]


def borrow(store: Path, presets: Sequence[HospitalPreset], experiment: Experiment, out: Path) -> list[str]:
    """Lay the hospitals that the store has into a new run folder and return their names."""
    found = []
    for preset in presets:
        kept, homes = store / key_of(preset, experiment), (out / "hospitals" / preset.name, out / "truth" / preset.name)
        if not (kept / "hospital" / "workspace" / "cohort.json").exists() or any(home.exists() for home in homes):
            continue
        for part, home in zip(("hospital", "truth"), homes, strict=True):
            _lend(kept / part, home)
        found.append(preset.name)
    return found


def keep(store: Path, presets: Sequence[HospitalPreset], experiment: Experiment, out: Path) -> list[str]:
    """Take the prepared hospitals of a run, before anything was trained on them, into the store; return the names of those that were new."""
    new = []
    store.mkdir(parents=True, exist_ok=True)
    for preset in presets:
        kept = store / key_of(preset, experiment)
        if kept.exists():
            continue
        with tempfile.TemporaryDirectory(dir=store, prefix="new-") as folder:
            for part, home in (("hospital", out / "hospitals" / preset.name), ("truth", out / "truth" / preset.name)):
                _lend(home, Path(folder) / "whole" / part)
            try:
                (Path(folder) / "whole").rename(kept)
            except OSError:  # another run was faster
                continue
        new.append(preset.name)
    return new


def _lend(source: Path, target: Path) -> None:
    """Copy a folder; what is large and never written into is linked where the file system can."""

    def hand_over(one: str, other: str) -> str:
        if set(LARGE) & set(Path(one).parts[len(source.parts) - 1 :]):
            try:
                os.link(one, other)
                return other
            except OSError:  # another file system
                pass
        return str(shutil.copy2(one, other))

    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, copy_function=hand_over)
