"""Image-to-image translation by a conditional GAN: the generator draws the mask of a slice, the discriminator judges patches of both."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from shared_models.blocks.layers import group_norm
from shared_models.blocks.segmentation import overlap_loss
from shared_models.patterns import UNLABELLED


class MultiScale(nn.Module):
    """Parallel 1x1, 3x3 and 5x5 convolutions and a pooled branch, joined: several scales at the bottom of the generator."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = max(1, channels // 4)
        self.branches = nn.ModuleList(nn.Conv2d(channels, quarter, size, padding=size // 2) for size in (1, 3, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(channels, quarter, 1))
        self.join = nn.Sequential(nn.Conv2d(4 * quarter, channels, 1, bias=False), group_norm(channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the shape of `x`."""
        return self.join(torch.cat([*(branch(x) for branch in self.branches), self.pool(x)], dim=1))


class PatchDiscriminator(nn.Module):
    """Says of every patch of (slice, mask) whether the mask is a true one: logits (n, 1, y', x')."""

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = inputs + outputs
        for stage, width in enumerate(widths):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), *([group_norm(width)] if stage else []), nn.LeakyReLU(0.2)]
            before = width
        self.body = nn.Sequential(*layers, nn.Conv2d(before, 1, 3, padding=1))

    def forward(self, slices: Tensor, masks: Tensor) -> Tensor:
        """Return a logit for each patch of slices (n, inputs, y, x) and class shares (n, outputs, y, x)."""
        return self.body(torch.cat([slices * 2 - 1, masks * 2 - 1], dim=1))


def generator_loss(
    generator: nn.Module, discriminator: nn.Module, slices: Tensor, labels: Tensor, *, likeness: float = 100.0, fooling: float = 1.0
) -> Tensor:
    """Return the generator's loss of each slice, shape (n,): fool the discriminator, and be like the true mask.

    ``fooling BCE(D(x, G(x)), 1) + likeness |y - G(x)| + Dice and cross-entropy``; the discriminator's weights get gradients too, which the caller
    drops. Pixels whose label is 254 or 255 are left out: the mask is 0 there, drawn or true.

    Parameters
    ----------
    generator, discriminator : nn.Module
        The players.
    slices : Tensor, shape (n, inputs, y, x)
    labels : Tensor of whole numbers, shape (n, y, x)
    likeness, fooling : float
        Weights of the terms (100 and 1 in the paper); without `fooling` the discriminator is not asked.
    """
    logits, known = generator(slices).float(), labels < UNLABELLED
    drawn, true = logits.softmax(1) * known[:, None], _shares(labels, known, logits.shape[1])
    lost = likeness * (drawn - true).abs().mean((1, 2, 3)) + overlap_loss(logits, labels)
    if not fooling:
        return lost
    judged = discriminator(slices, drawn).float()
    return lost + fooling * binary_cross_entropy_with_logits(judged, torch.ones_like(judged), reduction="none").mean((1, 2, 3))


def discriminator_loss(generator: nn.Module, discriminator: nn.Module, slices: Tensor, labels: Tensor) -> Tensor:
    """Return the discriminator's loss of each slice, shape (n,): true masks are true, drawn ones are not."""
    known = labels < UNLABELLED
    with torch.no_grad():
        drawn = generator(slices).float().softmax(1) * known[:, None]
    real = discriminator(slices, _shares(labels, known, drawn.shape[1])).float()
    fake = discriminator(slices, drawn).float()
    yes = binary_cross_entropy_with_logits(real, torch.ones_like(real), reduction="none").mean((1, 2, 3))
    no = binary_cross_entropy_with_logits(fake, torch.zeros_like(fake), reduction="none").mean((1, 2, 3))
    return (yes + no) / 2


def _shares(labels: Tensor, known: Tensor, classes: int) -> Tensor:
    return one_hot(labels.long() * known, classes).movedim(3, 1).float() * known[:, None]
