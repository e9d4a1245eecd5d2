"""Frozen encoders: a network, weights from a file or said to be random, and what a study is turned into before the network reads it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, field_validator

from client.cases.prepared import Prepared
from client.features.roi import cut_out
from client.preprocessing.resample import nearest, resample_axis
from client.segmentation.components import Bits
from client.training.records import image_of
from shared_models.blocks.spec import ModelSpec
from shared_models.catalogue import build
from shared_models.core.arrays import HU
from shared_models.core.choices import Choice, Section, look_up, pick
from shared_models.core.errors import BadChoice
from shared_models.experiment import Inputs
from shared_models.networks import NETWORKS
from shared_models.pretrained import load_weights
from shared_models.representation import represent
from shared_models.weights import WeightsFile

if TYPE_CHECKING:
    from torch import nn

Encoder: TypeAlias = Choice | Annotated[str, Field(min_length=1)]
"""A name, or a table with its knobs."""

LETTERS = {"S": (0, 1), "I": (0, -1), "P": (1, 1), "A": (1, -1), "L": (2, 1), "R": (2, -1)}
"""Where an axis points to (superior, inferior, posterior ...), as the axis of our arrays, which point S, P and L, and its sense."""


class Grid(Section):
    """How a volume encoder was shown its studies: voxels of `spacing_mm` along (z, y, x), axes that point as `axes` says, `window_hu` as 0..1.

    `axes` are nibabel's and MONAI's letters: ``SPL`` for CT-FM, ``RAS`` for most others.
    """

    spacing_mm: tuple[Annotated[float, Field(gt=0.2, le=20)], Annotated[float, Field(gt=0.2, le=20)], Annotated[float, Field(gt=0.2, le=20)]]
    axes: Annotated[str, Field(pattern="^[SIPALR]{3}$")]
    window_hu: tuple[float, float]

    @field_validator("axes")
    @classmethod
    def _each_axis_once(cls, axes: str) -> str:
        if {LETTERS[letter][0] for letter in axes} != {0, 1, 2}:
            raise ValueError("axes name each direction once, as SPL and RAS do")
        return axes

    @field_validator("window_hu")
    @classmethod
    def _window_is_ordered(cls, window_hu: tuple[float, float]) -> tuple[float, float]:
        if not window_hu[0] < window_hu[1]:
            raise ValueError("window_hu goes from low to high")
        return window_hu


Normalisation: TypeAlias = Grid | Inputs
"""Of a volume encoder, or of a network of the catalogue: what it was shown."""


class EncoderWeights(WeightsFile):
    """A file of weights with what the encoder was shown when they were trained."""

    normalisation: Normalisation


def segresnet(
    *,
    width: Annotated[int, Field(ge=4, le=128)] = 32,
    blocks: Annotated[tuple[Annotated[int, Field(ge=1, le=8)], ...], Field(min_length=2, max_length=6)] = (1, 2, 2, 4, 4),
) -> tuple[int, tuple[int, ...]]:
    """Return width and blocks of SegResNet's encoder; the defaults are CT-FM's (Pai et al. 2025).

    Examples
    --------
    >>> segresnet(width=4)
    (4, (1, 2, 2, 4, 4))
    """
    return width, tuple(blocks)


ENCODERS = {"segresnet": segresnet}
"""Encoders of volumes; beside them every network of NETWORKS over slices or volumes that has a representation."""


def choice_of(encoder: object) -> Choice:
    """Return an encoder as a choice, however it was written."""
    return Choice(name=encoder) if isinstance(encoder, str) else Choice.model_validate(encoder)


@functools.lru_cache(maxsize=8)
def width_of(encoder: str) -> int:
    """Return the length of the embedding of an encoder, given as JSON.

    Raises
    ------
    BadChoice
        No such encoder, or a network without a representation of images.

    Examples
    --------
    >>> width_of('{"name": "segresnet"}')
    512
    """
    choice = Choice.model_validate_json(encoder)
    if choice.name in ENCODERS:
        width, blocks = pick(ENCODERS, choice, kind="encoder")()
        return width * 2 ** (len(blocks) - 1)
    import torch

    network, spec = _network(choice)
    shape = (1, 2, *[max(32, spec.least_px)] * 2) if spec.takes == "slices" else (1, 1, 32, 32, 32)
    with torch.inference_mode():
        return int(represent(network.eval(), str(spec.representation), torch.zeros(shape)).shape[1])


@functools.lru_cache(maxsize=2)
def encoder_of(encoder: str, weights: str, seed: int) -> nn.Module:
    """Return a frozen encoder in evaluation mode.

    Parameters
    ----------
    encoder : str
        The choice as JSON.
    weights : str
        `EncoderWeights` as JSON, or ``random``.
    seed : int
        Of random weights.

    Raises
    ------
    BadInput, BadState
        E_WEIGHTS: no such file, another hash, arrays missing, left over or of another shape.
    """
    import torch

    choice = Choice.model_validate_json(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if choice.name in ENCODERS:
            from shared_models.blocks.segresnet import segres_encoder

            network: nn.Module = segres_encoder(*pick(ENCODERS, choice, kind="encoder")())
        else:
            network = _network(choice)[0]
    if weights != "random":
        load_weights(network, EncoderWeights.model_validate_json(weights))
    return network.eval().requires_grad_(False)


def seen_by(encoder: Choice, normalisation: Normalisation | None) -> Normalisation:
    """Return what the encoder is shown, after it was checked that it is of its kind.

    Raises
    ------
    BadChoice
        A grid for a network of the catalogue, ``[inputs]`` for a volume encoder, or nothing at all.
    """
    wanted = Grid if encoder.name in ENCODERS else Inputs
    if not isinstance(normalisation, wanted):
        words = "spacing_mm, axes and window_hu" if wanted is Grid else "the keys of [inputs]: slices, size, window_hu ..."
        raise BadChoice(f"the encoder {encoder.name!r} needs a normalisation", value=type(normalisation).__name__, remedy=f"give {words}")
    return normalisation


def on_grid(prepared: Prepared, grid: Grid) -> tuple[HU, Bits]:
    """Return the box around the lungs and its mask as the encoder was shown studies: resampled, turned, the window as 0..1.

    Shape (a, b, c) in the order of `grid.axes`; an empty mask gives arrays of shape (0, 0, 0).
    """
    hu, mask = cut_out(prepared)
    if not mask.any():
        return hu, mask
    low, high = grid.window_hu
    unit = (np.clip(hu, low, high) - np.float32(low)) / np.float32(high - low)
    for axis, (old_mm, wanted_mm) in enumerate(zip(prepared.volume.spacing_mm, grid.spacing_mm, strict=True)):
        length = unit.shape[axis]
        count = max(1, round(length * old_mm / wanted_mm))
        new_mm = length * old_mm / count  # the whole box, to its last voxel
        unit = resample_axis(unit, count, old_mm, new_mm, axis)
        mask = np.take(mask, nearest(length, count, old_mm, new_mm), axis=axis)
    order = [LETTERS[letter][0] for letter in grid.axes]
    back = tuple(place for place, letter in enumerate(grid.axes) if LETTERS[letter][1] < 0)
    turned = np.ascontiguousarray(np.flip(unit.transpose(order), back), np.float32)
    return turned, np.ascontiguousarray(np.flip(mask.transpose(order), back), bool)


def image_for(prepared: Prepared, encoder: Choice, inputs: Inputs) -> np.ndarray:
    """Return what a network of the catalogue reads of a study, one record."""
    return image_of(prepared, _spec(encoder), inputs)


def representation_of(encoder: Choice) -> str:
    """Return the name of the module whose input is the network's representation."""
    return str(_spec(encoder).representation)


def _spec(choice: Choice) -> ModelSpec:
    spec = look_up(ENCODERS | NETWORKS, choice.name, kind="encoder")
    if spec.takes not in ("slices", "volume") or spec.representation is None:
        raise BadChoice("an encoder reads slices or a volume and has a representation", value=choice.name, remedy="choose another network")
    return spec


def _network(choice: Choice) -> tuple[nn.Module, ModelSpec]:
    spec = _spec(choice)
    return build(choice, inputs=1, outputs=2), spec


Weights: TypeAlias = Literal["random"] | EncoderWeights
"""Weights that were trained, or an encoder that was not: said, never fallen back to."""
