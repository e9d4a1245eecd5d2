"""A conditional DCGAN over lung slices: the generator draws a slice of a class, the discriminator judges slices and names their class."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from shared_models.blocks.adversarial import Game, taken_for
from shared_models.blocks.contrast import Contrast
from shared_models.blocks.layers import group_norm
from shared_models.blocks.texture import soft_histogram

SIDE = 4
"""Pixels of the map that the generator starts from and the discriminator ends with."""
REAL = 0.9
"""What the discriminator is to say of real slices: less than certainty."""


def stages_of(size: int, width: int) -> list[int]:
    """Return the generator's channels from 4 x 4 pixels on, every stage doubling the sides, at most eight times `width`.

    Examples
    --------
    >>> stages_of(64, 64), stages_of(32, 16)
    ([512, 256, 128, 64], [64, 32, 16])
    """
    count = int(math.log2(size // SIDE))
    return [width * min(8, 2**stage) for stage in range(count - 1, -1, -1)]


def start_small(network: nn.Module) -> None:
    """Draw all convolutions from N(0, 0.02) (Radford et al., section 4)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)


class LabelledGenerator(nn.Module):
    """Noise and a class to a slice of `size` x `size` pixels: transposed convolutions of stride 2, tanh at the end."""

    def __init__(self, outputs: int, size: int, width: int, noise: int) -> None:
        super().__init__()
        self.noise = noise
        self.label = nn.Embedding(outputs, noise)
        widths = stages_of(size, width)
        layers: list[nn.Module] = [nn.ConvTranspose2d(2 * noise, widths[0], SIDE, bias=False), group_norm(widths[0]), nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False), group_norm(after), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 1, 4, stride=2, padding=1), nn.Tanh())
        start_small(self)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Return slices (n, 1, size, size) in 0..1 of noise (n, noise) and class numbers (n,)."""
        return (self.body(torch.cat([noise, self.label(labels)], dim=1)[:, :, None, None]) + 1) / 2


class NamingDiscriminator(nn.Module):
    """Judges slices given their class, and names the class: strided convolutions, no pooling between.

    GroupNorm takes the level of the intensities away, so a histogram of the slice stands beside the maps (as in `bags.SliceEncoder`): a
    generator cannot win with the wrong attenuation. The class enters by projection (Miyato & Koyama, ICLR 2018); `head` reads the same
    features, which serve a classifier (Radford et al., section 5; trained along as in Odena et al., ICML 2017).

    Parameters
    ----------
    outputs : int
        Classes.
    size, width : int
        Side of a slice, channels of the first convolution.
    bins : int
        Bins of the histogram.
    """

    centres: Tensor

    def __init__(self, outputs: int, size: int, width: int, bins: int) -> None:
        super().__init__()
        self.size, self.bins = size, bins
        layers: list[nn.Module] = []
        before = 1
        for stage, after in enumerate(reversed(stages_of(size, width))):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=not stage), *([group_norm(after)] if stage else []), nn.LeakyReLU(0.2)]
            before = after
        self.maps = nn.Sequential(*layers)
        start_small(self)
        features = before * SIDE**2 + bins
        self.register_buffer("centres", torch.linspace(0, 1, bins), persistent=False)
        self.judge = nn.Linear(features, 1)
        self.label = nn.Embedding(outputs, features)
        nn.init.normal_(self.label.weight, 0.0, 0.02)
        self.head = nn.Linear(features, outputs)

    def features(self, slices: Tensor) -> Tensor:
        """Return vectors (n, features) of slices (n, 1, y, x) in 0..1; other sides than `size` are resampled to it."""
        if slices.shape[-2:] != (self.size, self.size):
            slices = interpolate(slices, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        maps = self.maps(slices * 2 - 1)
        shares = soft_histogram(slices.float(), self.centres)  # drawn ones come in 16 bits under mixed precision
        return torch.cat([maps.flatten(1), (shares * self.bins + 0.05).sqrt()], dim=1)

    def forward(self, slices: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of being real (n, 1) and of the classes (n, outputs)."""
        features = self.features(slices)
        return self.judge(features) + (self.label(labels) * features).sum(1, keepdim=True), self.head(features)


