"""The rule layer: every rule at its boundary, what is not known stays open, and the category of planted phantom maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.hrct.extents import PARTS, extents_of, measures_of
from client.hrct.rules import COMPARES, RULES, Condition, Rule, categorise
from shared_models.core.errors import BadInput
from shared_models.taxonomy import HRCT_CATEGORIES, PATTERN_CODES, PATTERNS
from sim.phantom.lesions import LESIONS
from sim.phantom.patient import make_phantom, traction_index

MEASURES = (
    *(f"{name}_percent" for name in PARTS),
    "subpleural_basal_index",
    "upper_middle_index",
    "ggo_over_reticulation",
    "traction_index",
    "mosaic",
)
HOLDING: dict[str, dict[str, float]] = {
    name: {condition.measure: condition.threshold + {">=": 0, ">": 1e-6, "<": -1e-6}[condition.compare] for condition in rule.conditions}
    for name, rule in RULES.items()
}
"""Measures at which a rule just holds."""


def nothing() -> dict[str, float | None]:
    return dict.fromkeys(MEASURES, 0.0)


def test_the_taxonomy_is_that_of_the_phantom() -> None:
    assert {name: lesion.code for name, lesion in LESIONS.items()} == {name: code for name, code in PATTERN_CODES.items() if code}
    assert {name for name, lesion in LESIONS.items() if lesion.fibrosis} == {name for name, pattern in PATTERNS.items() if pattern.fibrosis}


def test_the_table_is_whole() -> None:
    assert {rule.category for rule in RULES.values()} == set(HRCT_CATEGORIES)
    assert all(rule.source and rule.means for rule in RULES.values()) and list(RULES.values())[-1].conditions == ()
    assert {c.measure for rule in RULES.values() for c in rule.conditions} <= set(MEASURES)
    assert {c.compare for rule in RULES.values() for c in rule.conditions} == set(COMPARES)


@pytest.mark.parametrize("name", list(RULES))
def test_a_rule_holds_at_its_boundary_and_not_beyond(name: str) -> None:
    at = nothing() | HOLDING[name]
    found = categorise(at)
    assert (found.category, found.rule) == (RULES[name].category, name)
    for condition in RULES[name].conditions:
        beyond = condition.threshold if condition.compare != ">=" else condition.threshold - 1e-6
        assert not RULES[name].holds(at | {condition.measure: beyond})
        assert categorise(at | {condition.measure: beyond}).rule != name


@pytest.mark.parametrize("name", list(RULES))
def test_what_is_not_known_leaves_a_rule_open(name: str) -> None:
    for condition in RULES[name].conditions:
        found = categorise(nothing() | HOLDING[name] | {condition.measure: None})
        assert found.category != RULES[name].category or found.rule != name
        if found.category is None:
            assert condition.measure in found.open[name] and found.otherwise is not None and found.otherwise[1] != name
            assert [line["rule"] for line in found.as_dict()["open"]] == list(found.open)


def test_a_rule_that_fails_by_what_is_known_is_not_open() -> None:
    rule = Rule("UIP", (Condition("honeycombing_percent", ">=", 1.0), Condition("subpleural_basal_index", ">=", 1.3)), "")
    assert rule.holds({"honeycombing_percent": 0.5, "subpleural_basal_index": None}) is False
    assert rule.holds({"honeycombing_percent": 1.5, "subpleural_basal_index": None}) is None


def test_bad_measures_are_named() -> None:
    with pytest.raises(BadInput, match="mosaic"):
        categorise({name: value for name, value in nothing().items() if name != "mosaic"})
    with pytest.raises(BadInput, match="ggo_percent"):
        categorise(nothing() | {"ggo_percent": math.nan})
    with pytest.raises(BadInput, match="last rule"):
        categorise(nothing(), {"mosaic": RULES["mosaic"]})


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 60)), min_size=len(MEASURES), max_size=len(MEASURES)))
def test_open_data_never_name_a_category_that_more_knowledge_would_take_back(values: list[float | None]) -> None:
    measures = dict(zip(MEASURES, values, strict=True))
    found = categorise(measures)
    for fill in (0.0, 1.0, 50.0):
        filled = {name: fill if value is None else value for name, value in measures.items()}
        if found.category is not None:
            assert categorise(filled).category == found.category
    assert found.as_dict()["measures"].keys() == measures.keys()


EXPECTED = {
    "normal": "no_ILD",
    "UIP": "UIP",
    "probable_UIP": "probable_UIP",
    "NSIP": "alternative",
    "OP": "alternative",
    "HP": "alternative",
    "indeterminate": "indeterminate",
    "CPFE": "UIP",
}


@pytest.mark.parametrize("klass", list(EXPECTED))
def test_planted_maps_give_the_category_of_their_class(klass: str) -> None:
    right = 0
    seeds = range(6)
    for seed in seeds:
        phantom = make_phantom(klass, seed=seed, grid_mm=6.0)
        extents = extents_of(phantom.labels[::-1], phantom.lung[::-1], phantom.spacing_mm)  # a phantom runs from head to feet
        measures = measures_of(extents, traction_index=traction_index(phantom), mosaic=phantom.extents.get("mosaic", 0) >= 5)
        right += categorise(measures).category == EXPECTED[klass]
        if klass == "probable_UIP":
            unknown = categorise(measures_of(extents))
            assert unknown.category is None and unknown.open["traction"] == ("traction_index",)
        if klass == "UIP":
            assert categorise(measures_of(extents)).category == "UIP"  # honeycombing needs nothing that a map does not hold
    assert right >= 0.9 * len(seeds)


def test_planted_extents_are_found_region_by_region() -> None:
    phantom = make_phantom("CPFE", seed=3, grid_mm=6.0)
    labels, lung = phantom.labels[::-1], phantom.lung[::-1]
    found = extents_of(labels, lung, phantom.spacing_mm)
    for name in ("honeycombing", "emphysema"):
        assert found["whole"][name] == pytest.approx(phantom.extents[name], abs=1e-9)
    volumes = {zone: np.count_nonzero(part) for zone, part in _thirds(lung).items()}
    total = sum(volumes[zone] * found[zone]["fibrosis"] for zone in volumes) / sum(volumes.values())
    assert total == pytest.approx(found["whole"]["fibrosis"], abs=1e-9)
    assert found["upper"]["emphysema"] > 2 * found["lower"]["emphysema"] and found["subpleural"]["honeycombing"] > found["central"]["honeycombing"]


def _thirds(lung: np.ndarray) -> dict[str, np.ndarray]:
    (rows,) = np.nonzero(lung.any((1, 2)))
    n = rows[-1] + 1 - rows[0]
    edges = [int(rows[0]), *(int(rows[0]) + -(-k * n // 3) for k in (1, 2)), int(rows[-1]) + 1]
    return {zone: lung[low:high] for zone, low, high in zip(("lower", "middle", "upper"), edges[:-1], edges[1:], strict=True)}


def test_what_a_map_cannot_tell_is_not_known() -> None:
    mask = np.ones((6, 4, 4), np.uint8)
    extents = extents_of(np.zeros_like(mask), mask, (5.0, 5.0, 5.0))
    measures = measures_of(extents, told=("normal", "reticulation", "ggo_reticulation", "ggo"), traction_index=1.0, mosaic=False)
    assert measures["honeycombing_percent"] is None and measures["fibrosis_percent"] is None and measures["reticulation_percent"] == 0
    assert categorise(measures).category is None


@pytest.mark.parametrize("bad", ["shape", "label", "lung"])
def test_bad_maps_are_refused(bad: str) -> None:
    mask, labels = np.ones((4, 3, 3), np.uint8), np.zeros((4, 3, 3), np.uint8)
    if bad == "shape":
        labels = labels[1:]
    if bad == "label":
        labels[0, 0, 0] = 8
    if bad == "lung":
        mask[:] = 0
    with pytest.raises(BadInput):
        extents_of(labels, mask, (1.0, 1.0, 1.0))
