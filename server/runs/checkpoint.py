"""Checkpoints: after every round the whole state of the run, written so that a crash leaves the old one or the new one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared_models.core.arrays import State
from shared_models.core.errors import BadInput
from shared_models.core.files import canonical_json, read_json, sha256, unpack_state, write_json, write_state

KEEP = 2
FORMAT = 1
"""Of the manifest. Manifests of before it was written have the same fields and count as 1."""


@dataclass
class RoundState:
    """Where a run stands after `round` rounds: global state, the strategy's own state, identity of the run, sites of the last round.

    There is no generator in it: every draw of a run is derived from the experiment's seed, the round and the site's name.
    """

    run: str
    round: int
    state: State
    own: State = field(default_factory=dict)
    experiment: str = ""
    roster: tuple[str, ...] = ()


def save(folder: Path, at: RoundState, *, durable: bool = True) -> None:
    """Write the checkpoint of `at.round`; the last two are kept.

    The manifest with the SHA-256 of both files is written last and names them: without it a checkpoint does not exist. Its own fields are
    hashed too (``seal``): a digit that flipped in run, round or roster is noticed like one in the weights.
    """
    here = folder / f"round-{at.round:06d}"
    digests = {
        "state": write_state(here / "state.safetensors", at.state, durable=durable),
        "own": write_state(here / "own.safetensors", at.own, durable=durable),
    }
    manifest = {"format": FORMAT, "run": at.run, "round": at.round, "experiment": at.experiment, "roster": list(at.roster), "sha256": digests}
    write_json(here / "manifest.json", {**manifest, "seal": seal_of(manifest)}, durable=durable)
    for old in sorted(folder.glob("round-*"))[:-KEEP]:
        shutil.rmtree(old)


def seal_of(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 over a manifest's own fields.

    Examples
    --------
    >>> seal_of({"round": 3, "seal": "x"}) == seal_of({"round": 3}) != seal_of({"round": 2})
    True
    """
    return sha256(canonical_json({name: value for name, value in manifest.items() if name != "seal"}).encode())


def load_latest(folder: Path, *, experiment: str) -> RoundState | None:
    """Return the newest checkpoint whose files are whole, or None when there is none.

    Raises
    ------
    BadInput
        The checkpoint belongs to another experiment, or was written by a later version: an older one beside it is not taken in its place.
    """
    for here in sorted(folder.glob("round-*"), reverse=True):
        try:
            manifest = read_json(here / "manifest.json")
            if (written := manifest.get("format", FORMAT)) != FORMAT:
                raise BadInput(
                    f"a checkpoint has format {FORMAT}", value=written, remedy="resume with the version that began the run", code="E_FORMAT"
                )
            data = {name: (here / f"{name}.safetensors").read_bytes() for name in ("state", "own")}
            whole = all(sha256(data[name]) == manifest["sha256"][name] for name in data)
            # Only a manifest of before formats were numbered has no seal.
            whole &= not {"format", "seal"} & manifest.keys() or manifest["seal"] == seal_of(manifest)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if not whole:
            continue
        if manifest["experiment"] != experiment:
            raise BadInput("a run is resumed with the experiment it was started with", remedy="use the same TOML and --set, or another --out")
        state, own, roster = unpack_state(data["state"]), unpack_state(data["own"]), tuple(manifest.get("roster", ()))
        return RoundState(manifest["run"], manifest["round"], state, own, experiment, roster)
    return None
