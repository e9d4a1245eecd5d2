"""One battery over STEPS: the contract of every step, from the moment its line is added."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.preprocessing import STEPS
from shared_models.core.choices import Choice, knobs_of, pick
from shared_models.core.errors import BadChoice, BadInput, BadStudy
from shared_models.harmonisation.landmarks import PERCENTILES

NAMES = sorted(STEPS)
KNOBS: dict[str, dict[str, Any]] = {
    "resample": {"y_mm": 2.0, "x_mm": 3.0},
    "standardise": {"standard_hu": [float(-950 + 6 * p) for p in PERCENTILES]},
    "harmonise": {"noise_hu": 8.0},
}
"""Knobs that make a step do something, or that it cannot do without; a step without a line here is tested as it is."""
OTHER_GRID = {"crop_lung", "resample"}
"""Steps that give another grid."""
NOT_HU = {"clahe", "clip", "standardise", "window"}
"""Steps after which the numbers are no Hounsfield units."""
WHOLE = {"calibrate_air", "crop_lung", "harmonise", "standardise"}
"""Steps that look at the whole study before they treat a slice."""
NEEDS = {("harmonise", "NO_EDGES"), ("calibrate_air", "NO_AIR")}
"""Steps that measure something in the image, and what they say where it is not there."""
BOUNDS: list[tuple[str, dict[str, Any]]] = [
    ("anisotropic_diffusion", {"rate": 0.3}),
    ("anisotropic_diffusion", {"iterations": 0}),
    ("anisotropic_diffusion", {"conduction": "linear"}),
    ("bilateral", {"radius": 0}),
    ("bilateral", {"contrast_hu": 0}),
    ("calibrate_air", {"most_hu": 0}),
    ("clahe", {"tiles": 0}),
    ("clahe", {"clip": 0.5}),
    ("crop_lung", {"margin_mm": -1}),
    ("harmonise", {"mtf50_per_mm": 0}),
    ("harmonise", {"noise_hu": -1}),
    ("median", {"size": 1}),
    ("non_local_means", {"noise_hu": 0}),
    ("resample", {"isotropic_mm": 0.1}),
    ("standardise", {"standard_hu": [1.0, 2.0]}),
    ("switching_median", {"full_above_hu": 0}),
    ("wiener", {"size": 17}),
    ("window", {"width_hu": 0}),
]
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("clip", {"low_hu": 5.0, "high_hu": 5.0}),
    ("median", {"size": 4}),
    ("standardise", {"standard_hu": [0.0] * len(PERCENTILES)}),
    ("switching_median", {"low_hu": 5.0, "high_hu": 5.0}),
    ("switching_median", {"none_below_hu": 200.0}),
    ("wiener", {"size": 4}),
]
"""Knobs that only contradict one another."""


def chest(slices: int = 5, rows: int = 96, columns: int = 128) -> Prepared:
    """Two lungs in soft tissue, with noise: enough border for `harmonise`."""
    y, x = np.mgrid[:rows, :columns] * 1.5
    mask = np.zeros((slices, rows, columns), np.uint8)
    for side, centre in ((1, 50.3), (2, 140.8)):
        mask[:, np.hypot((y - 71.6) / 1.4, x - centre) < 38] = side
    hu = np.where(mask > 0, -850.0, 40.0) + np.random.default_rng(0).normal(0, 20, mask.shape)
    hu[:, :4], hu[:, -4:] = -1000, -1000
    hu[:, :, :8] = np.random.default_rng(1).normal(-990, 20, (slices, rows, 8))
    return Prepared(Volume(hu.astype(np.float32), (2.5, 1.5, 1.5), (5.0, -3.0, 7.0)), mask)


def step(name: str) -> Any:
    return pick(STEPS, Choice.model_validate({"name": name, **KNOBS.get(name, {})}), kind="step")


@pytest.mark.parametrize("name", NAMES)
class TestEveryStep:
    def test_gives_a_whole_image_and_leaves_its_input_alone(self, name: str) -> None:
        before = chest()
        hu, mask = before.volume.hu.copy(), before.mask
        assert mask is not None
        kept = mask.copy()
        before.volume.hu.flags.writeable = mask.flags.writeable = False
        after = step(name)(before)
        np.testing.assert_array_equal(before.volume.hu, hu)
        np.testing.assert_array_equal(mask, kept)
        assert after.volume.hu.dtype == np.float32 and np.isfinite(after.volume.hu).all()
        assert after.mask is not None and after.mask.dtype == np.uint8 and set(np.unique(after.mask)) == {0, 1, 2}
        assert not np.shares_memory(after.volume.hu, before.volume.hu)
        assert (after.volume.spacing_mm, after.volume.hu.shape) == (before.volume.spacing_mm, hu.shape) or name in OTHER_GRID
        if name not in OTHER_GRID:
            np.testing.assert_array_equal(after.mask, kept)
            assert (after.volume.origin_mm, after.volume.direction) == (before.volume.origin_mm, before.volume.direction)
        np.testing.assert_array_equal(step(name)(before).volume.hu, after.volume.hu)

    def test_says_whether_its_numbers_are_hu_and_never_makes_them_so_again(self, name: str) -> None:
        assert step(name)(chest()).is_hu == (name not in NOT_HU)
        try:
            assert not step(name)(replace(chest(), is_hu=False)).is_hu
        except BadInput as error:
            assert "Hounsfield" in error.rule

    def test_a_constant_image_stays_constant(self, name: str) -> None:
        flat = chest()
        flat = replace(flat, volume=replace(flat.volume, hu=np.full_like(flat.volume.hu, -700)))
        try:
            after = step(name)(flat)
        except BadStudy as error:
            assert (name, error.reason) in NEEDS
            return
        assert np.ptp(after.volume.hu) < 1e-3
        if name not in NOT_HU:
            np.testing.assert_allclose(after.volume.hu, -700, atol=1e-3)

    def test_takes_small_and_oblong_slices(self, name: str) -> None:
        for shape in ((1, 1, 1), (2, 3, 17), (1, 40, 2)):
            tiny = Prepared(Volume(np.random.default_rng(1).normal(-700, 90, shape).astype(np.float32), (3, 1.5, 1.5)), np.ones(shape, np.uint8))
            try:
                assert np.isfinite(step(name)(tiny).volume.hu).all()
            except BadStudy as error:
                assert (name, error.reason) in NEEDS

    def test_every_knob_has_a_type_and_unknown_ones_are_refused(self, name: str) -> None:
        for knob in knobs_of(STEPS[name]).values():
            assert knob.annotation is not knob.empty, knob.name
        with pytest.raises(BadChoice, match="no knob"):
            pick(STEPS, Choice.model_validate({"name": name, "nonsense": 1}), kind="step")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE])
def test_slices_do_not_mix(name: str) -> None:
    before = chest()
    other = before.volume.hu.copy()
    other[3] = 40
    after, changed = step(name)(before), step(name)(replace(before, volume=replace(before.volume, hu=other)))
    np.testing.assert_array_equal(np.delete(after.volume.hu, 3, 0), np.delete(changed.volume.hu, 3, 0))
    assert not np.array_equal(after.volume.hu[3], changed.volume.hu[3])


@pytest.mark.parametrize(("name", "knobs"), BOUNDS)
def test_bounds_refuse(name: str, knobs: dict[str, Any]) -> None:
    with pytest.raises(BadChoice):
        pick(STEPS, Choice.model_validate({"name": name, **KNOBS.get(name, {}), **knobs}), kind="step")


def test_every_step_with_knobs_has_a_bound_that_is_tested() -> None:
    assert {name for name in NAMES if name != "clip"} == {name for name, _ in BOUNDS}


@pytest.mark.parametrize(("name", "knobs"), REFUSED)
def test_knobs_that_contradict_one_another_are_refused(name: str, knobs: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        STEPS[name](chest(1), **knobs)


@pytest.mark.parametrize("name", ["crop_lung", "standardise"])
def test_steps_that_need_lung_say_so(name: str) -> None:
    before = chest(1)
    for mask in (None, np.zeros_like(before.mask)):
        with pytest.raises(BadInput, match="lung mask"):
            step(name)(replace(before, mask=mask))
