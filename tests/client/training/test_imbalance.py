"""Weights of unequal classes and the focal loss: equal classes are left alone, and what is right already moves the network less."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.training.gradient import fit_gradient, predict_gradient
from client.training.imbalance import class_weights, focused
from client.training.records import Records
from client.training.rules import Plain
from client.training.sampling import order_of, strata_of
from shared_models.catalogue import initial_state
from shared_models.core.choices import Choice
from shared_models.experiment import Data, Experiment, Inputs, Privacy, Train


@pytest.mark.parametrize("how", ["none", "balanced", "effective", "prior"])
def test_equal_classes_count_equally_and_the_mean_is_one(how: str) -> None:
    np.testing.assert_allclose(class_weights(np.repeat([0, 1, 2], 7), 3, how), 1, rtol=1e-6)
    labels = np.repeat([0, 1], [40, 8])
    assert class_weights(labels, 2, how)[labels].mean() == pytest.approx(1, rel=1e-6)


def test_effective_numbers_lie_between_none_and_balanced() -> None:
    labels = np.repeat([0, 1], [60, 6])
    ratio = {how: float(np.divide(*class_weights(labels, 2, how)[::-1])) for how in ("none", "effective", "balanced")}
    assert ratio["none"] == 1 < ratio["effective"] < ratio["balanced"] == pytest.approx(10)


def test_the_focal_gradient_is_that_of_the_formula() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 0]), reduction="none")
    p = torch.softmax(logits, 1)[:, 0]
    for power in (0.5, 2.0):
        expected = -((1 - p) ** power) * torch.log(p)
        torch.testing.assert_close(focused(losses, power), expected)
        found, wanted = (torch.autograd.grad(one.sum(), logits, retain_graph=True)[0] for one in (focused(losses, power), expected))
        torch.testing.assert_close(found, wanted)
    assert focused(losses, None) is losses
    sure = torch.zeros(1, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(focused(sure, 0.5).sum(), sure)[0]).all()


def fit(**train: object) -> float:
    """Return the mean probability that a linear model gives the rare class's patients."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [54, 6])
    x = rng.normal(size=(60, 2)) + labels[:, None]
    experiment = Experiment(
        name="rare",
        data=Data(kind="table", classes=("a", "b")),
        inputs=Inputs(columns=("x", "y")),
        model=Choice(name="linear"),
        train=Train.model_validate({"epochs": 30, "batch": 60, "optimiser": {"name": "sgd", "lr": 0.2}, **train}),
    )
    records = Records(x, labels, tuple(map(str, range(60))))
    state = fit_gradient(experiment, initial_state(experiment.model, inputs=2, outputs=2, seed=0), records, rule=Plain(), factor=1.0, seed=1).state
    return float(predict_gradient(experiment, state, records)[labels == 1, 1].mean())


def test_the_knobs_reach_the_training() -> None:
    plain = fit()
    assert fit(class_weights="effective") > plain + 0.1
    assert fit(class_weights="balanced") > fit(class_weights="effective")
    assert abs(fit(focal=2.0) - plain) > 0.01
    assert fit(sampler="balanced") > plain + 0.1


def test_a_balanced_epoch_meets_classes_equally_often_and_a_plain_one_each_record_once() -> None:
    labels = np.repeat([0, 2], [95, 5])
    drawn = np.concatenate([order_of(labels, torch.Generator().manual_seed(seed), "balanced") for seed in range(40)])
    assert abs((labels[drawn] == 2).mean() - 0.5) < 0.03 and set(drawn.tolist()) == set(range(100))
    assert sorted(order_of(labels, torch.Generator().manual_seed(0), None)) == list(range(100))


def test_records_that_show_a_rare_pattern_are_met_as_often_as_the_others() -> None:
    maps = np.full((60, 1, 4, 4), 254, np.uint8)  # the last ten are drawn on by nobody
    maps[:50, :, :2] = 0
    maps[:50, :, 3] = 255
    maps[40:50, 0, 0, 0] = 1
    maps[48:50, 0, 0, 1] = 3
    strata = strata_of(np.zeros(60, np.int64), maps)
    assert strata.tolist() == [0] * 40 + [1] * 8 + [2] * 2 + [3] * 10
    drawn = np.concatenate([order_of(strata, torch.Generator().manual_seed(seed), "balanced") for seed in range(60)])
    assert abs((drawn >= 48).mean() - 0.5) < 0.03 and abs(np.isin(drawn, (48, 49)).mean() - 0.25) < 0.03
    labels = np.arange(60)
    assert strata_of(labels, None) is labels and strata_of(labels, maps.astype(np.float32)) is labels
    assert strata_of(labels, maps[50:]).tolist() == [0] * 10


@pytest.mark.parametrize("knob", ["focal", "sampler"])
def test_private_training_refuses_what_reads_labels(knob: str) -> None:
    with pytest.raises(ValueError, match=rf"train\.{knob} must be left out"):
        Experiment(
            name="x",
            data=Data(classes=("a", "b")),
            model=Choice(name="linear"),
            train=Train.model_validate({"focal": {"focal": 2.0}, "sampler": {"sampler": "balanced"}}[knob]),
            privacy=Privacy(unit="patient", noise_multiplier=1.0),
        )