class Dcgan(Game):
    """Both players. As a classifier it is the discriminator's: the mean over a bag's slices of the probabilities that its head gives.

    Parameters
    ----------
    outputs, size, width, noise, bins : int
        As of the players.
    naming : float
        Weight of naming the class in the losses of both.
    variety : float
        Weight of the generator's wish that other noise give another slice.
    """

    players = ("discriminator", "generator")

    def __init__(self, outputs: int, size: int, width: int, noise: int, bins: int, naming: float, variety: float) -> None:
        super().__init__()
        self.generator = LabelledGenerator(outputs, size, width, noise)
        self.discriminator = NamingDiscriminator(outputs, size, width, bins)
        self.naming, self.variety = naming, variety

    def forward(self, bags: Tensor) -> Tensor:
        """Return log-probabilities (n, outputs) of bags (n, k, y, x)."""
        named = self.discriminator.head(self.discriminator.features(bags.flatten(0, 1).unsqueeze(1)))
        return named.log_softmax(1).unflatten(0, (-1, bags.shape[1])).logsumexp(1) - math.log(bags.shape[1])

    def draw(self, labels: Tensor, slices: int, shape: tuple[int, int]) -> Tensor:
        """Return a bag of drawn slices for each label, shape (n, slices, y, x), in 0..1."""
        noise = torch.randn(len(labels) * slices, self.generator.noise, device=labels.device)
        drawn = self.generator(noise, labels.repeat_interleave(slices))
        if drawn.shape[-2:] != shape:
            drawn = interpolate(drawn, shape, mode="bilinear", antialias=True, align_corners=False)
        return drawn.squeeze(1).unflatten(0, (len(labels), slices))

    def loss_of(self, player: str, records: Tensor, labels: Tensor, foreseen: Tensor | None = None) -> Tensor:
        """Return what a player loses on each bag (n, k, y, x), the mean over its slices, shape (n,).

        The discriminator: ``BCE(D(x, y), 0.9) + BCE(D(G(z, y), y), 0) + naming CE(head(x), y)``. The generator, in the form that does not
        saturate (Goodfellow et al., NeurIPS 2014): ``BCE(D(G(z, y), y), 1) + naming CE(head(G(z, y)), y) + variety |z - z'| / |G(z, y) - G(z', y)|``,
        the last of which keeps it from drawing one slice a class (Mao et al., Mode seeking GANs, CVPR 2019, equation 5; slices in -1..1, means
        of absolute values).
        """
        slices, of_slices = records.flatten(0, 1).unsqueeze(1), labels.repeat_interleave(records.shape[1])
        with torch.set_grad_enabled(player == "generator"):
            noise = torch.randn(len(slices), self.generator.noise, device=slices.device)
            drawn = self.generator(noise, of_slices)
        judged, named = self.discriminator(drawn, of_slices)
        if player == "generator":
            lost = taken_for(judged, 1.0) + self.naming * cross_entropy(named, of_slices, reduction="none")
            if self.variety:
                other = torch.randn_like(noise)
                apart = 2 * (drawn - self.generator(other, of_slices)).abs().mean((1, 2, 3))
                lost = lost + self.variety * (noise - other).abs().mean(1) / (apart + 1e-5)
        else:
            judged_real, named = self.discriminator(slices, of_slices)
            lost = taken_for(judged_real, REAL) + taken_for(judged, 0.0) + self.naming * cross_entropy(named, of_slices, reduction="none")
        return lost.unflatten(0, records.shape[:2]).mean(1)


class AugmentedClassifier(Dcgan):
    """A conditional DCGAN and a classifier of bags that trains on what it draws beside what is real.

    Parameters
    ----------
    classifier : nn.Module
        Bags (n, k, y, x) to logits (n, outputs).
    generated : float
        Share of a batch's records that are drawn, of the same class, in place of the real ones.
    contrast : tuple of float
        Part of 0..1 that the classifier sees (`Contrast`); the players see it whole.
    outputs, size, width, noise, bins, naming, variety
        Of the DCGAN.
    """

    players = ("discriminator", "generator", "classifier")

    def __init__(
        self,
        classifier: nn.Module,
        generated: float,
        contrast: tuple[float, float],
        *,
        outputs: int,
        size: int,
        width: int,
        noise: int,
        bins: int,
        naming: float,
        variety: float,
    ) -> None:
        super().__init__(outputs, size, width, noise, bins, naming, variety)
        self.classifier = classifier
        self.generated = generated
        self.contrast = Contrast(*contrast)

    def forward(self, bags: Tensor) -> Tensor:
        """Return the classifier's logits (n, outputs)."""
        return self.classifier(self.contrast(bags))

    def loss_of(self, player: str, records: Tensor, labels: Tensor, foreseen: Tensor | None = None) -> Tensor:
        """Return as `Dcgan`; the classifier's is its cross-entropy on the batch after the exchange."""
        if player != "classifier":
            return super().loss_of(player, records, labels)
        if self.generated:
            with torch.no_grad():
                drawn = self.draw(labels, records.shape[1], (records.shape[2], records.shape[3]))
            records = torch.where(torch.rand(len(labels), 1, 1, 1, device=labels.device) < self.generated, drawn, records)
        return cross_entropy(self(records), labels, reduction="none")
