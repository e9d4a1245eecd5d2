"""Sealing a finished run: what its folder says of experiment, code, sites and rounds goes into the signed record."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from server.runs.log import read_rounds
from shared_models.core.code import code_digest
from shared_models.core.files import read_json
from shared_models.experiment import Experiment
from shared_models.run_record import round_entries, seal
from shared_models.signing import signing_key

PACKAGES = ("client", "server", "shared_models", "sim")
"""Whose source is hashed; those that are not installed on this machine count as empty."""


def seal_run(folder: Path, *, cohorts: Mapping[str, str] | None = None, packages: Sequence[str] = PACKAGES) -> str:
    """Write ``record.jsonl`` and ``seal.json`` of a finished run and return the hash of the last entry.

    The consortium's key signs where the run lies in a server's folder; a simulation has none and seals with a key that nobody keeps.

    Parameters
    ----------
    folder : Path
        The run folder, with report and bundle.
    cohorts : mapping of str, optional
        SHA-256 of each site's cohort manifest, where it is known: a deployed site does not tell it.
    """
    experiment = Experiment.from_json((folder / "experiment.json").read_text(encoding="utf-8"))
    run, metrics = _read(folder / "run.json"), _read(folder / "metrics.json")
    manifest = _read(folder / "bundle" / "manifest.json")
    agreed = {
        "experiment": experiment.name,
        "digest": experiment.digest,
        "settings": experiment.for_sites().model_dump(mode="json", exclude_none=True),
        "code": code_digest(packages),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("fedild", "flwr", "numpy")},
    }
    sites = [{key: value for key, value in site.items() if key in ("name", "role", "cases")} for site in run.get("sites", [])]
    joined = {"run": run.get("run") or folder.name, "sites": sites, "cohorts": dict(cohorts or {}) or "not told"}
    result = {
        "bundle": manifest.get("bundle", "none"),
        "released_round": _read(folder / "release.json").get("round"),
        "privacy": experiment.privacy.model_dump(mode="json", exclude_none=True),
        "epsilon": "in each site's own ledger, which tells nobody" if experiment.privacy.at_sites else "none",
        "headline": experiment.evaluation.headline,
        "federated": metrics.get("federated", {}),
    }
    rounds = round_entries(read_rounds(folder / "rounds.jsonl"))
    secret = folder.parents[1] / "secrets" / "signing.key"
    entries = [("experiment", agreed), ("sites", joined), *rounds, ("release", result)]
    return seal(folder, entries, secret=signing_key(secret) if secret.exists() else None)


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
