"""Low-rank additions: nothing at the start, ``W + B A`` afterwards, they alone change and travel, and they are a small part of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.training import FITTERS
from client.training.records import Records
from client.training.resting import resting
from client.training.rules import Plain
from server.app import run_experiment
from server.runs import exchange
from server.runs.log import read_rounds
from shared_models.catalogue import build, initial_state, source_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice
from shared_models.core.files import sha256_file, write_state
from shared_models.core.state import digest, size_bytes
from shared_models.experiment import Data, Experiment, Train
from shared_models.lora import merged
from shared_models.networks import NETWORKS
from shared_models.phases import phases_of
from shared_models.pretrained import FOLDER
from sim.check import faults
from tests.server.phase_sites import experiment_of as tables
from tests.server.phase_sites import grid_of
from tests.shared_models.tiny import TINY, shape_of

VIT: dict[str, Any] = {"name": "vit", "patch": 8, "width": 64, "depth": 4, "heads": 2, "grid": 2, "dropout": 0.0}
LORA: dict[str, Any] = {"rank": 2, "layers": ["encoder.layers.*"]}


def experiment_of(model: dict[str, Any], **sections: Any) -> Experiment:
    train = Train.model_validate({"steps": 4, "batch": 4, "optimiser": {"name": "adamw", "lr": 1e-2, "weight_decay": 0.1}})
    document = {"name": "lora", "data": Data(classes=("a", "b")), "model": model, "train": train, "federation": {"rounds": 3, "quorum": 2}}
    return Experiment.model_validate({**document, **sections})


def trained_of(model: dict[str, Any]) -> tuple[Experiment, dict[str, np.ndarray], dict[str, np.ndarray]]:
    experiment = experiment_of(model)
    (phase,) = phases_of(experiment)
    start = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    rng = np.random.default_rng(0)
    records = Records(rng.random((8, 2, 24, 24), np.float32), np.arange(8) % 2, tuple(map(str, range(8))))
    rule = resting(Plain(), experiment, frozenset(phase.changed(start)))
    return experiment, start, FITTERS["gradient"](experiment, start, records, rule=rule, factor=1.0, seed=0).state


@pytest.mark.parametrize("name", ["mil_cnn", "vit", "resnet18", "patch_cnn"])
def test_it_starts_as_the_plain_network_and_merged_it_is_one(name: str) -> None:
    model = {"name": name, **TINY[name]}
    plain = initial_state(Choice.model_validate(model), inputs=1, outputs=2, seed=0)
    state = initial_state(Choice.model_validate(model | {"lora": {"rank": 2, "layers": ["*"]}}), inputs=1, outputs=2, seed=0)
    assert digest(merged(state)) == digest(plain)
    rng = np.random.default_rng(0)
    state = {key: rng.normal(0, 0.1, value.shape).astype(np.float32) if ".lora_" in key else value for key, value in state.items()}
    adapted = build(Choice.model_validate(model | {"lora": {"rank": 2, "layers": ["*"]}}), inputs=1, outputs=2).eval()
    whole = build(Choice.model_validate(model), inputs=1, outputs=2).eval()
    adapted.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    whole.load_state_dict({key: torch.from_numpy(value) for key, value in merged(state).items()})
    x = torch.rand(2, *(shape_of(name) if NETWORKS[name].takes != "patch" else (1, *shape_of(name)[1:])))
    with torch.inference_mode():
        torch.testing.assert_close(adapted(x), whole(x), atol=1e-4, rtol=1e-4)
    for key, value in merged(state).items():  # by hand
        if f"{key.removesuffix('.weight')}.lora_up" in state:
            up, down = (state[key.removesuffix("weight") + part].astype(np.float64) for part in ("lora_up", "lora_down"))
            np.testing.assert_allclose(value, state[key] + (up @ down).reshape(value.shape), atol=1e-6)


def test_only_the_additions_and_the_head_change() -> None:
    _, start, after = trained_of(VIT | {"lora": LORA})
    changed = {key for key in start if start[key].tobytes() != after[key].tobytes()}
    assert changed == {key for key in start if ".lora_" in key or key.startswith("head.")}
    assert size_bytes({key: after[key] for key in changed}) <= 0.1 * size_bytes(
        initial_state(Choice.model_validate(VIT), inputs=1, outputs=2, seed=0)
    )


def test_a_run_sends_the_additions_alone_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.001, 0.005))
    model = {"name": "linear", "lora": {"rank": 1, "layers": ["*"], "also": ["*.bias"]}}
    experiment = tables(Choice(name="scaler"), model=model, federation={"rounds": 3, "quorum": 3, "deadline_s": 60.0})
    final = run_experiment(grid_of(tmp_path / "sites"), experiment, tmp_path / "run", durable=False)
    lines = read_rounds(tmp_path / "run" / "rounds.jsonl")[2:]  # the scaler's two come first
    part = size_bytes({key: value for key, value in final.state.items() if ".lora_" in key or key.endswith("bias")})
    assert part < size_bytes(final.state)
    assert [line["bytes_down"] for line in lines] == [3 * size_bytes(final.state), 3 * part, 3 * part]
    assert {record["bytes"] for line in lines for record in line["sites"].values()} == {part}


def test_a_plain_network_starts_from_a_run_with_additions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    _, start, after = trained_of(VIT | {"lora": LORA})
    write_state(tmp_path / "model.safetensors", after)
    weights = {"path": "model.safetensors", "sha256": sha256_file(tmp_path / "model.safetensors"), "licence": "ours", "normalisation": "network"}
    plain = initial_state(Choice.model_validate(VIT | {"weights": weights}), inputs=1, outputs=2, seed=7)
    assert digest(plain) == digest(merged(after)) != digest(merged(start))
    again = initial_state(Choice.model_validate(VIT | {"weights": weights, "lora": LORA}), inputs=1, outputs=2, seed=7)
    assert digest(merged(again)) == digest(plain) and again.keys() == after.keys()


@pytest.mark.parametrize(
    ("model", "sections", "words"),
    [
        (VIT | {"lora": LORA | {"layers": ["encoder.layer.*"]}}, {}, "name linear layers and convolutions"),
        (VIT | {"lora": LORA}, {"privacy": {"unit": "patient", "noise_multiplier": 1.0}}, "noise falls on every array"),
        (VIT | {"lora": LORA}, {"strategy": {"name": "fedper"}}, "says itself what is trained"),
        (VIT | {"lora": LORA}, {"strategy": {"name": "cyclic"}}, "all of a network travels"),
        ({"name": "logistic", "lora": LORA}, {"inputs": {"columns": ["age"]}}, "layers to adapt"),
    ],
)
def test_what_does_not_fit_is_named(model: dict[str, Any], sections: dict[str, Any], words: str) -> None:
    assert any(words in fault for fault in faults(experiment_of(model, **sections)))


def test_faults_of_its_table_and_the_card() -> None:
    for wrong in ({"rank": 0, "layers": ["*"]}, {"rank": 2}, {"layers": ["*"], "alpha": 2}):
        with pytest.raises(ValueError, match=r"model\.lora"):
            experiment_of(VIT | {"lora": wrong})
    with pytest.raises(BadChoice, match="layers to adapt"):
        build(Choice.model_validate({"name": "logistic", "lora": LORA}), inputs=1, outputs=2)
    assert "(LoRA)" in source_of(Choice.model_validate(VIT | {"lora": LORA}))
