"""MONAI's Swin transformer as an encoder alone: its modules under its own names, so that published weights of SwinUNETR fit, without einops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

HEADS = (3, 6, 12, 24)
"""Heads of attention by stage, as published."""


def swin_classifier(inputs: int, outputs: int, *, width: int, patch: int, window: int, depths: Sequence[int], dropout: float) -> nn.Module:
    """Return encoder, mean over places and linear layer; see `shared_models.networks.swin_unetr`."""
    from monai.networks.nets.swin_unetr import SwinTransformer

    encoder = SwinTransformer(
        in_chans=inputs, embed_dim=width, window_size=(window,) * 3, patch_size=(patch,) * 3, depths=tuple(depths), num_heads=HEADS, spatial_dims=3
    )
    for attention in [module for module in encoder.modules() if hasattr(module, "relative_position_index")]:
        index = cast("Tensor", attention.relative_position_index)
        del attention.relative_position_index
        attention.register_buffer("relative_position_index", index, persistent=False)  # it follows from the window: no weight, nothing to send
    return SwinClassifier(Encoder(encoder), 16 * width, outputs, dropout)


class Encoder(nn.Module):
    """The stages of a `SwinTransformer` one after another; gives the last map with its features normalised, (n, 16 width, z, y, x)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.swinViT: Any = encoder  # the name inside SwinUNETR

    def forward(self, x: Tensor) -> Tensor:
        """Return the last feature map."""
        x = self.swinViT.patch_embed(x)
        for stage in (self.swinViT.layers1, self.swinViT.layers2, self.swinViT.layers3, self.swinViT.layers4):
            x = _stage(stage[0], x)
        last = x.movedim(1, -1)
        return functional.layer_norm(last, last.shape[-1:]).movedim(-1, 1)


def _stage(layer: Any, x: Tensor) -> Tensor:
    """Return what MONAI's ``BasicLayer`` makes of a map (n, c, z, y, x)."""
    from monai.networks.nets.swin_unetr import compute_mask, get_window_size

    n, _, *grid = x.shape
    window, shift = get_window_size(tuple(grid), layer.window_size, layer.shift_size)
    padded = [-(-side // step) * step for side, step in zip(grid, window, strict=True)]
    mask, x = compute_mask(padded, window, shift, x.device), x.movedim(1, -1).contiguous()
    for block in layer.blocks:
        x = block(x, mask)
    x = x.view(n, *grid, -1)
    return (x if layer.downsample is None else layer.downsample(x)).movedim(-1, 1)


class SwinClassifier(nn.Module):
    """Encoder, mean over places, dropout, linear layer."""

    def __init__(self, encoder: nn.Module, features: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.encoder, self.dropout, self.head = encoder, nn.Dropout(dropout), nn.Linear(features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, shape (n, outputs)."""
        return self.head(self.dropout(self.encoder(x).flatten(2).mean(2)))
