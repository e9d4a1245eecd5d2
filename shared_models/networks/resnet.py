"""Residual networks in three dimensions, from MONAI, with GroupNorm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec
from shared_models.core.errors import BadChoice

if TYPE_CHECKING:
    from torch import nn


def resnet18(
    inputs: int, outputs: int, *, width: Annotated[int, Field(ge=4, le=128)] = 64, map_stride: Annotated[int, Field(ge=4, le=32)] = 32
) -> nn.Module:
    """Build ResNet-18 over volumes (n, inputs, z, y, x): four stages of two basic blocks.

    Parameters
    ----------
    inputs, outputs : int
        Channels and classes.
    width : int
        Channels of the first stage; each later stage doubles them (64 is the published net).
    map_stride : int
        Voxels of the input that one place of the last map stands for along each axis: 32 as published; 16, 8 or 4 leave out the last strides, so
        that a small volume keeps a map on which an activation map can be drawn (output stride: Chen et al., DeepLab v3, arXiv 1706.05587, without
        their dilation).

    Raises
    ------
    BadChoice
        A `map_stride` other than 4, 8, 16 and 32.

    Examples
    --------
    >>> import torch
    >>> resnet18(1, 5, width=4)(torch.zeros(1, 1, 32, 32, 32)).shape
    torch.Size([1, 5])
    >>> resnet18(1, 5, width=4, map_stride=8).layer4(torch.zeros(1, 16, 4, 4, 4)).shape
    torch.Size([1, 32, 4, 4, 4])
    """
    if map_stride not in (4, 8, 16, 32):
        raise BadChoice("model.map_stride is 4, 8, 16 or 32", value=map_stride)
    from monai.networks.nets.resnet import ResNet, ResNetBlock
    from torch import nn

    from shared_models.blocks.layers import without_batch_norm

    planes = [width, 2 * width, 4 * width, 8 * width]
    net = ResNet(ResNetBlock, [2, 2, 2, 2], planes, spatial_dims=3, n_input_channels=inputs, num_classes=outputs, conv1_t_size=7, conv1_t_stride=2)
    for name in {32: (), 16: ("layer4",), 8: ("layer3", "layer4"), 4: ("layer2", "layer3", "layer4")}[map_stride]:
        for layer in net.get_submodule(name).modules():
            if isinstance(layer, nn.Conv3d) and layer.stride == (2, 2, 2):
                layer.stride = (1, 1, 1)
    return without_batch_norm(net)


SPEC = ModelSpec(
    build=resnet18,
    takes="volume",
    fit="gradient",
    loss=cross_entropy,
    feature_map="layer4",
    representation="fc",
    source="He et al., Deep residual learning for image recognition, CVPR 2016; 3-D: Hara et al., CVPR 2018",
)
