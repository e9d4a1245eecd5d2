"""Learning classes of pixels: what is taught where, that nothing is taught where nobody drew, and that sites together take the pooled step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.selection import measure
from client.training.gradient import fit_gradient, network_of
from client.training.maps import judged_records, predict_maps
from client.training.records import Records, centred, slices_at, slices_of, spread
from client.training.rules import Plain
from client.training.targets import class_map, images_and_classes
from client.training.used import check_unused
from shared_models.blocks.segmentation import deep_overlap, overlap_loss
from shared_models.catalogue import MODELS, initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort
from shared_models.core.state import digest
from shared_models.experiment import Data, Experiment, Inputs
from shared_models.metrics.segmentation import score_pixels
from tests.shared_models.tiny import TINY

NAMES = sorted(name for name, spec in MODELS.items() if spec.task == "segmentation" and spec.fit == "gradient")
PATTERNS = Data.model_validate(
    {"target": "segmentation", "classes": ["normal", "ggo", "fibrosis"], "merge": dict.fromkeys(("reticulation", "honeycombing"), "fibrosis")}
)
LUNG = Data.model_validate({"target": "segmentation", "annotation": "lung"})


def study(seed: int = 0, annotated: bool = True) -> Prepared:
    """A block of lung in which brightness tells the pattern; every second slice was drawn."""
    rng = np.random.default_rng(seed)
    codes = np.zeros((12, 40, 48), np.uint8)
    for code, hu in ((1, 0), (2, 1), (3, 2)):
        y, x = rng.integers(6, 24, 2)
        codes[:, y : y + 9, x : x + 9] = code
        del hu
    mask = np.zeros(codes.shape, np.uint8)
    mask[2:10, 4:36, 4:44] = 1
    hu = np.where(mask > 0, np.array([-850.0, -600.0, -300.0, -300.0])[codes], 40.0).astype(np.float32)
    drawn = codes.copy()
    drawn[1::2] = 255
    return Prepared(Volume(hu, (3.0, 2.0, 2.0)), mask, annotation=drawn if annotated else None)


def experiment_of(name: str, data: Data = PATTERNS, **train: Any) -> Experiment:
    settings = {"steps": 1, "batch": 64, "optimiser": {"name": "sgd", "lr": 0.05}, "schedule": "constant", **train}
    model = Choice.model_validate({"name": name, **TINY[name]})
    inputs = Inputs(slices=2, size=24, pixel_mm=4.0 if data.annotation == "lung" else None)
    return Experiment.model_validate({"name": "pixels", "data": data, "model": model, "inputs": inputs, "train": settings})


def records_of(count: int = 4, data: Data = PATTERNS) -> Records:
    inputs = experiment_of("unet", data).inputs
    pairs = [images_and_classes(study(seed), data, inputs) for seed in range(count)]
    images, classes = np.stack([image for image, _ in pairs]), np.stack([one for _, one in pairs])
    return Records(images, np.zeros(count, np.int64), tuple(map(str, range(count))), targets=classes)


def start(experiment: Experiment) -> dict[str, np.ndarray]:
    return initial_state(experiment.model, inputs=1, outputs=len(experiment.data.classes), seed=0)


class TestTargets:
    def test_patterns_are_learnt_inside_the_lung_where_they_were_drawn(self) -> None:
        one = study()
        found = class_map(one, PATTERNS)
        assert one.mask is not None
        assert one.annotation is not None
        assert (found[1::2] == 255).all()
        assert (found[one.mask == 0] == 255).all()
        inside = (one.mask > 0) & (one.annotation != 255)
        np.testing.assert_array_equal(found[inside], np.array([0, 1, 2, 2])[one.annotation[inside]])

    def test_a_pattern_that_nobody_asks_for_teaches_nothing(self) -> None:
        data = Data.model_validate({"target": "segmentation", "classes": ["normal", "ggo"]})
        one = study()
        assert one.annotation is not None
        assert (class_map(one, data)[one.annotation == 3] == 255).all()

    def test_the_lung_is_learnt_everywhere(self) -> None:
        one = study(annotated=False)
        assert one.mask is not None
        np.testing.assert_array_equal(class_map(one, LUNG), one.mask)

    @pytest.mark.parametrize("data", [PATTERNS, LUNG])
    def test_classes_lie_on_the_pixels_of_the_images(self, data: Data) -> None:
        inputs = Inputs(slices=4, size=64, pixel_mm=1.5 if data.annotation == "lung" else None, window_hu=(-850.0, 150.0))
        image, classes = images_and_classes(study(), data, inputs)
        assert image.shape == classes.shape == (4, 64, 64)
        assert classes.dtype == np.uint8
        levels = np.array([0.0, 0.25, 0.55]) if data is PATTERNS else None
        for number in range(3 if levels is not None else 0):
            assert abs(np.median(image[classes == number]) - levels[number]) < 0.02
        if levels is None:
            assert np.median(image[classes == 0]) > 0.6 > np.median(image[classes == 1])

    def test_whole_slices_are_spread_over_the_series_and_filled_up(self) -> None:
        one, inputs = study(), Inputs(slices=3, size=64, pixel_mm=2.0)
        found = slices_of(one, inputs)
        np.testing.assert_array_equal(found, slices_at(one, inputs, spread(12, 3)))
        unit = np.clip((one.volume.hu[[0, 6, 11]] + 1000) / 1200, 0, 1)
        np.testing.assert_allclose(found, centred(unit, 64, 0), atol=1e-6)
        assert centred(np.ones((1, 4, 70), np.uint8), 10, 255)[0].tolist() == [[255] * 10] * 3 + [[1] * 10] * 4 + [[255] * 10] * 3

    def test_a_study_that_nobody_drew_on_is_named(self) -> None:
        with pytest.raises(BadCohort, match="must have an annotation"):
            class_map(study(annotated=False), PATTERNS)
        blank = replace(study(), annotation=np.full((12, 40, 48), 255, np.uint8))
        with pytest.raises(BadCohort, match="drawn slices inside the lungs"):
            images_and_classes(blank, PATTERNS, Inputs())


class TestLoss:
    def test_no_gradient_where_nobody_drew(self) -> None:
        torch.manual_seed(0)
        logits = torch.randn(2, 3, 2, 6, 6, requires_grad=True)
        targets = torch.randint(0, 3, (2, 2, 6, 6), dtype=torch.uint8)
        targets[0, 1], targets[1, :, :3] = 255, 255
        overlap_loss(logits, targets).sum().backward()
        assert logits.grad is not None
        hidden = (targets == 255)[:, None].expand_as(logits)
        assert (logits.grad[hidden] == 0).all()
        assert (logits.grad[~hidden] != 0).all()

    def test_what_is_hidden_does_not_count(self) -> None:
        torch.manual_seed(1)
        logits, targets = torch.randn(1, 3, 4, 6), torch.randint(0, 3, (1, 4, 6))
        shown = torch.cat([targets, torch.full_like(targets, 255)], dim=2)
        torch.testing.assert_close(overlap_loss(torch.cat([logits, torch.randn(1, 3, 4, 6)], dim=3), shown), overlap_loss(logits, targets))
        assert overlap_loss(logits, torch.full_like(targets, 255)).tolist() == [0.0]

    def test_every_head_is_taught(self) -> None:
        heads = tuple(torch.randn(2, 3, 1, 4, 4) for _ in range(2))
        targets = torch.randint(0, 3, (2, 1, 4, 4), dtype=torch.uint8)
        expected = (overlap_loss(heads[0], targets) + overlap_loss(heads[1], targets)) / 2
        torch.testing.assert_close(deep_overlap(heads, targets, targets), expected)


@pytest.mark.parametrize("name", NAMES)
class TestNetwork:
    def test_contract(self, name: str) -> None:
        experiment, records = experiment_of(name), records_of()
        state = start(experiment)
        fitted = fit_gradient(experiment, state, records, rule=Plain(), factor=1.0, seed=0)
        assert digest(fitted.state) == digest(fit_gradient(experiment, state, records, rule=Plain(), factor=1.0, seed=0).state) != digest(state)
        check_unused(experiment, fitted.state, state, records.inputs.shape[1:])
        slow = name == "mean_teacher"  # its teacher takes in the student as it was before the step
        assert all(fitted.state[key].tobytes() != state[key].tobytes() for key in state if not (slow and key.startswith("teacher.")))
        maps = predict_maps(experiment, state, records)
        assert (maps.shape, maps.dtype) == (records.inputs.shape, np.uint8)
        np.testing.assert_array_equal(predict_maps(experiment, state, records.take([2])), maps[2:3])
        network = network_of(experiment, state)
        assert slow or network.state_dict().keys() == dict(network.named_parameters()).keys()
        assert judged_records(experiment, state, records).sum() == (records.targets != 255).sum()

    def test_one_full_step_of_each_of_two_sites_is_the_pooled_step(self, name: str) -> None:
        experiment, records = experiment_of(name), records_of(5)
        state = start(experiment)

        def stepped(some: Records) -> dict[str, np.ndarray]:
            return fit_gradient(experiment, state, some, rule=Plain(), factor=1.0, seed=0).state

        whole, parts = stepped(records), [stepped(records.take([0, 1, 2])), stepped(records.take([3, 4]))]
        for key, value in whole.items():
            np.testing.assert_allclose((3 * parts[0][key] + 2 * parts[1][key]) / 5, value, atol=1e-5, err_msg=key)

    def test_eight_slices_are_learnt_by_heart(self, name: str) -> None:
        experiment = experiment_of(name, steps=80, batch=4, optimiser={"name": "adamw", "lr": 0.02})
        records = records_of(4)
        fitted = fit_gradient(experiment, start(experiment), records, rule=Plain(), factor=1.0, seed=0)
        tables = judged_records(experiment, fitted.state, records)
        assert (score_pixels(tables, experiment.data.classes, bootstrap=0)["dice"]["value"] or 0) >= 0.9


def test_beyond_the_scan_there_is_no_lung_but_a_pattern_is_not_known() -> None:
    inputs = Inputs(slices=4, size=48, pixel_mm=4.0)  # 192 mm around a scan of 80 x 96 mm
    for data, beyond in ((LUNG, 0), (PATTERNS, 255)):
        _, classes = images_and_classes(study(), data, inputs)
        around = np.ones((48, 48), bool)
        around[14:34, 12:36] = False
        assert (classes[:, around] == beyond).all() and (classes[:, ~around] == 1).any()


def test_what_a_site_measures() -> None:
    experiment, records = experiment_of("unet"), records_of(4)
    found = measure(experiment, start(experiment), records)
    assert list(found) == ["val_loss", "val_dice", "val_dice_ggo", "val_cases"]  # a class of the experiment's own making has no name at the gate
    assert found["val_dice_ggo"].smallest_class == 4
    assert found["val_dice"].value is not None
    assert 0 <= found["val_dice"].value <= 1
