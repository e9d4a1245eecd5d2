"""The architectures at full width against what their authors and their well-known weights say: numbers of weights, layers, sizes of maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared_models.blocks.dense_maps import DenseMaps
from shared_models.blocks.fusion_maps import MultiKernelMaps, ParallelScaleMaps
from shared_models.blocks.inception_maps import GoogLeNetMaps
from shared_models.blocks.inception_residual_maps import inception_residual_maps
from shared_models.blocks.mobile_maps import mobile_maps
from shared_models.blocks.plain_maps import alexnet_maps, compact_vgg_maps, vgg_maps
from shared_models.blocks.residual_maps import ResidualMaps
from shared_models.blocks.small_kernels import SmallKernels
from shared_models.blocks.transformer import TransformerEncoder
from shared_models.catalogue import build
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice

# Published numbers of weights with the classifier of 1000 classes, less that classifier: what is left when its place is taken by a mean.
PUBLISHED = {
    # three fully connected layers: 512 x 7 x 7 -> 4096 -> 4096 -> 1000
    "vgg16": (lambda: vgg_maps(3, 16, 64, "none")[0], 138_357_544 - 123_642_856, 13, 512, 7),
    "vgg19": (lambda: vgg_maps(3, 19, 64, "none")[0], 143_667_240 - 123_642_856, 16, 512, 7),
    # 256 x 6 x 6 -> 4096 -> 4096 -> 1000
    "alexnet": (lambda: alexnet_maps(3, 64, "none")[0], 61_100_840 - 58_631_144, 5, 256, 6),
    "googlenet": (lambda: GoogLeNetMaps(3, 64, 3, "batch"), 6_624_904 - 1_025_000, 57, 1024, 7),
    "inception_resnet_v2": (lambda: inception_residual_maps(3, (10, 20, 9), 32, "batch")[0], 55_843_464 - 1_537_000, 244, 1536, 5),
    "resnet50": (lambda: ResidualMaps(3, (3, 4, 6, 3), 64, "batch"), 25_557_032 - 2_049_000, 53, 2048, 7),
    "mobilenet_v3_small": (lambda: mobile_maps(3, 16, "batch")[0], 2_542_856 - 1_615_848, 52, 576, 7),
    "densenet169": (lambda: DenseMaps(3, (6, 12, 32, 32), growth=32, first=64, norm="batch"), 14_149_480 - 1_665_000, 168, 1664, 7),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_as_published(name: str) -> None:
    make, weights, convolutions, channels, side = PUBLISHED[name]
    with torch.device("meta"):
        maps = make()
        assert maps(torch.zeros(1, 3, 224, 224)).shape == (1, channels, side, side)
    assert sum(weight.numel() for weight in maps.parameters()) == weights
    assert sum(isinstance(layer, nn.Conv2d) for layer in maps.modules()) == convolutions


def test_names_are_those_of_published_files() -> None:
    keys = {
        "layer1.0.downsample.0.weight": ResidualMaps(3, (1, 1), 4, "batch"),
        "denseblock1.denselayer2.conv2.weight": DenseMaps(3, (2,), growth=4, first=8, norm="batch"),
        "inception3a.branch2.1.bn.running_mean": GoogLeNetMaps(3, 4, 3, "batch"),
        "repeat_1.0.branch1.2.conv.weight": inception_residual_maps(3, (1, 1, 1), 4, "batch")[0],
        "8.block.2.fc1.bias": mobile_maps(3, 16, "batch")[0],
        "28.weight": vgg_maps(3, 16, 4, "none")[0],
        "10.bias": alexnet_maps(3, 4, "none")[0],
    }
    for key, maps in keys.items():
        assert key in maps.state_dict(), key


def test_group_norm_has_the_weights_of_batch_norm() -> None:
    for make in (lambda norm: ResidualMaps(1, (1, 1), 8, norm), lambda norm: DenseMaps(1, (2, 2), growth=8, first=16, norm=norm)):
        group, batch = make("group"), make("batch")
        assert dict(group.named_parameters()).keys() == dict(batch.named_parameters()).keys()
        assert not list(group.buffers())


def test_the_patch_network_is_as_its_formula_says() -> None:
    k, classes, before, total = 4, 7, 1, 0
    for layer in range(1, 6):
        after = k * (layer + 1) ** 2
        total += 4 * before * after + after
        before = after
    total += before * 864 + 864 + 864 * 288 + 288 + 288 * classes + classes
    network = SmallKernels(1, classes, k=k, dropout=0.5)
    assert sum(weight.numel() for weight in network.parameters()) == total == 471_567
    assert network.maps(torch.zeros(1, 1, 32, 32)).shape == (1, 144, 27, 27)
    first = network.maps[2].weight.detach().flatten(1)
    products = first @ first.T
    torch.testing.assert_close(products, products[0, 0] * torch.eye(len(first)), atol=1e-5, rtol=1e-5)


def test_the_compact_vgg_has_the_channels_of_the_paper() -> None:
    maps, channels = compact_vgg_maps(3, 32, "batch", 0.25)
    assert [layer.out_channels for layer in maps if isinstance(layer, nn.Conv2d)] == [32, 64, 64, 128, 128]
    assert maps(torch.zeros(1, 3, 96, 96)).shape == (1, channels, 8, 8)


def test_every_branch_of_the_parallel_network_is_heard() -> None:
    torch.manual_seed(0)
    maps = ParallelScaleMaps(1, (8, 8, 8), 2, "group").eval()
    x = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        whole = maps(x)
        for branch in range(3):
            hook = maps.branches[0][branch].register_forward_hook(lambda module, given, out: torch.zeros_like(out))
            assert float((maps(x) - whole).abs().max()) > 1e-3
            hook.remove()
        means = whole.mean((2, 3))
    assert means.shape == (1, 24)


def test_every_kernel_of_mufinet_is_heard() -> None:
    torch.manual_seed(0)
    maps = MultiKernelMaps(1, 8, "group").eval()
    x = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        whole = maps(x)
        for stem in maps.stems:
            hook = stem.register_forward_hook(lambda module, given, out: torch.zeros_like(out))
            assert float((maps(x) - whole).abs().max()) > 1e-3
            hook.remove()


class TestTransformer:
    def encoder(self, *, place: bool = True) -> TransformerEncoder:
        torch.manual_seed(0)
        trunk = nn.Conv2d(1, 16, 8, stride=8)
        return TransformerEncoder(trunk, 16, width=16, layers=2, heads=4, grid=4, place=place, dropout=0.0, inputs=1, least_px=8, name="vit").eval()

    def test_attention_is_a_share_of_every_token(self) -> None:
        vectors, seen = self.encoder().look(torch.rand(3, 1, 32, 24))
        assert vectors.shape == (3, 16)
        assert [weights.shape for weights in seen] == [(3, 4, 13, 13)] * 2
        for weights in seen:
            torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 13))

    def test_against_the_library(self) -> None:
        attention = self.encoder().layers[0].attention
        library = nn.MultiheadAttention(16, 4, batch_first=True)
        ours = {"in_proj_weight": attention.ask.weight, "in_proj_bias": attention.ask.bias}
        library.load_state_dict({**ours, "out_proj.weight": attention.out.weight, "out_proj.bias": attention.out.bias})
        x = torch.rand(2, 5, 16)
        out, weights = library(x, x, x, average_attn_weights=False)
        torch.testing.assert_close(attention(x)[0], out, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(attention(x)[1], weights, atol=1e-6, rtol=1e-5)

    def test_without_places_the_order_of_the_pieces_says_nothing(self) -> None:
        x = torch.rand(1, 1, 32, 32)
        turned = torch.cat([x[..., 16:], x[..., :16]], dim=-1)
        with torch.inference_mode():
            blind, sighted = self.encoder(place=False), self.encoder()
            torch.testing.assert_close(blind(turned), blind(x), atol=1e-5, rtol=1e-4)
            assert float((sighted(turned) - sighted(x)).abs().max()) > 1e-4

    def test_heads_that_do_not_share_the_width(self) -> None:
        with pytest.raises(BadChoice, match="share its width evenly"):
            build(Choice.model_validate({"name": "vit", "width": 16, "heads": 3}), inputs=1, outputs=2)


@pytest.mark.parametrize(("stride", "side"), [(32, 2), (16, 4), (8, 8), (4, 16)])
def test_a_network_of_volumes_keeps_a_map_of_the_size_that_is_asked_for_and_its_weights(stride: int, side: int) -> None:
    choice = {"name": "resnet18", "width": 4}
    published = build(Choice.model_validate(choice), inputs=1, outputs=2)
    network = build(Choice.model_validate({**choice, "map_stride": stride}), inputs=1, outputs=2)
    assert {key: value.shape for key, value in network.state_dict().items()} == {key: value.shape for key, value in published.state_dict().items()}
    held: list[torch.Size] = []
    network.get_submodule("layer4").register_forward_hook(lambda module, given, out: held.append(out.shape))
    with torch.device("meta"), torch.inference_mode():
        network.to("meta")(torch.zeros(1, 1, 64, 64, 64))
    assert held == [(1, 32, side, side, side)]
    with pytest.raises(BadChoice, match="map_stride is 4, 8, 16 or 32"):
        build(Choice.model_validate({**choice, "map_stride": 12}), inputs=1, outputs=2)
