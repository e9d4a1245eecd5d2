"""A network's own objective: what it is given, that targets move with the images, and what refuses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from client.selection import received_loss
from client.training.augment import AUGMENTATIONS, MOVING
from client.training.gradient import fit_gradient, loss_of_each
from client.training.objective import aims_of, augmented
from client.training.records import Records
from client.training.rules import Plain
from client.training.used import check_unused
from shared_models.catalogue import MODELS
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort
from shared_models.core.state import digest
from shared_models.experiment import Experiment, Privacy, Train
from shared_models.patterns import NOT_ANNOTATED
from sim.check import faults
from tests.client.training.test_gradient import START, experiment_of, records_of


def by_labels(output: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
    assert len(output) == len(batch) == len(targets)
    return cross_entropy(output, targets, reduction="none")


def by_brightness(output: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
    """A loss of the batch alone: as of networks that learn without labels."""
    return (output[:, 0] - batch.flatten(1).mean(1)) ** 2


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """mil_cnn with its cross-entropy said as an objective."""
    monkeypatch.setitem(MODELS, "own", replace(MODELS["mil_cnn"], loss=None, objective=by_labels))
    return named(experiment_of(), "own")


def named(experiment: Experiment, name: str) -> Experiment:
    return experiment.model_copy(update={"model": Choice.model_validate({**experiment.model.model_dump(), "name": name})})


def test_an_objective_that_is_the_loss_trains_the_same_bits(own: Experiment) -> None:
    records = records_of()
    as_loss, as_objective = (fit_gradient(e, START, records, rule=Plain(), factor=1.0, seed=1) for e in (experiment_of(), own))
    assert digest(as_loss.state) == digest(as_objective.state)
    assert as_loss.loss == pytest.approx(as_objective.loss)
    check_unused(own, as_objective.state, START, records.inputs.shape[1:])


def test_an_objective_may_read_the_batch_alone(own: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "own", replace(MODELS["own"], objective=by_brightness))
    records = records_of()
    before = received_loss(own, START, records).value
    fitted = fit_gradient(own, START, records, rule=Plain(), factor=1.0, seed=1)
    other = replace(records, labels=1 - records.labels)
    assert digest(fit_gradient(own, START, other, rule=Plain(), factor=1.0, seed=1).state) == digest(fitted.state)
    after = received_loss(own, fitted.state, records).value
    assert before is not None
    assert after is not None
    assert after < before


def test_targets_take_the_place_of_labels_and_follow_their_records() -> None:
    records = replace(records_of(4), targets=np.arange(4 * 2 * 16 * 16, dtype=np.int32).reshape(4, 2, 16, 16))
    assert records.targets is not None
    taken = Records.join([records.take([2]), records.take([0, 1])])
    assert taken.targets is not None
    np.testing.assert_array_equal(taken.targets, records.targets[[2, 0, 1]])
    np.testing.assert_array_equal(aims_of(records, [3, 1]).numpy(), records.targets[[3, 1]])
    assert aims_of(replace(records, targets=None), [3, 1]).tolist() == records.labels[[3, 1]].tolist()
    assert Records.join([records, replace(records, targets=None)]).targets is None


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_targets_move_exactly_as_the_images(name: str) -> None:
    image = torch.rand(8, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    truth = (image > 0.5).to(torch.uint8)
    generator, alone = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    moved, aims = augmented(image, truth, [(name in MOVING, AUGMENTATIONS[name])], generator, 1e9)
    assert torch.equal(moved, AUGMENTATIONS[name](image, alone, 1e9))
    assert torch.equal(generator.get_state(), alone.get_state())
    seen = aims != NOT_ANNOTATED
    assert torch.equal(aims[seen], ((moved > 0.5).to(torch.uint8) if name in MOVING else truth)[seen]) and bool(seen.all()) == (name != "cut_out")
    assert torch.equal(aims, truth) == (name not in MOVING)
    labels = torch.arange(8)
    assert augmented(image, labels, [(name in MOVING, AUGMENTATIONS[name])], generator, 1.0)[1] is labels


def test_what_an_objective_does_not_read_is_refused(own: Experiment) -> None:
    train = Train(class_weights="balanced", label_smoothing=0.1)
    assert not [fault for fault in faults(own) if "loss of its own" in fault]
    found = [fault for fault in faults(own.model_copy(update={"train": train})) if "loss of its own" in fault]
    assert [fault.split(":")[0] for fault in found] == ["train.class_weights", "train.label_smoothing"]
    private = own.model_copy(update={"privacy": Privacy(unit="patient", noise_multiplier=1.0)})
    assert any(fault.startswith("privacy: 'own' has a loss of its own") for fault in faults(private))
    with pytest.raises(BadCohort, match="no loss of logits and labels"):
        loss_of_each(own)
