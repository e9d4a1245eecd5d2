"""Lung mask by a trained segmentation network: a safetensors file that carries its own normalisation runs over every slice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from client.cases.volume import Volume
from client.preprocessing.resample import resample_axis
from client.segmentation.components import Bits, close_gaps, label, sizes
from client.segmentation.lungs import COARSE_MM, MIN_LUNG_ML, coarse_steps, inside_air, spread_sides
from client.segmentation.sides import part
from shared_models.core.arrays import HU, Mask, State
from shared_models.core.choices import Choice, Section, pick
from shared_models.core.errors import BadInput, BadState, BadStudy
from shared_models.core.files import sha256, unpack_state, write_state
from shared_models.networks.segmentation import SEGMENTATION_NETWORKS

if TYPE_CHECKING:
    from torch import nn

AIR_HU = -400.0
BLOCK = 16
"""Slices that go through the network at once."""


class Normalisation(Section):
    """What a weights file says of its network and of the slices that it was trained on: stored in the file's own header.

    `outputs` counts the classes, 0 being background; any other class is lung, so a network of patterns segments the lung too. A slice is
    brought to pixels of `pixel_mm` and its `window_hu` mapped to 0..1.
    """

    network: Choice
    outputs: Annotated[int, Field(ge=2, le=64)] = 2
    pixel_mm: Annotated[float, Field(gt=0.2, le=20)]
    window_hu: tuple[float, float] = (-1024.0, 600.0)


@dataclass(frozen=True)
class Weights:
    """A network with the normalisation that its weights need."""

    network: nn.Module
    normalisation: Normalisation


def network(
    volume: Volume,
    *,
    weights: Path,
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")],
    smallest_share: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    close_mm: Annotated[float, Field(ge=0, le=30)] = 0.0,
) -> Mask:
    """Return the lung mask that a trained network finds: 0 elsewhere, 1 right lung, 2 left lung.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame.
    weights : Path
        A file written by `save_weights`: safetensors, with network and normalisation in its header.
    sha256 : str
        Digest of that file, in hexadecimal: other weights are other masks, and the cache must know.
    smallest_share : float
        Of what the network finds, the largest connected piece is kept, and further ones of at least this share of it.
    close_mm : float
        Width of the gaps to close inside each slice, millimetres.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    BadInput
        The file is missing, is another one than the digest says, or says nothing of its normalisation.
    BadStudy
        ``NO_LUNG``: what the network finds holds less than 200 mL of air inside the body.
    """
    loaded = load_weights(weights, sha256)
    steps = coarse_steps(volume, COARSE_MM)
    fz, fy, fx = steps
    voxel_ml = volume.voxel_ml * fz * fy * fx
    air, middle = inside_air(volume.hu[::fz, ::fy, ::fx], AIR_HU)
    _check(air, voxel_ml)
    found = lung_pixels(volume, loaded)
    coarse = _pieces(found[::fz, ::fy, ::fx], smallest_share)
    _check(air & coarse, voxel_ml)  # a network sees lungs in anything; lungs hold air that the body encloses
    dz, dy, dx = (a * b for a, b in zip(volume.spacing_mm, steps, strict=True))
    sides = part(close_gaps(coarse, close_mm, (dz, dy, dx)), (dz, dy, dx), middle)
    return spread_sides(sides, steps, found) if steps != (1, 1, 1) else sides


def save_weights(path: Path, state: State, normalisation: Normalisation) -> str:
    """Write the weights of a segmentation network with their normalisation, and return the SHA-256 of the file.

    Parameters
    ----------
    path : Path
        Target.
    state : State
        Parameters by name.
    normalisation : Normalisation
        Goes into the header.
    """
    return write_state(path, state, {"normalisation": normalisation.model_dump_json()})


def load_weights(path: Path, digest: str) -> Weights:
    """Read a file of `save_weights`, check it against its digest and build its network.

    Raises
    ------
    BadInput
        Missing, another file, no normalisation, or weights that do not fit the network it names.
    """
    import torch

    try:
        data = Path(path).read_bytes()
    except OSError:
        raise BadInput("the weights of a segmentation network must be a file", value=str(path), remedy="check the path") from None
    if sha256(data) != digest:
        raise BadInput("the weights file must have the SHA-256 that the experiment names", value=sha256(data), remedy="fetch the file again")
    state = unpack_state(data)
    try:
        note: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        normalisation = Normalisation.model_validate_json(note["normalisation"])
    except (KeyError, ValidationError):
        raise BadInput("a weights file must say how slices are normalised", value=Path(path).name, remedy="write it with save_weights") from None
    build = pick(SEGMENTATION_NETWORKS, normalisation.network, kind="segmentation network", get=lambda spec: spec.build)
    built = build(1, normalisation.outputs)
    try:
        built.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    except RuntimeError:
        raise BadState("the weights must fit the network that their file names", value=normalisation.network.name) from None
    return Weights(built.eval(), normalisation)


def lung_pixels(volume: Volume, weights: Weights) -> Bits:
    """Return where the network sees anything but background, on the grid of the volume.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x).
    weights : Weights
        Network and normalisation.
    """
    import torch

    normalisation = weights.normalisation
    rows, columns = volume.hu.shape[1:]
    out = np.empty(volume.hu.shape, bool)
    with torch.inference_mode():
        for first in range(0, len(out), BLOCK):
            block = normalised(volume.hu[first : first + BLOCK], volume.spacing_mm, normalisation)
            logits = weights.network(torch.from_numpy(block[:, None]))
            lung = 1 - logits.softmax(1)[:, 0].numpy()
            lung = resample_axis(lung, rows, rows * volume.spacing_mm[1] / lung.shape[1], volume.spacing_mm[1], 1)
            lung = resample_axis(lung, columns, columns * volume.spacing_mm[2] / lung.shape[2], volume.spacing_mm[2], 2)
            out[first : first + BLOCK] = lung > 0.5
    return out


def normalised(hu: HU, spacing_mm: tuple[float, float, float], normalisation: Normalisation) -> HU:
    """Return slices as the network takes them: pixels of `pixel_mm`, the window mapped to 0..1.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Hounsfield units.
    spacing_mm : tuple of float
        (z, y, x), millimetres.

    Returns
    -------
    ndarray of float32, shape (z, y', x')
    """
    low, high = normalisation.window_hu
    out = (np.clip(hu, low, high) - np.float32(low)) / np.float32(high - low)
    for axis in (1, 2):
        count = max(1, round(hu.shape[axis] * spacing_mm[axis] / normalisation.pixel_mm))
        out = resample_axis(out, count, spacing_mm[axis], spacing_mm[axis] * hu.shape[axis] / count, axis)
    return np.ascontiguousarray(out, np.float32)


def _check(air: Bits, voxel_ml: float) -> None:
    held_ml = float(air.sum()) * voxel_ml
    if held_ml < MIN_LUNG_ML:
        raise BadStudy("NO_LUNG", f"a chest CT holds at least {MIN_LUNG_ML:g} mL of air inside the body", value=round(held_ml))


def _pieces(found: Bits, smallest_share: float) -> Bits:
    labels, count = label(found)
    counts, order = sizes(labels)
    kept = np.zeros(count + 1, bool)
    kept[[k for k in order if counts[k] >= smallest_share * counts[order[0]]]] = True
    return kept[labels]
