"""The site's device and the experiment's precision: what is chosen, what is refused, and what a scaled step does."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from client.site import Place
from client.training.device import Precision, current_device, find_device, training_on
from shared_models.core.errors import BadInput, Refused
from shared_models.core.state import norm, subtract
from tests.client.training.test_gradient import fit, moved

CPU = torch.device("cpu")
NO_GPU = not torch.cuda.is_available()


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_site_names_its_device(name: str) -> None:
    assert Place(name="alpha", device=name).device == name


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "CPU", "cuda:123", "cpu:0", "mps"])
def test_other_words_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Place(name="alpha", device=name)


@pytest.mark.parametrize(
    ("count", "wanted", "found"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "auto", "cuda"), (2, "cpu", "cpu"), (2, "cuda", "cuda"), (2, "cuda:1", "cuda:1")],
)
def test_the_device_that_is_found(count: int, wanted: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert find_device(wanted) == torch.device(found)


@pytest.mark.parametrize(("count", "wanted"), [(0, "cuda"), (0, "cuda:0"), (1, "cuda:1"), (2, "cuda:2")])
def test_a_gpu_that_is_not_there_is_said(count: int, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    with training_on(wanted), pytest.raises(BadInput, match="device must be there") as caught:
        fit()
    assert caught.value.code == "E_DEVICE"
    assert wanted in str(caught.value)


def test_the_choice_ends_with_the_body() -> None:
    with training_on("cpu"):
        assert current_device() == CPU
        with pytest.raises(ZeroDivisionError), training_on("cuda:99"):
            raise ZeroDivisionError
        assert current_device() == CPU


def test_mixed_precision_without_a_gpu_is_full_precision_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with training_on("cpu"), caplog.at_level(logging.INFO, logger="fedild.training"):
        full = fit()
        assert not caplog.records
        mixed = fit(precision="mixed")
    assert norm(subtract(full.state, mixed.state)) == 0
    assert {record.getMessage() for record in caplog.records} == {"mixed precision needs a GPU: this round is trained in full precision"}


def step(precision: Precision, weights: torch.Tensor, slope: float) -> bool:
    """Take one step along the scaled gradient of ``slope * sum(weights)``."""
    gradient = torch.full_like(weights, slope) * float(precision.scaled(torch.tensor(1.0)))
    return precision.step(weights, gradient, lambda: weights.sub_(gradient))


def test_a_scaled_step_is_the_plain_step() -> None:
    half = Precision("mixed", CPU, narrow=torch.float16)
    assert float(half.scaled(torch.tensor(1.0))) == 2.0**16
    weights = torch.zeros(3)
    assert step(half, weights, 0.25)
    assert weights.tolist() == [-0.25] * 3


@pytest.mark.parametrize("narrow", [None, torch.float16])
def test_a_gradient_beside_the_step_is_freed_of_the_scale(narrow: torch.dtype | None) -> None:
    precision = Precision("mixed", CPU, narrow=narrow)
    assert precision.unscaled(0.25 * precision.scaled(torch.ones(2))).tolist() == [0.25, 0.25]
    assert not precision.unscaled(torch.tensor(float("inf"))).isfinite()


def test_a_step_that_overflows_is_left_out_and_the_scale_halved() -> None:
    half = Precision("mixed", CPU, narrow=torch.float16)
    weights = torch.zeros(3)
    assert not step(half, weights, float("inf"))
    assert weights.tolist() == [0.0] * 3
    assert half.state()["scale"] == 2.0**15
    other = Precision("mixed", CPU, narrow=torch.float16)
    other.load(half.state())
    assert other.state() == half.state()
    assert step(other, weights, 0.5)
    assert weights.tolist() == [-0.5] * 3


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_a_mixed_round_learns_what_a_full_one_does(narrow: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed(how: Any, device: torch.device) -> Precision:
        return Precision(how, device, narrow=narrow)

    with training_on("cpu"):
        full = fit(epochs=3)
        monkeypatch.setattr("client.training.gradient.Precision", mixed)
        found = fit(epochs=3, precision="mixed")
    difference = norm(subtract(found.state, full.state))
    assert 0 < difference < 0.1 * moved(full)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs a CUDA device")
def test_mixed_precision_on_a_gpu() -> None:
    with training_on("cpu"):
        plain = fit(epochs=3)
    with training_on("cuda"):
        full, mixed = fit(epochs=3), fit(epochs=3, precision="mixed")
    assert norm(subtract(full.state, plain.state)) < 0.05 * moved(plain)  # other dropout, as a GPU draws its own
    assert 0 < norm(subtract(mixed.state, full.state)) < 0.1 * moved(full)
    assert mixed.loss == pytest.approx(full.loss, abs=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs a CUDA device")
def test_a_gpu_that_is_full() -> None:
    from client.training.micro_batch import MicroBatch, in_parts

    fits, free = MicroBatch(), torch.cuda.mem_get_info()[0]
    taken = in_parts(64, fits, lambda part: torch.empty((part.stop - part.start) * free // 16, dtype=torch.uint8, device="cuda").numel())
    assert fits.size is not None
    assert fits.size < 16
    assert len(taken) == 64 // fits.size
    with pytest.raises(Refused, match="one record at a time"):
        in_parts(2, fits, lambda part: torch.empty(4 * free, dtype=torch.uint8, device="cuda"))
