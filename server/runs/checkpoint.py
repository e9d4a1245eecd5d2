"""Checkpoints: after every round the whole state of the run, written so that a crash leaves the old one or the new one."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, FedILDError
from shared_models.core.files import canonical_json, read_json, read_state, sha256, unpack_state, write_json, write_state

KEEP = 2
LOOP = "loop/"
"""Before the keys of `RoundState.loop` in the file of the strategy's own state."""
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
    loop: State = field(default_factory=dict)
    """What the loop over rounds itself has to remember: who is at work on an earlier round, which round was the best."""


def save(folder: Path, at: RoundState, *, durable: bool = True, keep: Collection[int] = ()) -> None:
    """Write the checkpoint of `at.round`; the last two are kept, and those of the rounds in `keep`.

    The manifest with the SHA-256 of both files is written last and names them: without it a checkpoint does not exist. Its own fields are
    hashed too (``seal``): a digit that flipped in run, round or roster is noticed like one in the weights.
    """
    here = folder / f"round-{at.round:06d}"
    digests = {
        "state": write_state(here / "state.safetensors", at.state, durable=durable),
        "own": write_state(here / "own.safetensors", {**at.own, **{LOOP + key: value for key, value in at.loop.items()}}, durable=durable),
    }
    manifest = {"format": FORMAT, "run": at.run, "round": at.round, "experiment": at.experiment, "roster": list(at.roster), "sha256": digests}
    write_json(here / "manifest.json", {**manifest, "seal": seal_of(manifest)}, durable=durable)
    for old in sorted(folder.glob("round-*"))[:-KEEP]:
        if old.name not in {f"round-{number:06d}" for number in keep}:
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
        state, both, roster = unpack_state(data["state"]), unpack_state(data["own"]), tuple(manifest.get("roster", ()))
        own = {key: value for key, value in both.items() if not key.startswith(LOOP)}
        loop = {key.removeprefix(LOOP): value for key, value in both.items() if key.startswith(LOOP)}
        return RoundState(manifest["run"], manifest["round"], state, own, experiment, roster, loop)
    return None


def load_state(run: Path, round: int) -> State | None:
    """Return the global state after `round` from a run folder: of its checkpoint, for round 0 of its start; None when it is not whole."""
    try:
        if round == 0:
            return read_state(run / "start.safetensors")
        here = run / "checkpoints" / f"round-{round:06d}"
        data = (here / "state.safetensors").read_bytes()
        return unpack_state(data) if sha256(data) == read_json(here / "manifest.json")["sha256"]["state"] else None
    except (OSError, ValueError, KeyError, TypeError, FedILDError):
        return None
