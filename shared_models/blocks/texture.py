"""Texture of small HRCT patches: histograms of HU and of its gradient at several scales, beside a GroupNorm CNN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.blocks.encoders import refuse_small

LUNG_LOW_HU, LUNG_HIGH_HU, TISSUE_HIGH_HU = -1030.0, -780.0, 300.0
STEEPEST_HU = 400.0
SCALES_PX = (1, 3, 7)
GRADIENT_SCALES_PX = (1, 3)


def hu_bins(bins: int) -> Tensor:
    """Centres of the HU bins: 70 % of them evenly over emphysema and normal lung, the rest ever wider up to soft tissue.

    Parameters
    ----------
    bins : int
        Number of centres, at least 8.

    Returns
    -------
    Tensor
        Ascending centres in HU, shape (bins,).

    Examples
    --------
    >>> [round(float(centre)) for centre in hu_bins(10)]
    [-1030, -994, -959, -923, -887, -851, -816, -780, -448, 300]
    """
    fine = int(bins * 0.7)
    lung = torch.linspace(LUNG_LOW_HU, LUNG_HIGH_HU, fine + 1)[:-1]
    return torch.cat([lung, LUNG_HIGH_HU + (TISSUE_HIGH_HU - LUNG_HIGH_HU) * torch.linspace(0, 1, bins - fine) ** 1.7])


def soft_histogram(values: Tensor, centres: Tensor) -> Tensor:
    """Share of the pixels at each centre, a pixel between two centres being divided linearly between both.

    Unlike a counted histogram this is continuous in the pixel values and has a gradient (the triangular kernel of Wang et al.,
    "Learnable Histogram: Statistical Context Features for Deep Neural Networks", ECCV 2016, here with fixed centres).

    Parameters
    ----------
    values : Tensor
        Float values, shape (n, ...), in the unit of the centres; those outside them count at the first or last centre.
    centres : Tensor
        Ascending centres, shape (bins,).

    Returns
    -------
    Tensor
        Shares, shape (n, bins); each row sums to 1.

    Examples
    --------
    >>> soft_histogram(torch.tensor([[-5.0, 0.0, 2.5, 40.0]]), torch.tensor([0.0, 10.0, 20.0]))
    tensor([[0.6875, 0.0625, 0.2500]])
    """
    flat = values.flatten(1).clamp(float(centres[0]), float(centres[-1]))
    left = torch.bucketize(flat, centres[1:-1], right=True)
    upper = (flat - centres[left]) / centres.diff()[left]
    counts = flat.new_zeros(flat.shape[0], len(centres)).scatter_add(1, left, 1 - upper).scatter_add(1, left + 1, upper)
    return counts / flat.shape[1]


def steepness(image: Tensor) -> Tensor:
    """Length of the central-difference gradient, HU per two pixels.

    Parameters
    ----------
    image : Tensor
        HU, shape (n, channels, y, x).

    Returns
    -------
    Tensor
        Shape (n, channels, y - 2, x - 2). One HU squared under the root keeps the derivative finite on flat ground.

    Examples
    --------
    >>> ramp = 10 * torch.arange(4.0).expand(1, 1, 4, 4)
    >>> [round(float(value), 2) for value in steepness(ramp).unique()]
    [20.02]
    """
    across = image[..., 1:-1, 2:] - image[..., 1:-1, :-2]
    down = image[..., 2:, 1:-1] - image[..., :-2, 1:-1]
    return (across**2 + down**2 + 1).sqrt()


class TextureHistograms(nn.Module):
    """Root histograms of HU and of its gradient at several scales: no weights, unchanged by flips and quarter turns.

    Parameters
    ----------
    bins : int
        HU bins a scale; the gradient histograms have half as many.

    Examples
    --------
    >>> TextureHistograms(48)(torch.full((2, 1, 31, 31), -850.0)).shape
    torch.Size([2, 192])
    """

    hu: Tensor
    steep: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("hu", hu_bins(bins), persistent=False)
        self.register_buffer("steep", STEEPEST_HU * torch.linspace(0, 1, bins // 2) ** 2, persistent=False)

    @staticmethod
    def width(bins: int) -> int:
        """Number of features a channel.

        Examples
        --------
        >>> TextureHistograms.width(48)
        192
        """
        return len(SCALES_PX) * bins + len(GRADIENT_SCALES_PX) * (bins // 2)

    def forward(self, patches: Tensor) -> Tensor:
        """Features of HU patches (n, channels, y, x), y and x at least 9: shape (n, channels * width)."""
        single = patches.flatten(0, 1)[:, None]
        rooted = []
        for scale in SCALES_PX:
            rooted.append(self._root(functional.avg_pool2d(single, scale, 1) if scale > 1 else single, self.hu))
        bounded = single.clamp(LUNG_LOW_HU, TISSUE_HIGH_HU)
        for scale in GRADIENT_SCALES_PX:
            rooted.append(self._root(steepness(functional.avg_pool2d(bounded, scale, 1) if scale > 1 else bounded), self.steep))
        return torch.cat(rooted, 1).unflatten(0, (-1, patches.shape[1])).flatten(1)

    @staticmethod
    def _root(values: Tensor, centres: Tensor) -> Tensor:
        # the root evens out the variance of shares; scaled so that an even histogram is 1, shifted to a mean near 0
        return (soft_histogram(values, centres) * len(centres) + 1e-4).sqrt() - 0.7


class PatchCNN(nn.Module):
    """The network of `shared_models.networks.patch_cnn`.

    Examples
    --------
    >>> PatchCNN(1, 6, width=16, bins=48, hidden=96, dropout=0.3)(torch.zeros(2, 1, 31, 31)).shape
    torch.Size([2, 6])
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, bins: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.histograms = TextureHistograms(bins)
        self.texture = nn.Sequential(
            nn.Dropout(dropout / 3), nn.Linear(inputs * TextureHistograms.width(bins), hidden), nn.GroupNorm(1, hidden), nn.ReLU()
        )
        self.shape = nn.Sequential(
            nn.Conv2d(2 * inputs, width, 5, stride=2, padding=2, bias=False),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.GroupNorm(4, 2 * width),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden + 2 * width, outputs))

    def forward(self, patches: Tensor) -> Tensor:
        """Logits (n, outputs) of float32 patches (n, inputs, y, x) in plain HU, y and x at least 9."""
        refuse_small(patches, 9, "patch_cnn")
        lung, wide = ((patches + 920) / 60).clamp(-2, 4), ((patches + 700) / 300).clamp(-1, 3)
        pooled = self.shape(torch.cat([lung, wide], 1)).mean((2, 3))
        return self.head(torch.cat([self.texture(self.histograms(patches)), pooled], 1))
