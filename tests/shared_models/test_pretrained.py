"""Weights of others: loaded whole and exactly, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared_models.catalogue import build, initial_state, source_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadInput
from shared_models.core.files import write_state
from shared_models.experiment import Data, Experiment
from shared_models.pretrained import FOLDER

KNOBS: dict[str, Any] = {"name": "resnet50", "width": 4, "blocks": [1, 1, 1, 1], "norm": "batch", "features": 8, "dropout": 0.0}
OURS = ["encoder.neck.", "position.", "attention.", "head."]
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
SAME = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def published(seed: int = 1) -> dict[str, np.ndarray]:
    """A file as others publish it: three colours, a head of their own, counters of batches."""
    torch.manual_seed(seed)
    network = build(Choice.model_validate(KNOBS), inputs=3, outputs=2)
    state = {key.removeprefix("encoder.maps."): value.numpy() for key, value in network.state_dict().items() if key.startswith("encoder.maps.")}
    state["bn1.running_mean"] = state["bn1.running_mean"] + 0.1
    return state | {"fc.weight": np.zeros((1000, 128), np.float32), "bn1.num_batches_tracked": np.array(7)}


@pytest.fixture
def choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return chosen(tmp_path, published())


def chosen(folder: Path, state: dict[str, np.ndarray], **settings: Any) -> dict[str, Any]:
    digest = write_state(folder / "resnet50.safetensors", state)
    weights = {"path": "resnet50.safetensors", "sha256": digest, "licence": "BSD-3-Clause", "normalisation": SAME}
    return KNOBS | {"weights": weights | {"rename": {"": "encoder.maps."}, "skip": ["fc."], "fresh": OURS} | settings}


def logits(choice: dict[str, Any], slices: torch.Tensor, *, inputs: int = 1) -> torch.Tensor:
    picked = Choice.model_validate(choice)
    network = build(picked, inputs=inputs, outputs=2).eval()
    network.load_state_dict({key: torch.from_numpy(value) for key, value in initial_state(picked, inputs=inputs, outputs=2, seed=0).items()})
    with torch.inference_mode():
        return network(slices)


def test_every_array_of_the_file_is_in_the_first_state(choice: dict[str, Any]) -> None:
    state = initial_state(Choice.model_validate(choice), inputs=1, outputs=2, seed=0)
    file = published()
    np.testing.assert_array_equal(state["encoder.maps.layer4.0.conv2.weight"], file["layer4.0.conv2.weight"])
    np.testing.assert_array_equal(state["encoder.maps.bn1.running_mean"], file["bn1.running_mean"])
    np.testing.assert_allclose(state["encoder.maps.conv1.weight"], file["conv1.weight"].sum(1, keepdims=True), rtol=1e-6)
    plain = initial_state(Choice.model_validate(KNOBS), inputs=1, outputs=2, seed=0)
    np.testing.assert_array_equal(state["head.weight"], plain["head.weight"])


@pytest.mark.parametrize("normalisation", [SAME, IMAGENET])
def test_a_grey_slice_is_read_as_three_equal_colours(choice: dict[str, Any], normalisation: dict[str, Any]) -> None:
    choice["weights"]["normalisation"] = normalisation
    slices = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    found = logits(choice, slices)
    state = initial_state(Choice.model_validate(choice), inputs=1, outputs=2, seed=0)
    state["encoder.maps.conv1.weight"] = published()["conv1.weight"]
    colours = build(Choice.model_validate(KNOBS), inputs=3, outputs=2).eval()
    colours.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    colours.encoder.scale.set([0.0], [1.0])
    mean, std = (torch.tensor(normalisation[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():  # by hand: three copies of each slice, each normalised, through the network of three channels
        vector = colours.encoder((slices.expand(2, 3, 40, 40) - mean) / std)
        vector = vector[:, None] * (1 + colours.position(torch.tensor([[-1.0, 1.0]])))
        by_hand = colours.head(colours.attention(vector)[0])
    torch.testing.assert_close(found, by_hand, atol=1e-5, rtol=1e-5)


def test_a_site_needs_no_file(choice: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "resnet50.safetensors").unlink()
    choice["weights"]["normalisation"] = IMAGENET
    network = build(Choice.model_validate(choice), inputs=1, outputs=2)
    assert network.encoder.scale.mean.flatten().tolist() == pytest.approx(IMAGENET["mean"])
    assert not any("scale" in key for key in network.state_dict())


def wrong(code: str, choice: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        initial_state(Choice.model_validate(choice), inputs=1, outputs=2, seed=0)
    assert refused.value.code == code


class TestNothingFallsBack:
    def test_another_hash(self, choice: dict[str, Any], tmp_path: Path) -> None:
        write_state(tmp_path / "resnet50.safetensors", published(2))
        wrong("E_WEIGHTS", choice, "must have the hash")

    def test_no_file(self, choice: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "resnet50.safetensors").unlink()
        wrong("E_WEIGHTS", choice, "must be readable")

    def test_a_pickle(self, choice: dict[str, Any], tmp_path: Path) -> None:
        import hashlib

        torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "resnet50.safetensors")
        choice["weights"]["sha256"] = hashlib.sha256((tmp_path / "resnet50.safetensors").read_bytes()).hexdigest()
        wrong("E_WEIGHTS", choice, "convert the file to safetensors")

    def test_a_missing_array(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(FOLDER, str(tmp_path))
        state = published()
        del state["layer2.0.conv1.weight"]
        wrong("E_WEIGHTS", chosen(tmp_path, state), r"1 arrays of the network are missing.*layer2\.0\.conv1\.weight")

    def test_an_array_left_over(self, choice: dict[str, Any], tmp_path: Path) -> None:
        wrong("E_WEIGHTS", chosen(tmp_path, published() | {"more": np.zeros(2, np.float32)}), "1 arrays of the weights file have no place.*more")
        wrong("E_WEIGHTS", chosen(tmp_path, published(), skip=[]), r"fc\.weight")
        assert choice

    def test_another_shape_and_other_numbers(self, choice: dict[str, Any], tmp_path: Path) -> None:
        state = published()
        wrong("E_WEIGHTS", chosen(tmp_path, state | {"bn1.weight": np.zeros(5, np.float32)}), "must have shape")
        wrong("E_WEIGHTS", chosen(tmp_path, state | {"bn1.weight": np.full(4, np.nan, np.float32)}), "finite")
        wrong("E_WEIGHTS", chosen(tmp_path, state | {"bn1.weight": np.zeros(4, np.int64)}), "finite real numbers")
        assert choice

    def test_a_setting_that_names_nothing(self, choice: dict[str, Any], tmp_path: Path) -> None:
        wrong("E_WEIGHTS", chosen(tmp_path, published(), skip=["fc.", "classifier."]), r"weights\.skip.*classifier")
        wrong("E_WEIGHTS", chosen(tmp_path, published(), fresh=[*OURS, "neck."]), r"weights\.fresh.*neck")
        assert choice

    def test_a_network_that_scales_its_inputs_itself(self, choice: dict[str, Any]) -> None:
        other = {"name": "mil_cnn", "widths": [8, 8], "weights": choice["weights"]}
        with pytest.raises(BadChoice, match="scales its inputs itself"):
            build(Choice.model_validate(other), inputs=1, outputs=2)

    def test_a_model_without_gradients(self, choice: dict[str, Any]) -> None:
        with pytest.raises(BadChoice, match="only a network"):
            build(Choice.model_validate({"name": "logistic", "weights": choice["weights"]}), inputs=3, outputs=2)


def test_faults_are_named_when_the_experiment_is_read(choice: dict[str, Any]) -> None:
    choice["weights"] |= {"sha256": "abc", "licence": ""}
    with pytest.raises(ValueError, match=r"(?s)model\.weights\.sha256.*model\.weights\.licence"):
        Experiment(name="x", data=Data(classes=("a", "b")), model=Choice.model_validate(choice))


def test_the_card_names_the_weights_and_their_licence(choice: dict[str, Any]) -> None:
    experiment = Experiment(name="x", data=Data(classes=("a", "b")), model=Choice.model_validate(choice))
    assert Experiment.from_json(experiment.to_json()).model == experiment.model
    assert source_of(experiment.model).endswith(f"weights of SHA-256 {choice['weights']['sha256']}, licence BSD-3-Clause")
