"""Quantities of a pattern map: sums over regions, planted phantoms, what a map cannot tell; the change between visits and what follows from it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from client.hrct.change import SIGNS, changes_of, signs_of
from client.hrct.clinical import progression_of, scores_of
from client.hrct.extents import PARTS
from client.hrct.quantities import REGIONS, bin_of, quantities_of
from shared_models.scores.ppf import RADIOLOGY
from sim.phantom.patient import Phantom, make_phantom


def quantities(phantom: Phantom) -> dict[str, dict]:
    return quantities_of(phantom.labels[::-1], phantom.lung[::-1], phantom.spacing_mm)


def test_regions_add_up_and_planted_extents_come_back() -> None:
    phantom = make_phantom("CPFE", seed=3, grid_mm=6.0)
    found = quantities(phantom)
    assert tuple(found) == REGIONS and found["whole"]["lung_ml"] == pytest.approx(phantom.lung_ml)
    for part in PARTS:
        assert found["whole"]["ml"][part] == pytest.approx(found["whole"]["percent"][part] * phantom.lung_ml / 100)
        for regions in (("right", "left"), ("upper", "middle", "lower"), ("subpleural", "central"), [r for r in REGIONS if r.count("_")]):
            assert sum(found[region]["ml"][part] for region in regions) == pytest.approx(found["whole"]["ml"][part], abs=1e-6)
    whole = found["whole"]["percent"]
    assert whole["honeycombing"] == pytest.approx(phantom.extents["honeycombing"], abs=1e-9)
    assert whole["fibrosis"] == pytest.approx(whole["reticulation"] + whole["honeycombing"], abs=1e-9)


def test_bins_at_their_bounds_and_parts_that_a_map_cannot_tell() -> None:
    at = {0.0: "<5", math.nextafter(5, 0): "<5", 5.0: "5-29", math.nextafter(30, 0): "5-29", 30.0: ">=30", 100.0: ">=30"}
    assert {percent: bin_of(percent) for percent in at} == at
    assert bin_of(math.nan) is None
    mask = np.ones((3, 4, 4), np.uint8)
    found = quantities_of(np.ones_like(mask), mask, (5.0, 5.0, 5.0), told=("normal", "ggo", "ggo_reticulation"))
    assert list(found["whole"]["percent"]) == ["ggo"] and found["left"]["lung_ml"] == 0 and math.isnan(found["left"]["percent"]["ggo"])
    assert found["left"]["ml"]["ggo"] == 0.0 and found["left"]["bin"]["ggo"] is None


STEADY = {"fvc_percent": 79.0, "dlco_percent": 59.0, "worse_symptoms": 0.0}
KNOWN = {"limit_low": {"value": -1.0}, "limit_high": {"value": 1.0}}


def test_a_change_is_told_from_the_error_of_measurement_where_that_is_known() -> None:
    first, later = (quantities(make_phantom("UIP", seed=4, grid_mm=6.0, extents=grown, first_fibrosis=12.0))["whole"] for grown in (
        {"honeycombing": 4.0, "reticulation": 8.0}, {"honeycombing": 6.5, "reticulation": 8.5}))  # fmt: skip
    agreement = {"honeycombing": KNOWN, "reticulation": KNOWN}
    found = changes_of(first, later, years=0.5, agreement=agreement)
    assert found["honeycombing"]["change"] == pytest.approx(2.5, abs=0.01) and found["honeycombing"]["per_year"] == pytest.approx(5.0, abs=0.02)
    assert found["honeycombing"]["limit"] == pytest.approx(math.sqrt(2)) and found["honeycombing"]["beyond"] and not found["reticulation"]["beyond"]
    assert found["fibrosis"]["limit"] is None and found["fibrosis"]["beyond"] is None
    assert signs_of(found) == ("new_or_more_honeycombing",) and set(SIGNS) <= set(RADIOLOGY)
    back = changes_of(later, first, years=None, agreement=agreement)
    assert signs_of(back) is None and back["honeycombing"]["per_year"] is None and back["honeycombing"]["beyond"]
    assert signs_of(changes_of(first, later, years=1.0, agreement={})) is None


@pytest.mark.parametrize(
    ("visits", "years", "signs", "fibrosis", "diagnosis", "status", "why"),
    [
        ([{"fvc_percent": 80.0}, {"fvc_percent": 74.0}], 0.9, ("more_reticulation",), 20.0, "uILD", "met", ""),
        ([{"fvc_percent": 80.0}, {"fvc_percent": 74.0, "worse_symptoms": 1.0}], 0.9, None, 20.0, None, "met", ""),
        ([{"fvc_percent": 80.0, "dlco_percent": 60.0}, STEADY], 0.9, None, 20.0, None, "not met", ""),
        ([{}, {}], 0.9, ("more_reticulation",), 20.0, None, "insufficient data", ""),
        ([{"fvc_percent": 80.0}, {"fvc_percent": 74.0}], 1.6, ("more_reticulation",), 20.0, None, "insufficient data", "more than a year"),
        ([{}, {}], None, None, 20.0, None, "insufficient data", "time between"),
        ([{}, {}], 0.5, None, None, None, "insufficient data", "not known"),
        ([{}, {}], 0.5, None, 4.9, None, "does not apply", "less than 5 %"),
        ([{}, {}], 0.5, None, 30.0, "IPF", "does not apply", "IPF"),
    ],
)  # fmt: skip
def test_progression(
    visits: list, years: float | None, signs: tuple | None, fibrosis: float | None, diagnosis: str | None, status: str, why: str
) -> None:
    found = progression_of(visits, years=years, signs=signs, fibrosis=fibrosis, diagnosis=diagnosis)
    assert found["status"] == status and why in found["why"] and set(found["criteria"]) == {"symptoms", "physiology", "radiology"}


def test_scores_take_the_extent_from_the_map_and_name_what_is_missing() -> None:
    values = {"age": 70.0, "sex": "M", "fvc_percent": 60.0, "dlco_percent": 30.0, "fev1_percent": 65.0}
    found = scores_of(values, {"fibrosis": 18.0, "ggo": 4.0}, "chronic HP")
    assert (
        found["gap"]["value"] == 6.0 and found["ild_gap"]["stage"] == "4-5" and found["goh"]["value"] == 22.0 and found["goh"]["stage"] == "extensive"
    )
    assert found["cpi"]["value"] == pytest.approx(91 - 0.65 * 30 - 0.53 * 60 + 0.34 * 65) and found["gap"]["risk"]["1"] == 0.392
    bare = scores_of({"fvc_percent": 60.0}, {}, "UIP")
    assert bare["goh"]["missing"] == ["extent_percent"] and bare["ild_gap"]["missing"] == ["sex", "age", "dlco_percent", "subtype"]
    assert "between 5 and 250" in scores_of(values | {"fvc_percent": 2.0}, {}, None)["gap"]["refused"]
