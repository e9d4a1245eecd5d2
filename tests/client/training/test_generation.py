"""What a site says of drawn slices: the measures against the obvious way, and that collapse, a wrong level and copied patients are seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.training import generation
from client.training.generation import drawn_slices, features_of, memorisation_report
from client.training.likeness import frechet_distance, level_and_spread, nearest, pairwise_ssim, psnr_db
from client.training.records import Records
from shared_models.core.arrays import State
from shared_models.experiment import Experiment, Inputs
from tests.client.training.test_adversarial import experiment_of, start

WINDOW = (-1350.0, 150.0)


def asked() -> Experiment:
    return experiment_of().model_copy(update={"inputs": Inputs(size=16, slices=2, window_hu=WINDOW)})


def patients(count: int, seed: int) -> Records:
    """Smooth slices of two classes, 200 HU apart, each patient different."""
    rng = np.random.default_rng(seed)
    y, ramp = np.arange(count) % 2, np.linspace(0, 1, 16)
    waves = rng.uniform(0.5, 3, (count, 2, 1, 1)) * ramp[:, None] + rng.uniform(0.5, 3, (count, 2, 1, 1)) * ramp + rng.uniform(0, 6, (count, 2, 1, 1))
    x = (0.35 + 2 / 15 * y[:, None, None, None] + 0.1 * np.sin(2 * waves)).astype(np.float32)
    return Records(x, y, tuple(f"{seed}-{number}" for number in range(count)))


def report_of(monkeypatch: pytest.MonkeyPatch, draw: Any) -> dict[str, Any]:
    """The report of a generator that draws `draw(labels)`."""

    def drawn(experiment: Experiment, state: State, labels: np.ndarray, shape: tuple[int, int], *, seed: int) -> np.ndarray:
        assert shape == (16, 16)
        return draw(labels)

    monkeypatch.setattr(generation, "drawn_slices", drawn)
    return memorisation_report(asked(), {}, patients(40, 1), patients(16, 2), seed=0)


def others(labels: np.ndarray) -> np.ndarray:
    """Slices of patients that nobody has seen, of the classes asked for."""
    fresh = patients(200, 3)
    return np.stack([fresh.inputs[fresh.labels == label][number % 100, number // 100] for number, label in enumerate(labels)])


def test_a_perfect_generator_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = report_of(monkeypatch, others)
    assert found["samples"] == 64
    assert found["mean_error_hu"] < 40
    assert found["sd_error"] < 0.3
    assert 0.6 < found["memory_ratio"] < 1.6
    assert found["frechet"] < 3 * found["held_out_frechet"]
    assert found["pair_ssim"] == pytest.approx(found["real_pair_ssim"], abs=0.15)


def test_one_that_hands_out_patients_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    known = patients(40, 1)

    def copied(labels: np.ndarray) -> np.ndarray:
        return np.stack([known.inputs[known.labels == label][number % 20, 0] for number, label in enumerate(labels)]) + 1e-4

    found = report_of(monkeypatch, copied)
    assert found["memory_ratio"] < 0.02
    assert found["closest_hu"] == pytest.approx(0.15, rel=0.1)  # 1e-4 of a window of 1500 HU
    assert found["mean_error_hu"] < 40  # and by its statistics alone it would have passed


def test_one_that_draws_one_slice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = report_of(monkeypatch, lambda labels: np.tile(patients(2, 9).inputs[:1, 0], (len(labels), 1, 1)))
    assert found["pair_ssim"] == pytest.approx(1.0)


def test_one_that_mistakes_a_class_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = report_of(monkeypatch, lambda labels: others(1 - labels))
    assert found["mean_error_hu"] == pytest.approx(200, abs=25)


def test_equal_seeds_draw_equal_slices_and_disturb_nobody() -> None:
    import torch

    labels = np.array([0, 1, 1])
    torch.manual_seed(5)
    one = drawn_slices(asked(), start(asked()), labels, (16, 16), seed=4)
    after = torch.rand(1).item()
    torch.manual_seed(5)
    assert torch.rand(1).item() == after
    assert one.shape == (3, 16, 16)
    assert 0 <= one.min() <= one.max() <= 1
    np.testing.assert_array_equal(one, drawn_slices(asked(), start(asked()), labels, (16, 16), seed=4))
    assert (one != drawn_slices(asked(), start(asked()), labels, (16, 16), seed=5)).any()
    assert drawn_slices(asked(), start(asked()), labels, (24, 20), seed=4).shape == (3, 24, 20)


def test_nothing_held_out_leaves_what_needs_it_open() -> None:
    found = memorisation_report(asked(), start(asked()), patients(8, 1), patients(8, 1).take([]), seed=0)
    assert (found["memory_ratio"], found["held_out_frechet"], found["held_out_nearest_hu"]) == (None, None, None)
    assert math.isfinite(found["frechet"])


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(-3, 3), st.floats(0.1, 3))
def test_frechet_of_independent_columns_is_the_sum_over_them(mean_1: float, sd_1: float, mean_2: float, sd_2: float) -> None:
    square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    found = frechet_distance(mean_1 + sd_1 * square, mean_2 + sd_2 * square)
    assert found == pytest.approx(2 * ((mean_1 - mean_2) ** 2 + 4 / 3 * (sd_1 - sd_2) ** 2), abs=1e-6)


def test_frechet_grows_with_the_distance_and_is_the_same_both_ways() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 6)), rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a, b + 5) > frechet_distance(a, b + 1) > 0


def test_measures_against_the_obvious_way() -> None:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(2)
    images, known = rng.random((4, 12, 12)), rng.random((5, 12, 12))
    slow = [min(float(np.sqrt(np.mean((one - other) ** 2))) for other in known) for one in images]
    np.testing.assert_allclose(nearest(images, known), slow)
    pairs = [
        structural_similarity(images[i], images[j], win_size=7, data_range=1.0, use_sample_covariance=False, full=True)[1].mean()
        for i in range(4)
        for j in range(i)
    ]
    assert pairwise_ssim(images) == pytest.approx(float(np.mean(pairs)), abs=1e-9)
    assert level_and_spread(np.zeros((2, 3, 3))) == (0.0, 0.0)
    assert psnr_db(images, images + 0.01) == pytest.approx(40, abs=1e-9)


def test_the_ruler_is_fixed() -> None:
    one = np.linspace(0, 1, 256).reshape(1, 16, 16)
    assert features_of(one).shape == (1, 64)
    np.testing.assert_array_equal(features_of(one), features_of(one))
    assert features_of(np.zeros((0, 16, 16))).shape == (0, 64)
