"""A generator that takes noise off slices, a discriminator of patches, and a classifier of what comes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared_models.blocks.adversarial import Game, taken_for
from shared_models.blocks.contrast import Contrast
from shared_models.blocks.dcgan import REAL
from shared_models.blocks.pix2pix import PatchDiscriminator
from shared_models.blocks.unet import UNet


class Denoiser(nn.Module):
    """A U-Net that says what is noise, and takes it off: residual learning (Zhang et al., DnCNN, IEEE TIP 2017). It starts by changing nothing."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.unet = UNet(1, 1, widths)
        nn.init.zeros_(self.unet.head.weight)
        if self.unet.head.bias is not None:
            nn.init.zeros_(self.unet.head.bias)

    def forward(self, slices: Tensor) -> Tensor:
        """Return slices (n, 1, y, x) with less noise."""
        return slices - self.unet(slices)


class EnhancedClassifier(Game):
    """Three players: patches are told clean from cleaned, noise is taken off, and a classifier reads the bag after it.

    Parameters
    ----------
    classifier : nn.Module
        Bags (n, k, y, x) to logits (n, outputs).
    widths : tuple of int
        Channels of the U-Net's levels.
    noise : float
        Largest standard deviation of the white noise that is added in training, as a share of the window; each slice has its own.
    likeness : float
        Weight of the mean absolute difference from the clean slice.
    contrast : tuple of float
        Part of 0..1 that the classifier sees (`Contrast`).
    """

    players = ("discriminator", "generator", "classifier")

    def __init__(
        self, classifier: nn.Module, widths: tuple[int, ...], noise: float, likeness: float, contrast: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        super().__init__()
        self.generator = Denoiser(widths)
        self.discriminator = PatchDiscriminator(1, 1, widths[:2])
        self.classifier = classifier
        self.contrast = Contrast(*contrast)
        self.noise, self.likeness = noise, likeness

    def enhance(self, bags: Tensor) -> Tensor:
        """Return bags (n, k, y, x) with less noise."""
        return self.generator(bags.flatten(0, 1).unsqueeze(1)).squeeze(1).unflatten(0, (-1, bags.shape[1]))

    def forward(self, bags: Tensor) -> Tensor:
        """Return the classifier's logits (n, outputs)."""
        return self.classifier(self.contrast(self.enhance(bags)))

    def loss_of(self, player: str, records: Tensor, labels: Tensor, foreseen: Tensor | None = None) -> Tensor:
        """Return what a player loses on each bag (n, k, y, x), shape (n,).

        The twin of a slice x is x' = x + s n, 0 <= s <= noise. The discriminator: ``BCE(D(x', x), 0.9) + BCE(D(x', G(x')), 0)``; the generator:
        ``BCE(D(x', G(x')), 1) + likeness |x - G(x')|`` (Isola et al., CVPR 2017, equation 4); the classifier: cross-entropy after G.
        """
        if player == "classifier":
            with torch.no_grad():
                seen = self.enhance(records)
            return cross_entropy(self.classifier(self.contrast(seen)), labels, reduction="none")
        clean = records.flatten(0, 1).unsqueeze(1)
        strength = self.noise * torch.rand(len(clean), 1, 1, 1, device=clean.device)
        noisy = clean + strength * torch.randn_like(clean) * (clean > 0)  # what is blanked outside the lungs has no noise
        with torch.set_grad_enabled(player == "generator"):
            cleaned = self.generator(noisy)
        judged = self.discriminator(noisy, cleaned)
        if player == "generator":
            lost = taken_for(judged, 1.0) + self.likeness * (clean - cleaned).abs().mean((1, 2, 3))
        else:
            lost = taken_for(self.discriminator(noisy, clean), REAL) + taken_for(judged, 0.0)
        return lost.unflatten(0, records.shape[:2]).mean(1)
