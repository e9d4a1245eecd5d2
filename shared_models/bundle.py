"""A released model: weights, card, preprocessing and label map in a folder, each file hashed, nothing executable.

manifest.json       SHA-256 of every other file, format version, and the bundle's own digest
model.safetensors   weights, sums or trees
preparation.json    how a study becomes what the model sees: preparation, inputs, model and its knobs
labels.json         class number to class name
card.json, CARD.md  what it was trained on, how well it did, what it must not be used for
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_models.core.arrays import State
from shared_models.core.errors import BadBundle
from shared_models.core.files import canonical_json, pack_state, read_json, sha256, unpack_state, write_atomic, write_json
from shared_models.experiment import Experiment

FORMAT = 1
FILES = ("model.safetensors", "preparation.json", "labels.json", "card.json", "CARD.md")
NOTICE = "Research use only. Not a medical device. Not for diagnosis, treatment or any clinical decision."


@dataclass(frozen=True)
class Bundle:
    """A released model as read from disk, every hash checked.

    Parameters
    ----------
    state : State
        Weights.
    experiment : Experiment
        The experiment it came from, without its hospitals: preparation, inputs, model and classes.
    card : dict
        The model card's values.
    digest : str
        SHA-256 over the digests of all files: the identity of the release.
    """

    state: State
    experiment: Experiment
    card: dict[str, Any]
    digest: str


def write_bundle(folder: Path, *, state: State, experiment: Experiment, card: Mapping[str, Any]) -> str:
    """Write a bundle and return its digest.

    Parameters
    ----------
    folder : Path
        New or empty; files are written atomically and the manifest last.
    state : State
        Weights.
    experiment : Experiment
        Where it comes from.
    card : mapping
        ``training`` (sites, patients, kind of data), ``performance`` (metrics of the held-out hospital), ``limits`` and further values; it
        is put beside the notice that stands on every release.
    """
    card = {**card, "notice": NOTICE, "experiment": experiment.name, "experiment_digest": experiment.digest}
    files = {
        "model.safetensors": pack_state(state),
        "preparation.json": canonical_json(experiment.for_sites().model_dump(mode="json", exclude_none=True)).encode(),
        "labels.json": canonical_json({str(number): name for number, name in enumerate(experiment.data.classes)}).encode(),
        "card.json": canonical_json(card).encode(),
        "CARD.md": card_text(card).encode(),
    }
    for name, data in files.items():
        write_atomic(folder / name, data)
    digests = {name: sha256(data) for name, data in files.items()}
    digest = sha256(canonical_json(digests).encode())
    write_json(folder / "manifest.json", {"format": FORMAT, "sha256": digests, "bundle": digest})
    return digest


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every hash.

    Raises
    ------
    BadBundle
        Naming the file that is missing or changed, or the unknown format.
    """
    try:
        manifest = read_json(folder / "manifest.json")
        if manifest["format"] != FORMAT:
            raise BadBundle(f"this version reads bundles of format {FORMAT}", value=manifest["format"], remedy="use the version that wrote it")
        data = {name: (folder / name).read_bytes() for name in FILES}
        digests = manifest["sha256"]
        changed = [name for name in FILES if sha256(data[name]) != digests[name]]
        if manifest["bundle"] != sha256(canonical_json(digests).encode()):
            changed = ["manifest.json"]
    except FileNotFoundError as error:
        raise BadBundle("a bundle must be whole", value=Path(error.filename).name, remedy="copy the whole folder again") from None
    except (ValueError, KeyError, TypeError):
        raise BadBundle("a bundle's manifest must be readable", value="manifest.json", remedy="copy the whole folder again") from None
    if changed:
        raise BadBundle("a bundle's files must match its manifest", value=changed, remedy="copy the whole folder again")
    import json

    return Bundle(
        unpack_state(data["model.safetensors"]),
        Experiment.from_json(data["preparation.json"].decode()),
        json.loads(data["card.json"]),
        manifest["bundle"],
    )


def card_text(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown: the notice first, then every value.

    Examples
    --------
    >>> print(card_text({"notice": "Research use only.", "training": {"patients": 7}}))
    # Model card
    <BLANKLINE>
    **Research use only.**
    <BLANKLINE>
    ## training
    <BLANKLINE>
    - patients: 7
    <BLANKLINE>
    """
    lines = ["# Model card", "", f"**{card.get('notice', NOTICE)}**", ""]
    for key, value in card.items():
        if key == "notice":
            continue
        lines += [f"## {key.replace('_', ' ')}", ""]
        if isinstance(value, Mapping):
            lines += [f"- {name}: {_shown(inner)}" for name, inner in value.items()]
        elif isinstance(value, list | tuple):
            lines += [f"- {_shown(inner)}" for inner in value]
        else:
            lines.append(_shown(value))
        lines.append("")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and "value" in value:
        number = value["value"]
        if number is None:
            return "undefined"
        interval = f" (95 % interval {value['low']:.3f} to {value['high']:.3f})" if value.get("low") is not None else ""
        return f"{number:.3f}{interval}, n = {value.get('n')}"
    return "unknown" if value is None else str(value)
