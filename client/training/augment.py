"""AUGMENTATIONS: random changes of a training batch, on tensors (..., y, x), drawn from the round's own generator.

`unit_hu` is how many Hounsfield units one unit of the values is worth (1 where values are HU), so that strengths are given in HU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from shared_models.core.errors import BadChoice
from shared_models.patterns import NOT_ANNOTATED

Augmentation = Callable[..., Tensor]


def _per_case(batch: Tensor, generator: Generator, low: float, high: float) -> Tensor:
    """Draw one number a case, shaped to broadcast over the batch."""
    return torch.empty((len(batch),) + (1,) * (batch.ndim - 1)).uniform_(low, high, generator=generator)


def flip(batch: Tensor, generator: Generator, unit_hu: float, *, probability: Annotated[float, Field(ge=0, le=1)] = 0.5) -> Tensor:
    """Mirror left and right. Not for tasks whose label depends on the side."""
    chosen = _per_case(batch, generator, 0, 1) < probability
    return torch.where(chosen, batch.flip(-1), batch)


def flip_up_down(batch: Tensor, generator: Generator, unit_hu: float, *, probability: Annotated[float, Field(ge=0, le=1)] = 0.5) -> Tensor:
    """Mirror front and back: for patches without an orientation."""
    chosen = _per_case(batch, generator, 0, 1) < probability
    return torch.where(chosen, batch.flip(-2), batch)


def quarter_turns(batch: Tensor, generator: Generator, unit_hu: float) -> Tensor:
    """Turn each case by 0, 90, 180 or 270 degrees: for square patches without an orientation."""
    turns = torch.randint(0, 4, (len(batch),), generator=generator)
    return torch.stack([torch.rot90(case, int(k), (-2, -1)) for case, k in zip(batch, turns, strict=True)])


def shift_hu(batch: Tensor, generator: Generator, unit_hu: float, *, hu: Annotated[float, Field(ge=0, le=500)] = 20.0) -> Tensor:
    """Add one random offset a case, uniform in -hu..hu: scanner calibration differs between hospitals."""
    return batch + _per_case(batch, generator, -hu, hu) / unit_hu


def noise(batch: Tensor, generator: Generator, unit_hu: float, *, hu: Annotated[float, Field(ge=0, le=500)] = 40.0) -> Tensor:
    """Add white noise with a standard deviation drawn for each case from 0..hu: dose differs between hospitals."""
    return batch + torch.randn(batch.shape, generator=generator) * (_per_case(batch, generator, 0, hu) / unit_hu)


def blur_or_sharpen(
    batch: Tensor,
    generator: Generator,
    unit_hu: float,
    *,
    blur: Annotated[float, Field(ge=0, le=1)] = 0.6,
    sharpen: Annotated[float, Field(ge=0, le=5)] = 0.6,
) -> Tensor:
    """Mix each case with its 3x3 binomial smoothing: a share up to `blur` softens, a negative one down to ``-sharpen`` sharpens.

    A cheap stand-in for the change of reconstruction kernel between scanners.
    """
    kernel = torch.tensor([0.25, 0.5, 0.25])
    planes = batch.reshape(-1, 1, *batch.shape[-2:])
    padded = torch.nn.functional.pad(planes, (1, 1, 1, 1), mode="replicate")
    smooth = torch.nn.functional.conv2d(torch.nn.functional.conv2d(padded, kernel.view(1, 1, 3, 1)), kernel.view(1, 1, 1, 3)).reshape(batch.shape)
    share = _per_case(batch, generator, -sharpen, blur)
    return batch + share * (smooth - batch)


def cut_out(
    batch: Tensor,
    generator: Generator,
    unit_hu: float,
    *,
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
    least: Annotated[float, Field(gt=0, le=1)] = 0.02,
    most: Annotated[float, Field(gt=0, le=1)] = 0.4,
) -> Tensor:
    """Blank one rectangle of each case with the case's mean; `least` to `most` are its share of the plane, sides as unlike as 1 to 3.

    Of maps of classes the rectangle becomes "nobody has looked": what cannot be seen is not asked for. Sources: DeVries & Taylor, Improved
    regularization of convolutional neural networks with cutout, arXiv:1708.04552; as here: Yang et al., ST++, CVPR 2022.
    """
    if least > most:
        raise BadChoice("cut_out.least is not above cut_out.most", value=least)
    drawn, share, shape, top, left = torch.rand((5, len(batch)), generator=generator)
    area, ratio = (least + (most - least) * share) * batch.shape[-2] * batch.shape[-1], 3 ** (2 * shape - 1)

    def inside(side: Tensor, at: Tensor, count: int) -> Tensor:
        side = side.round().clamp(1, count)
        first = (at * (count - side + 1)).floor()
        return (torch.arange(count) >= first[:, None]) & (torch.arange(count) < (first + side)[:, None])

    rows, columns = inside((area * ratio).sqrt(), top, batch.shape[-2]), inside((area / ratio).sqrt(), left, batch.shape[-1])
    hidden = rows[:, :, None] & columns[:, None, :] & (drawn < probability)[:, None, None]
    hidden = hidden.reshape(len(batch), *(1,) * (batch.ndim - 3), *hidden.shape[1:])
    if batch.is_floating_point():
        return torch.where(hidden, batch.flatten(1).mean(1).reshape(-1, *(1,) * (batch.ndim - 1)), batch)
    return torch.where(hidden, torch.full_like(batch, NOT_ANNOTATED), batch)


AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": flip,
    "flip_up_down": flip_up_down,
    "quarter_turns": quarter_turns,
    "shift_hu": shift_hu,
    "noise": noise,
    "blur_or_sharpen": blur_or_sharpen,
    "cut_out": cut_out,
}
MOVING = frozenset(("flip", "flip_up_down", "quarter_turns", "cut_out"))
"""Those that move or hide pixels: the targets of a batch, where they are images too, are changed along. They take any type of number."""
