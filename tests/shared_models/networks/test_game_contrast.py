"""The classifier of a game reads a part of the window that the other players see whole."""

from __future__ import annotations

import pytest
import torch

from shared_models.catalogue import build
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice
from tests.shared_models.tiny import TINY

GAMES = ("mufinet_dcgan", "mufinet_enhanced")


def game(name: str, contrast: tuple[float, float]) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(Choice.model_validate({"name": name, **TINY[name], "contrast": contrast}), inputs=1, outputs=3).eval()


@pytest.mark.parametrize("name", GAMES)
def test_it_reads_its_part_of_the_window_and_the_players_see_all(name: str) -> None:
    bags = torch.rand(2, 2, 16, 16)
    narrow, wide = game(name, (0.25, 0.75)), game(name, (0.0, 1.0))
    assert [key for key, _ in narrow.named_parameters()] == [key for key, _ in wide.named_parameters()]
    with torch.inference_mode():  # a denoiser starts by changing nothing
        assert torch.equal(narrow(bags), wide(((bags - 0.25) / 0.5).clamp(0, 1)))
    lost = [network.loss_of("discriminator", bags, torch.tensor([0, 1])) for network in map(seeded, (narrow, wide))]  # type: ignore[operator]
    assert torch.equal(*lost)


def seeded(network: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(1)
    return network


def test_a_contrast_goes_upwards() -> None:
    with pytest.raises(BadChoice, match="low to high"):
        game("mufinet_dcgan", (0.6, 0.3))
