"""One battery over SEGMENTATION_NETWORKS: their contract, and that they learn the lungs of phantoms in seconds."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from shared_models.blocks.pix2pix import discriminator_loss, generator_loss
from shared_models.blocks.unet import NestedUNet
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadChoice
from shared_models.networks.segmentation import SEGMENTATION_NETWORKS
from tests.client.segmentation.phantoms import fresh, slices, trained

NAMES = sorted(SEGMENTATION_NETWORKS)


def build(name: str, inputs: int, outputs: int, **knobs: object) -> torch.nn.Module:
    choice = Choice.model_validate({"name": name, **knobs})
    return pick(SEGMENTATION_NETWORKS, choice, kind="network", get=lambda spec: spec.build)(inputs, outputs)


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_defaults_build_and_label_every_pixel(self, name: str) -> None:
        network = build(name, 2, 7).eval()
        assert SEGMENTATION_NETWORKS[name].source
        assert list(inspect.signature(SEGMENTATION_NETWORKS[name].build).parameters)[:2] == ["inputs", "outputs"]
        with torch.inference_mode():
            for rows, columns in ((32, 32), (45, 33)):
                assert network(torch.rand(1, 2, rows, columns)).shape == (1, 7, rows, columns)
        with pytest.raises(BadChoice, match="no knob 'zzz'"):
            build(name, 1, 2, zzz=1)

    def test_no_statistics_of_patients_are_kept(self, name: str) -> None:
        network = build(name, 1, 2)
        assert not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in network.modules())
        assert any(isinstance(part, torch.nn.GroupNorm) for part in network.modules())
        assert not list(network.buffers())

    def test_a_slice_is_labelled_the_same_alone_and_in_a_batch(self, name: str) -> None:
        network, x = fresh(name).eval(), slices("A", 1)[0][8:11]
        with torch.inference_mode():
            torch.testing.assert_close(network(x)[1:2], network(x[1:2]), atol=1e-4, rtol=1e-4)

    def test_one_seed_one_start(self, name: str) -> None:
        a, b, c = (fresh(name, seed).state_dict() for seed in (3, 3, 4))
        assert all(torch.equal(a[key], b[key]) for key in a) and not all(torch.equal(a[key], c[key]) for key in a)

    def test_the_loss_is_one_number_a_slice_and_every_weight_moves(self, name: str) -> None:
        network, (x, y) = fresh(name).train(), slices("A", 1)
        loss = SEGMENTATION_NETWORKS[name].loss(network, x[8:11], y[8:11])
        assert loss.shape == (3,) and bool((loss > 0).all())
        loss.sum().backward()
        assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_lungs_of_a_body_never_seen(name: str) -> None:
    result = trained(name)
    first, last = np.mean(result.losses[:6]), np.mean(result.losses[-6:])
    assert last < 0.45 * first
    assert result.dice_after >= (0.97 if name == "unet" else 0.9)
    assert result.dice_after > result.dice_before + 0.2


def test_a_nested_net_has_a_head_for_every_depth() -> None:
    result = trained("unet_plus_plus")
    x, y = slices("C", 4)
    assert isinstance(result.network, NestedUNet)
    with torch.inference_mode():
        heads = result.network.look(x)
        torch.testing.assert_close(torch.stack(heads).mean(0), result.network(x))
    assert len(heads) == 2
    for logits in heads:
        found, true = logits.argmax(1) > 0, y > 0
        assert 2 * float((found & true).sum()) / float(found.sum() + true.sum()) > 0.9


def test_generator_and_discriminator_train_against_each_other() -> None:
    x, y = slices("A", 1)
    generator = fresh("pix2pix").train()
    adversary = SEGMENTATION_NETWORKS["pix2pix"].adversary
    assert adversary is not None
    discriminator = adversary(1, 2, widths=(8, 16)).train()
    draws = torch.optim.Adam(generator.parameters(), lr=5e-3, betas=(0.5, 0.999))
    judges = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    order, likeness, judged = torch.Generator().manual_seed(2), [], []
    for _ in range(25):
        chosen = torch.randperm(len(x), generator=order)[:4]
        judges.zero_grad()
        loss = discriminator_loss(generator, discriminator, x[chosen], y[chosen]).mean()
        loss.backward()
        judges.step()
        judged.append(float(loss.detach()))
        draws.zero_grad()
        drawn = generator_loss(generator, discriminator, x[chosen], y[chosen])
        assert drawn.shape == (4,)
        drawn.mean().backward()
        draws.step()
        likeness.append(float(drawn.mean().detach()))
    assert np.mean(likeness[-5:]) < 0.4 * likeness[0]
    assert judged[5] < judged[0] and np.isfinite(judged).all()  # at first masks are easily told from drawings
    assert all(not p.requires_grad or p.grad is not None for p in discriminator.parameters())
