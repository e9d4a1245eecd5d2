"""The patch network of 2x2 kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_models.blocks.encoders import refuse_small

LOW_HU, HIGH_HU = -1000.0, 200.0


class SmallKernels(nn.Module):
    """Five 2x2 convolutions of k (l + 1)^2 channels, an average over the whole map, three linear layers; no normalisation at all.

    Anthimopoulos et al., IEEE Trans Med Imaging 35(5), 2016, section III: k = 4, LeakyReLU with slope 0.3, orthogonal start, dropout 0.5.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a patch, and classes.
    k : int
        Kernels a layer grow with it.
    dropout : float
        Before each linear layer.
    """

    def __init__(self, inputs: int, outputs: int, *, k: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = inputs
        for number in range(5):
            after = k * (number + 2) ** 2
            layers += [nn.Conv2d(before, after, 2), nn.LeakyReLU(0.3)]
            before = after
        self.maps = nn.Sequential(*layers)
        self.texture = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(before, 6 * before),
            nn.LeakyReLU(0.3),
            nn.Dropout(dropout),
            nn.Linear(6 * before, 2 * before),
            nn.LeakyReLU(0.3),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * before, outputs))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(layer.weight, gain=nn.init.calculate_gain("leaky_relu", 0.3))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Return logits (n, outputs) of patches (n, inputs, y, x) in HU."""
        refuse_small(patches, 6, "ild_cnn")
        unit = ((patches - LOW_HU) / (HIGH_HU - LOW_HU)).clamp(0, 1) * 2 - 1
        return self.head(self.texture(torch.mean(self.maps(unit), (2, 3))))
