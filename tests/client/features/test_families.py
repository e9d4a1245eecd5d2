"""What every feature family must hold: its names, its refusals, and that air around the lung changes nothing."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from client.cases.prepared import Prepared
from client.features import FEATURE_NAMES, FEATURES, doubled, feature_names
from client.prepare import check_preparation
from shared_models.core.choices import Choice, knobs_of, pick
from shared_models.core.errors import BadChoice, BadInput
from shared_models.experiment import Preparation
from tests.client.features.chests import chest, padded

CHOICES = {name: Choice(name=name) for name in FEATURES} | {
    "embedding": Choice.model_validate(
        {
            "name": "embedding",
            "encoder": {"name": "segresnet", "width": 4, "blocks": [1, 1, 1]},
            "weights": "random",
            "normalisation": {"spacing_mm": [8.0, 5.0, 5.0], "axes": "SPL", "window_hu": [-1024.0, 2048.0]},
        }
    )
}
"""Every family as an experiment would name it; without knobs where there are none that must be given."""

BLIND = {"extents", "shape"}
"""Families that do not look at the image, and so may have any."""


def described(name: str, prepared: Prepared) -> dict[str, float]:
    if name == "extents" and prepared.mask is not None:  # as readers would have drawn it: denser lung is ground glass
        drawn = ((prepared.volume.hu > -800) & (prepared.mask > 0)).astype(np.uint8)
        prepared = dataclasses.replace(prepared, annotation=drawn)
    return pick(FEATURES, CHOICES[name], kind="feature family")(prepared)


def test_tables_hold_the_same_families() -> None:
    assert list(FEATURES) == list(FEATURE_NAMES) == sorted(FEATURES)
    together = feature_names(CHOICES.values())
    assert len(together) == len(set(together))


@pytest.mark.parametrize("name", FEATURES)
def test_names_and_numbers(name: str) -> None:
    prepared = chest(1)
    image, labels = prepared.volume.hu.copy(), None if prepared.mask is None else prepared.mask.copy()
    found = described(name, prepared)
    assert tuple(found) == feature_names([CHOICES[name]])
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert found == described(name, prepared)  # the same again
    assert np.array_equal(prepared.volume.hu, image) and np.array_equal(prepared.mask, labels)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", FEATURES)
def test_air_around_changes_nothing(name: str) -> None:
    prepared = chest(2)
    found, wider = described(name, prepared), described(name, padded(prepared, 5))
    for feature, value in found.items():
        assert wider[feature] == pytest.approx(value, rel=1e-6, abs=1e-6), feature


@pytest.mark.parametrize("name", FEATURES)
def test_no_lung_gives_no_number_or_nothing(name: str) -> None:
    prepared = chest(1)
    assert prepared.mask is not None
    found = described(name, dataclasses.replace(prepared, mask=np.zeros_like(prepared.mask)))
    assert tuple(found) == feature_names([CHOICES[name]])
    assert all(math.isnan(value) or value == 0.0 for value in found.values())


@pytest.mark.parametrize("name", FEATURES)
def test_refusals(name: str) -> None:
    prepared = chest(1)
    with pytest.raises(BadInput, match="mask"):
        described(name, Prepared(prepared.volume))
    changed = prepared.with_image(prepared.volume, is_hu=False)
    if name in BLIND:
        assert described(name, changed) == described(name, prepared)
    else:
        with pytest.raises(BadInput, match="Hounsfield"):
            described(name, changed)


@pytest.mark.parametrize("name", [name for name in FEATURES if "side" in knobs_of(FEATURES[name])])
def test_sides(name: str) -> None:
    prepared = chest(3)
    assert prepared.mask is not None
    only_left = dataclasses.replace(prepared, mask=np.where(prepared.mask == 2, prepared.mask, 0).astype(np.uint8))
    choice = Choice(name=name, side="left")
    found = pick(FEATURES, choice, kind="feature family")(prepared)
    assert tuple(found) == feature_names([choice])
    assert not set(found) & set(FEATURE_NAMES[name]())
    assert list(found.values()) == pytest.approx(list(FEATURES[name](only_left).values()), rel=1e-9)


def test_a_family_that_would_overwrite_its_own_columns_is_refused() -> None:
    twice = (Choice(name="lbp"), Choice(name="densitometry"), Choice.model_validate({"name": "glcm", "bin_width_hu": 10}), Choice(name="glcm"))
    assert set(doubled(twice)) == set(FEATURE_NAMES["glcm"]())
    with pytest.raises(BadChoice, match="column of its own"):
        check_preparation(Preparation(features=twice))
    sides = (Choice(name="glcm", side="left"), Choice(name="glcm", side="right"), Choice(name="glcm"))
    check_preparation(Preparation(features=sides))
