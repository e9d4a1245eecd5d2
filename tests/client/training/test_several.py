"""Several findings at once: what is not known teaches nothing, both answers weigh the same, and sites together take the pooled step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from client.selection import measure
from client.training.gradient import fit_gradient, network_of, predict_gradient
from client.training.records import Records
from client.training.rules import Plain
from client.training.several import answer_weights, finding_losses
from shared_models.catalogue import initial_state, inputs_of
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment

FINDINGS = ("ggo", "honeycombing", "emphysema")


def experiment_of(**train: Any) -> Experiment:
    settings = {"steps": 1, "batch": 64, "optimiser": {"name": "sgd", "lr": 0.05}, "schedule": "constant", **train}
    model = {"name": "compact_vgg", "width": 4, "features": 8, "dropout": 0.0, "norm": "none"}
    data = {"target": "findings", "classes": FINDINGS}
    return Experiment.model_validate({"name": "several", "data": data, "model": model, "inputs": {"slices": 2, "size": 12}, "train": settings})


def records_of(count: int = 8) -> Records:
    """Slices as bright as their first finding says, in rows as bright as the second one; the third has nothing to do with them."""
    rng = np.random.default_rng(1)
    targets = (rng.uniform(size=(count, 3)) < 0.5).astype(np.float32)
    inputs = rng.normal(0.2, 0.02, (count, 2, 12, 12)) + 0.3 * targets[:, 0, None, None, None]
    inputs[:, :, ::2] += 0.3 * targets[:, 1, None, None, None]
    return Records(inputs.astype(np.float32), np.zeros(count, np.int64), tuple(map(str, range(count))), targets=targets)


def state_of(experiment: Experiment) -> dict[str, np.ndarray]:
    return initial_state(experiment.model, inputs=inputs_of(experiment), outputs=3, seed=0)


def test_the_loss_is_the_sum_over_what_is_known_and_the_rest_has_no_gradient() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([[1, np.nan, 0], [0, 1, np.nan], [np.nan, np.nan, np.nan]], np.float32)
    logits = torch.tensor(rng.normal(size=truth.shape), requires_grad=True)
    weights = rng.uniform(0.5, 2, (2, 3))
    found = finding_losses(logits, torch.from_numpy(truth), torch.from_numpy(weights))
    for row in range(3):
        slow = 0.0
        for place in range(3):
            if not np.isnan(truth[row, place]):
                p = 1 / (1 + np.exp(-float(logits[row, place].detach())))
                slow -= weights[int(truth[row, place]), place] * np.log(p if truth[row, place] else 1 - p) / 3
        assert float(found[row].detach()) == pytest.approx(slow, rel=1e-6)
    found.sum().backward()
    assert ((logits.grad.numpy() == 0) == np.isnan(truth)).all()


def test_balanced_answers_weigh_the_same() -> None:
    targets = np.array([[1, 0], [0, 0], [0, np.nan], [0, 0]], np.float32)
    weights = answer_weights(targets, "balanced")
    for place in range(2):
        sums = [float((targets[:, place] == answer).sum() * weights[answer, place]) for answer in (0, 1)]
        assert sums == pytest.approx([2.0, 2.0] if place == 0 else [1.5, 0.0])
    assert (answer_weights(targets, "none") == 1).all()


def test_what_nobody_knows_of_anyone_leaves_its_head_alone_and_each_finding_has_its_own_probability() -> None:
    experiment, records = experiment_of(class_weights="balanced"), records_of()
    hidden = np.array(records.targets)
    hidden[:, 2] = np.nan
    taught = Records(records.inputs, records.labels, records.names, targets=hidden)
    start = state_of(experiment)
    fitted = fit_gradient(experiment, start, taught, rule=Plain(), factor=1.0, seed=0).state
    moved = (fitted["head.weight"] != start["head.weight"]).any(1)
    assert moved.tolist() == [True, True, False]
    told = predict_gradient(experiment, fitted, records)
    with torch.inference_mode():
        logits = network_of(experiment, fitted)(torch.from_numpy(records.inputs)).double()
    np.testing.assert_allclose(told, torch.sigmoid(logits).numpy(), rtol=1e-5)
    found = measure(experiment, fitted, records)
    assert set(found) == {"val_loss", "val_auroc_macro", "val_cases"}
    counts = [int((np.asarray(records.targets)[:, place] == answer).sum()) for place in range(3) for answer in (0, 1)]
    assert found["val_auroc_macro"].smallest_class == min(counts) > 0


def test_sites_together_take_the_pooled_step() -> None:
    experiment, records = experiment_of(), records_of()
    start = state_of(experiment)
    parts = [records.take(range(3)), records.take(range(3, 8)), records]
    one, two, pooled = (fit_gradient(experiment, start, part, rule=Plain(), factor=1.0, seed=0).state for part in parts)
    for key, value in pooled.items():
        np.testing.assert_allclose((3 * one[key] + 5 * two[key]) / 8, value, atol=1e-6)


def test_findings_are_not_learnt_from_records_without_them() -> None:
    experiment, records = experiment_of(), records_of()
    bare = Records(records.inputs, records.labels, records.names)
    with pytest.raises(BadCohort, match="finding_NAME"):
        fit_gradient(experiment, state_of(experiment), bare, rule=Plain(), factor=1.0, seed=0)
