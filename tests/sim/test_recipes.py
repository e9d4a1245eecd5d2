"""Every shipped experiment: sound, with its source, and its network takes what it will be given; the sizes for one GPU without their memory."""

from __future__ import annotations

from pathlib import Path

import monai.networks.nets.resnet  # noqa: F401  before the meta device below, which its own import would be caught in
import numpy as np
import pytest
import torch

from client.training import FITTERS, PREDICTORS
from client.training.device import training_on
from client.training.records import Records
from client.training.rules import Plain
from shared_models.catalogue import build, initial_state, inputs_of, spec_of
from shared_models.core.choices import load_toml
from shared_models.core.errors import BadInput
from shared_models.experiment import Experiment
from sim.check import load_checked
from sim.experiments import shipped
from sim.zoo.systems import SYSTEMS as IN_ZOO
from sim.zoo.systems import recipes

SYSTEMS = [
    "mufinet",
    "mufinet_dcgan",
    "mufinet_enhanced",
    "pmff_net",
    "vit_ild",
    "attention_cnn",
    "vgg",
    "iim_ild",
    "compact_vgg",
    "mobile_unet",
    "transfer_zoo",
    "cgan_lung_svm",
    "rapnet_pipeline",
    "uip_detector",
    "multimodal_ild",
    "longitudinal_ild",
]
"""Recipes of published systems, each in two sizes."""


def record_shape(experiment: Experiment) -> tuple[int, ...]:
    if spec_of(experiment.model).takes == "table":
        return (inputs_of(experiment),)
    if spec_of(experiment.model).takes == "volume":
        return (1, *experiment.inputs.shape_zyx)
    return (experiment.inputs.slices, experiment.inputs.size, experiment.inputs.size)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_shipped_experiment_is_sound_and_names_its_source(name: str) -> None:
    experiment = load_checked(name, [])
    assert experiment.name == name
    assert experiment.source
    assert experiment.title


@pytest.mark.parametrize("name", SYSTEMS)
class TestSystem:
    def test_says_whose_figures_it_quotes_and_what_was_chosen(self, name: str) -> None:
        assert "Reported by its authors, not by us" in load_checked(name, []).source
        words = shipped()[name].read_text(encoding="utf-8")
        assert "Chosen" in words

    @pytest.mark.parametrize("size", ["", "_base"])
    def test_the_network_takes_what_it_will_be_given(self, name: str, size: str) -> None:
        experiment = load_checked(name + size, [])
        # the histograms of the default network look at values, which a tensor without memory has none of
        with torch.device("cpu" if experiment.model.name == "mil_cnn" else "meta"), torch.inference_mode():
            network = build(experiment.model, inputs=inputs_of(experiment), outputs=experiment.data.outputs)
            logits = network(torch.zeros(2, *record_shape(experiment)))
        assert logits.shape == (2, experiment.data.outputs)
        count = sum(weight.numel() for weight in network.parameters())
        assert count > 200_000 if size else count < 1_000_000

    def test_the_size_for_one_gpu_is_the_same_system(self, name: str) -> None:
        tiny, base = load_checked(name, []), load_checked(f"{name}_base", [])
        assert (base.data, base.source, base.model.name) == (tiny.data, tiny.source, tiny.model.name)
        assert base.train.label_smoothing == tiny.train.label_smoothing
        assert base.strategy == tiny.strategy
        assert base.train.precision == "mixed"


def test_every_line_of_the_zoo_is_a_recipe_and_every_system_is_in_it() -> None:
    assert set(IN_ZOO) <= set(shipped())
    assert set(SYSTEMS) <= set(recipes())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", recipes())
@pytest.mark.parametrize("precision", ["full", "mixed"])
def test_a_recipe_takes_a_step_on_a_gpu(name: str, precision: str) -> None:
    experiment = load_checked(name, [f"train.precision={precision}", "train.steps=1"])
    rng, count = np.random.default_rng(0), 2 * len(experiment.data.classes)
    inputs = rng.random((count, *record_shape(experiment)), np.float32)
    maps = rng.integers(0, 2, inputs.shape).astype(np.uint8) if experiment.data.annotation else None
    if experiment.data.target == "findings":
        maps = rng.integers(0, 2, (count, len(experiment.data.classes))).astype(np.float32)
    records = Records(inputs, np.arange(count) % len(experiment.data.classes), tuple(map(str, range(count))), targets=maps)
    state = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=len(experiment.data.classes), seed=0)
    with training_on("cuda"):
        fitted = FITTERS[spec_of(experiment.model).fit](experiment, state, records, rule=Plain(), factor=1.0, seed=0)
        said = PREDICTORS[spec_of(experiment.model).fit](experiment, fitted.state, records)
    assert all(np.isfinite(value).all() for value in fitted.state.values())
    if experiment.data.target != "findings":  # each finding has a probability of its own
        np.testing.assert_allclose(said.sum(1), 1, atol=1e-5)


def test_a_model_that_an_experiment_lays_over_another_replaces_it_whole(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(
        'name = "small"\n[data]\nclasses = ["a", "b"]\n[model]\nname = "vgg16"\nwidth = 8\n[train]\nbatch = 2\nepochs = 3\n'
    )
    (tmp_path / "large.toml").write_text('extends = "small"\nname = "large"\n[model]\nname = "vgg16"\n[train]\nbatch = 16\n')
    large = Experiment.load(tmp_path / "large.toml", ["train.epochs=5"])
    assert (large.name, large.model.knobs, large.train.batch, large.train.epochs) == ("large", {}, 16, 5)
    assert large.data.classes == ("a", "b")


@pytest.mark.parametrize("word", ["../small", "large", "missing", ""])
def test_what_cannot_be_extended(word: str, tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text(f'extends = "{word}"\nname = "large"\n')
    (tmp_path / "small.toml").write_text('name = "small"\n')
    with pytest.raises(BadInput):
        Experiment.load(tmp_path / "large.toml")
    assert load_toml(tmp_path / "small.toml") == {"name": "small"}


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("multimodal_ild", 'preparation.features=[{name="densitometry"}]', "peripheral_minus_central_haa_percent"),
        ("vgg", "inputs.size=16", "inputs.size: 'vgg16' needs slices of at least 32 pixels; found 16"),
        ("transfer_zoo", 'model.weights={path="x", sha256="y", licence="z", normalisation="network"}', "model.weights.sha256"),
    ],
)
def test_what_does_not_fit_is_named(name: str, setting: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        load_checked(name, [setting])
    assert words in str(refused.value)


def test_batch_norm_is_refused_where_patients_are_private() -> None:
    private = ["privacy.unit=patient", "privacy.noise_multiplier=1.0", "model.norm=batch"]
    with pytest.raises(BadInput, match=r'model\.norm: BatchNorm mixes patients.*set model\.norm = "group"'):
        load_checked("vgg", private)
    load_checked("vgg", [*private[:2], "model.norm=group"])
