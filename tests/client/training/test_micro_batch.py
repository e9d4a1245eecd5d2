"""Memory that runs out: the batch is halved, the step stays what it was, and the end is said with a code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from client.training.device import training_on
from client.training.gradient import fit_gradient, predict_gradient, warm_model
from client.training.micro_batch import MicroBatch, in_parts, ran_out, rewind
from client.training.rules import Plain
from shared_models.catalogue import initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import Refused
from shared_models.core.state import norm, subtract
from shared_models.experiment import Data, Experiment, Train
from tests.client.training.test_gradient import records_of

FULL = {
    "GPU": lambda: torch.OutOfMemoryError("CUDA out of memory"),
    "processor": lambda: MemoryError(),
    "PyTorch's processor": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
}


def experiment_of(dropout: float = 0.0, **train: Any) -> Experiment:
    # A choice of its own for these tests: the process keeps a network, and the size that fits beside it, for each choice.
    model = Choice.model_validate({"name": "mil_cnn", "widths": [4, 4], "features": 9, "dropout": dropout})
    settings = {"epochs": 2, "batch": 8, "optimiser": {"name": "sgd", "lr": 0.05}, **train}
    return Experiment(name="full", data=Data(classes=("a", "b")), model=model, train=Train.model_validate(settings))


class Tight:
    """Let a network take at most `most` records at a time; counts what it was given."""

    def __init__(self, network: nn.Module, most: int, error: Any) -> None:
        self.most, self.error, self.seen = most, error, []
        self.hook = network.register_forward_hook(self.look)  # after the network, so that dropout has been drawn and means have moved

    def look(self, network: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        self.seen.append(len(inputs[0]))
        if len(inputs[0]) > self.most:
            raise self.error()


def fit(experiment: Experiment, most: int | None, error: Any = MemoryError) -> tuple[Any, list[int], int | None]:
    start = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    with training_on("cpu"):
        warm = warm_model(experiment)
        warm.trains.size = None
        tight = Tight(warm.flat.model, 1 << 30 if most is None else most, error)
        try:
            return fit_gradient(experiment, start, records_of(20), rule=Plain(), factor=1.0, seed=1), tight.seen, warm.trains.size
        finally:
            tight.hook.remove()
            warm.trains.size = None


# Not with AdamW: it makes whole steps of rounding errors where the gradient is zero (a bias before a softmax).
@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
@pytest.mark.parametrize(("most", "size"), [(7, 4), (3, 2), (1, 1)])
@pytest.mark.parametrize("train", [{}, {"clip_norm": 0.1, "class_weights": "balanced"}, {"optimiser": {"name": "sgd", "lr": 0.05, "momentum": 0.9}}])
def test_the_round_is_the_undisturbed_one(most: int, size: int, error: Any, train: dict[str, Any]) -> None:
    experiment = experiment_of(**train)
    whole, _, none = fit(experiment, None)
    assert none is None
    found, seen, kept = fit(experiment, most, error)
    assert kept == size
    assert max(seen[seen.index(size) :]) == size  # the size is remembered: later steps do not try again
    start = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    assert norm(subtract(found.state, whole.state)) < 1e-4 * norm(subtract(whole.state, start))
    assert found.loss == pytest.approx(whole.loss, rel=1e-5)
    assert found.steps == whole.steps


def test_an_attempt_that_failed_leaves_no_trace() -> None:
    # With dropout the parts draw other masks than the whole: what counts is that the failed attempts drew nothing.
    experiment = experiment_of(dropout=0.3)
    found, _, size = fit(experiment, 2)
    assert size == 2
    with training_on("cpu"):
        warm_model(experiment).trains.size = 2
    start = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    with training_on("cpu"):
        again = fit_gradient(experiment, start, records_of(20), rule=Plain(), factor=1.0, seed=1)
        warm_model(experiment).trains.size = None
    assert norm(subtract(found.state, again.state)) == 0


def test_running_means_are_put_back() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    back = rewind(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = network(torch.randn(4, 3))
    assert not torch.equal(network.state_dict()["0.running_mean"], before["0.running_mean"])
    back()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(network(torch.randn(4, 3)), first)


def test_not_even_one_record() -> None:
    with pytest.raises(Refused, match="one record at a time") as caught:
        fit(experiment_of(), 0)
    assert caught.value.code == "E_MEMORY"


def test_predictions_in_halves() -> None:
    experiment = experiment_of()
    start = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    with training_on("cpu"):
        warm = warm_model(experiment)
        whole = predict_gradient(experiment, start, records_of(70))
        tight = Tight(warm.flat.model, 5, MemoryError)
        found = predict_gradient(experiment, start, records_of(70))
        tight.hook.remove()
    assert warm.predicts.size == 4
    warm.predicts.size = None
    np.testing.assert_allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize(("count", "size"), [(0, None), (1, None), (5, 2), (6, 3), (2, 9)])
def test_the_parts_are_the_whole(count: int, size: int | None) -> None:
    parts = in_parts(count, MicroBatch(size), lambda part: list(range(part.start, part.stop)))
    assert [one for part in parts for one in part] == list(range(count))


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        in_parts(4, MicroBatch(), lambda part: (_ for _ in ()).throw(RuntimeError("shapes do not fit")))
    assert not ran_out(ValueError("can't allocate memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**14)
    assert ran_out(caught.value)
