"""Networks that find the lungs first: what is cut out, that each stage can be taken away, and the kernel of the last layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from client.training.adversarial import fit_adversarial
from client.training.records import Records
from client.training.resting import resting
from client.training.rules import Plain
from shared_models.blocks.adversarial import Game
from shared_models.blocks.kernel_head import KernelHead
from shared_models.blocks.lung_pipeline import LungPipeline, cut_out
from shared_models.blocks.pix2pix import PatchDiscriminator, discriminator_loss, generator_loss
from shared_models.catalogue import build, initial_state
from shared_models.core.choices import Choice
from shared_models.experiment import Data, Experiment, Inputs, Train
from sim.check import faults
from tests.shared_models.tiny import TINY

NAMES = ["cgan_lung_svm", "rapnet_pipeline"]


def asked(name: str, **knobs: Any) -> Experiment:
    train = Train.model_validate({"steps": 30, "batch": 4, "optimiser": {"name": "adamw", "lr": 0.02}, "schedule": "constant"})
    data = Data.model_validate({"classes": ["a", "b"], "annotation": "lung"})
    model = Choice.model_validate({"name": name, **TINY[name], **knobs})
    return Experiment(name="lungs", data=data, model=model, inputs=Inputs(pixel_mm=4.0, size=32), train=train)


def network_of(name: str, **knobs: Any) -> LungPipeline:
    torch.manual_seed(0)
    network = build(asked(name, **knobs).model, inputs=1, outputs=2)
    assert isinstance(network, LungPipeline)
    return network


def bodies(count: int) -> Records:
    """Bright slices with a dark square of lung somewhere."""
    rng = np.random.default_rng(0)
    lungs = np.zeros((count, 2, 32, 32), np.uint8)
    for one in lungs:
        y, x = rng.integers(2, 14, 2)
        one[:, y : y + 14, x : x + 14] = 1
    inputs = (np.where(lungs, 0.2, 0.8) + rng.normal(0, 0.05, lungs.shape)).astype(np.float32)
    return Records(inputs, np.arange(count) % 2, tuple(map(str, range(count))), targets=lungs)


def test_the_box_is_around_the_lungs_of_all_slices() -> None:
    lung = torch.zeros(2, 2, 40, 32, dtype=torch.bool)
    lung[0, 0, 4:12, 6:10] = lung[0, 1, 8:20, 8:22] = True
    bags = torch.rand(2, 2, 40, 32, generator=torch.Generator().manual_seed(0))
    found = cut_out(bags, lung, 64, 0)
    box = torch.nn.functional.interpolate(bags[:1, :, 4:20, 6:22], size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found[:1, :, 2:-2, 2:-2], box[:, :, 2:-2, 2:-2], atol=1e-4, rtol=0)  # its rim also sees what lies outside
    whole = cut_out(bags[1:], ~lung[1:], 64, 0)
    torch.testing.assert_close(found[1:], whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
class TestPipeline:
    def test_the_segmenter_learns_the_masks_alone(self, name: str) -> None:
        experiment, records = asked(name), bodies(8)
        state = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
        players = [player for player in network_of(name).players if player != "classifier"]
        rule = resting(Plain(), experiment, frozenset(key for key in state if key.partition(".")[0] in players))
        fitted = fit_adversarial(experiment, state, records, rule=rule, factor=1.0, seed=0).state
        assert all(np.array_equal(fitted[key], value) for key, value in state.items() if key.startswith("classifier."))
        network = network_of(name)
        network.load_state_dict({key: torch.from_numpy(value) for key, value in fitted.items()})
        with torch.inference_mode():
            found = (network.eval().lungs(torch.from_numpy(records.inputs)) > 0.5).numpy()
            seen = network.inside(torch.from_numpy(records.inputs))
        assert records.targets is not None
        truth = records.targets > 0
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
        middle = seen[:, :, 8:24, 8:24]
        assert seen.shape == (8, 2, 32, 32)
        assert abs(float(middle.mean()) - 0.2) < 0.05  # of the lung's own brightness, wherever it lay

    def test_stages_can_be_taken_away(self, name: str) -> None:
        bags = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
        network = network_of(name, cut=False, part=[0.25, 0.5]).eval()
        whole = torch.nn.functional.interpolate(((bags - 0.25) / 0.25).clamp(0, 1), size=(64, 64), mode="bilinear", align_corners=False)
        assert network.inside(bags).shape == (2, 3, 32, 32)
        plain = torch.nn.functional.avg_pool2d(whole, 2)
        torch.testing.assert_close(network.inside(bags)[:, :, 1:-1, 1:-1], plain[:, :, 1:-1, 1:-1], atol=1e-5, rtol=0)
        smaller = {"rapnet_pipeline": {"refined": False}, "cgan_lung_svm": {"fooling": 0.0}}[name]
        assert network_of(name, **smaller)(bags).shape == (2, 2)

    def test_the_experiment_names_the_lungs(self, name: str) -> None:
        experiment = asked(name)
        assert not [fault for fault in faults(experiment) if fault.startswith("data.annotation")]
        bare = experiment.model_copy(update={"data": Data(classes=("a", "b"))})
        assert any('set annotation = "lung"' in fault for fault in faults(bare))
        other = experiment.model_copy(update={"model": Choice.model_validate({"name": "mufinet", **TINY["mufinet"]})})
        assert any("does not find the lungs" in fault for fault in faults(other))


def test_margins_are_of_a_gaussian_kernel() -> None:
    head = KernelHead(6, 3, features=20_000, gamma=0.7)
    rows = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    held: list[torch.Tensor] = []
    head.margins.register_forward_pre_hook(lambda module, given: held.append(given[0]))
    assert head(rows).shape == (5, 3)
    scaled = torch.nn.functional.layer_norm(rows, (6,))
    wanted = torch.exp(-0.7 / 6 * torch.cdist(scaled, scaled) ** 2)
    torch.testing.assert_close(held[0] @ held[0].T, wanted, atol=0.03, rtol=0)
    assert {"directions", "phases"}.isdisjoint(head.state_dict())


def test_pixels_that_nobody_knows_move_no_player() -> None:
    records = bodies(2)
    slices, labels = torch.from_numpy(records.inputs[:, 0])[:, None], torch.full((2, 32, 32), 255, dtype=torch.uint8)
    generator, judge = torch.nn.Conv2d(1, 2, 3, padding=1), PatchDiscriminator(1, 2, (4, 8))
    assert generator_loss(generator, judge, slices, labels, fooling=0.0).tolist() == [0.0, 0.0]
    assert discriminator_loss(generator, judge, slices, labels).shape == (2,)


@pytest.mark.parametrize("name", NAMES)
def test_lungs_found_once_a_round_teach_the_classifier_what_lungs_found_at_every_step_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, records = asked(name), bodies(5)
    experiment = experiment.model_copy(update={"train": experiment.train.model_copy(update={"steps": 4, "augment": (Choice(name="flip"),)})})
    monkeypatch.setattr(LungPipeline, "lungs", lambda self, bags: (bags < 0.5).float())  # finds in a mirrored slice the mirrored lungs
    asks: list[int] = []
    found = LungPipeline.found
    monkeypatch.setattr(LungPipeline, "found", lambda self, bags: asks.append(len(bags)) or found(self, bags))
    state = initial_state(experiment.model, inputs=1, outputs=2, seed=0)

    def taught() -> dict[str, np.ndarray]:
        rule = resting(Plain(), experiment, frozenset(key for key in state if key.startswith("classifier.")))
        return fit_adversarial(experiment, state, records, rule=rule, factor=1.0, seed=3).state

    once = taught()
    assert asks == [5]
    monkeypatch.setattr(LungPipeline, "foreseen", Game.foreseen)
    each = taught()
    assert len(asks) == 1 + 4 and any(once[key].tobytes() != state[key].tobytes() for key in state)
    assert all(np.array_equal(once[key], each[key]) for key in state)
    assert network_of(name).foreseen(("segmenter", "classifier"), torch.zeros(1, 2, 32, 32)) is None  # then they change
