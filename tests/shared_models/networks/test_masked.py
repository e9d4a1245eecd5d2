"""Masked image modelling: what is hidden, what the loss counts, that it learns, and that a diagnosis model starts from the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.cases.cohort import Case, Cohort, Visit
from client.predict import predict_study
from client.selection import cohort_of, measure
from client.site import Site
from client.training import FITTERS, objective_loss
from client.training.records import Records
from client.training.rules import Plain
from client.training.used import check_unused
from shared_models.bundle import write_bundle
from shared_models.catalogue import initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadInput
from shared_models.core.files import sha256_file, write_state
from shared_models.core.state import digest
from shared_models.experiment import Data, Experiment, Train
from shared_models.metrics.reconstruction import score_reconstruction
from shared_models.networks import NETWORKS
from shared_models.networks.pretraining.masked_autoencoder import masked_autoencoder, unexplained
from shared_models.pretrained import FOLDER
from sim.check import faults
from tests.shared_models.tiny import TINY, shape_of

MIL = {"name": "mil_cnn", **TINY["mil_cnn"]}
MODEL: dict[str, Any] = {"name": "masked_autoencoder", "encoder": MIL, "cell_px": 4, "width": 8}
SLICES = sorted(name for name, spec in NETWORKS.items() if spec.takes == "slices" and spec.feature_map is not None)


def experiment_of(**train: Any) -> Experiment:
    settings = {"epochs": 4, "batch": 4, "optimiser": {"name": "adamw", "lr": 1e-2, "weight_decay": 0.01}, "schedule": "constant", **train}
    data = Data.model_validate({"target": "reconstruction"})
    return Experiment.model_validate({"name": "pre", "data": data, "model": MODEL, "train": Train.model_validate(settings)})


def stripes(count: int = 16) -> Records:
    """Slices whose hidden parts follow from the seen ones: stripes of one phase and direction."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:24, :24]
    phase, steep = rng.uniform(0, 6, (count, 1, 1, 1)), rng.integers(0, 2, (count, 1, 1, 1))
    hu = 0.5 + 0.4 * np.sin(np.where(steep, y, x) / 4 + phase)
    return Records(np.repeat(hu, 2, 1).astype(np.float32), np.zeros(count, np.int64), tuple(map(str, range(count))))


def test_hidden_squares_are_whole_and_as_many_as_asked() -> None:
    network = masked_autoencoder(1, 2, encoder=Choice.model_validate(MIL), cell_px=4, hidden=0.5, width=4)
    batch = torch.rand(3, 2, 22, 26)
    torch.manual_seed(0)
    unseen = network(batch)[1]
    assert unseen.shape == batch.shape and not torch.equal(unseen[0, 0], unseen[1, 1])
    cells = unseen[:, :, :20, :24].unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert torch.equal(cells.all(-1), cells.any(-1))
    assert set(torch.nn.functional.pad(unseen, (0, 2, 0, 2))[:, :, ::4, ::4].flatten(2).sum(2).flatten().tolist()) == {21}
    network.eval()
    assert torch.equal(network(batch)[1][0], network(batch)[1][2])


def test_the_drawing_never_sees_what_is_hidden() -> None:
    network = masked_autoencoder(1, 2, encoder=Choice.model_validate(MIL), cell_px=4).eval()
    batch = torch.rand(2, 2, 24, 24)
    drawn, unseen = network(batch)
    other = torch.where(unseen, torch.rand(batch.shape), batch)
    torch.testing.assert_close(network(other)[0], drawn)
    assert not torch.allclose(network(torch.where(unseen, batch, batch.flip(0)))[0], drawn)


def test_the_loss_is_the_unexplained_share_of_the_hidden_pixels() -> None:
    generator = torch.Generator().manual_seed(1)
    batch, drawn = torch.rand(2, 4, 2, 6, 6, generator=generator)
    unseen = torch.rand(4, 2, 6, 6, generator=generator) < 0.5
    found = unexplained((drawn, unseen), batch, torch.zeros(4))
    for record in range(4):  # by hand
        truth, guess = batch[record][unseen[record]], drawn[record][unseen[record]]
        assert found[record] == pytest.approx(float(((guess - truth) ** 2).mean() / truth.var(correction=0)), rel=1e-5)
    mean = torch.stack([torch.full((2, 6, 6), float(batch[record][unseen[record]].mean())) for record in range(4)])
    torch.testing.assert_close(unexplained((mean, unseen), batch, torch.zeros(4)), torch.ones(4))
    flat = torch.full_like(batch, 0.3)
    assert torch.isfinite(unexplained((drawn, unseen), flat, torch.zeros(4))).all()


@pytest.mark.parametrize("name", SLICES)
def test_of_every_network_of_slices_it_keeps_the_encoder_and_no_more(name: str) -> None:
    encoder = {"name": name, **TINY[name]}
    network = masked_autoencoder(1, 2, encoder=Choice.model_validate(encoder), cell_px=8, width=4)
    side = shape_of(name)[-1]
    batch = torch.rand(2, 1, side, side)
    unexplained(network(batch), batch, torch.zeros(2)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    plain = initial_state(Choice.model_validate(encoder), inputs=1, outputs=2, seed=0)
    kept = {key.removeprefix("network.") for key in network.state_dict() if key.startswith("network.")}
    assert kept and kept < plain.keys()
    assert not any(key.startswith("head.") for key in kept)


def test_a_round_learns_without_a_label() -> None:
    experiment, records = experiment_of(epochs=10), stripes()
    start = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    before = objective_loss(experiment, start, records)
    fitted = FITTERS["gradient"](experiment, start, records, rule=Plain(), factor=1.0, seed=0).state
    after = objective_loss(experiment, fitted, records)
    assert after < 0.7 * before
    check_unused(experiment, fitted, start, records.inputs.shape[1:])
    other = Records(records.inputs, 1 - records.labels, records.names)
    assert digest(FITTERS["gradient"](experiment, start, other, rule=Plain(), factor=1.0, seed=0).state) == digest(fitted)
    measured = measure(experiment, fitted, records)
    assert measured["val_loss"].value == pytest.approx(after) and measured.keys() == {"val_loss", "val_cases"}


def test_an_encoder_without_maps_of_slices_is_refused() -> None:
    with pytest.raises(BadChoice, match="reads slices"):
        masked_autoencoder(1, 2, encoder=Choice.model_validate({"name": "resnet18", "width": 4}))


def test_a_diagnosis_model_starts_from_a_released_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    state = initial_state(Choice.model_validate(MODEL), inputs=1, outputs=2, seed=3)
    write_state(tmp_path / "model.safetensors", state)
    weights = {"path": "model.safetensors", "sha256": sha256_file(tmp_path / "model.safetensors"), "licence": "ours", "normalisation": "network"}
    weights |= {"rename": {"network.": ""}, "skip": ["decoder.", "token"], "fresh": ["encoder.project.", "position.", "attention.", "head."]}
    found = initial_state(Choice.model_validate(MIL | {"weights": weights}), inputs=1, outputs=2, seed=0)
    plain = initial_state(Choice.model_validate(MIL), inputs=1, outputs=2, seed=0)
    for key, value in found.items():
        np.testing.assert_array_equal(value, state.get(f"network.{key}", plain[key]))
    assert digest(found) != digest(plain)


def test_patients_without_a_label_take_part(tmp_path: Path) -> None:
    cases = [Case(name, (Visit("v", 0, "s", Path("x")),), label=label) for name, label in (("a", "UIP"), ("b", None), ("c", "sarcoidosis"))]
    (tmp_path / "site.toml").write_text('[site]\nname = "alpha"\n')
    site = Site.load(tmp_path / "site.toml")
    site.workspace.mkdir()
    Cohort(tuple(cases)).save(site.workspace / "cohort.json")
    assert [case.pseudonym for case in cohort_of(site, experiment_of()).cases] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "data",
    [
        {"target": "reconstruction", "classes": ["a", "b"]},
        {"target": "reconstruction", "kind": "table"},
        {"target": "reconstruction", "merge": {"a": "image"}},
    ],
)
def test_reconstruction_reads_no_labels(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="without labels"):
        Data.model_validate(data)


def test_a_release_of_it_names_no_disease(tmp_path: Path) -> None:
    experiment = experiment_of()
    state = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    write_bundle(tmp_path / "bundle", state=state, experiment=experiment, card={"trained_on": "nobody", "limits": [], "source": ""})
    with pytest.raises(BadInput, match="names no disease"):
        predict_study(tmp_path, tmp_path / "bundle", tmp_path / "out")


def test_what_does_not_go_with_it_is_named() -> None:
    experiment = experiment_of()
    assert faults(experiment.model_copy(update={"evaluation": experiment.evaluation.model_copy(update={"headline": "explained_variance"})})) == []
    assert any("headline" in fault for fault in faults(experiment))
    calibrated = experiment.model_copy(update={"calibration": (Choice(name="temperature"),)})
    assert any("gives no probabilities" in fault for fault in faults(calibrated))


def test_the_score_is_the_mean_with_an_interval_over_patients() -> None:
    shares = [0.1, 0.2, 0.6, 0.7]
    cell = score_reconstruction(shares, groups=["a", "a", "b", "c"])["explained_variance"]
    assert cell["value"] == pytest.approx(0.6) and cell["low"] < 0.6 < cell["high"] and (cell["n"], cell["patients"]) == (4, 3)
    assert score_reconstruction([])["explained_variance"]["value"] is None
