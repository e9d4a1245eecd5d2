"""The page's life table and forest plot: the curves of the counts, numbers at risk that add up, ends that nobody found."""

from __future__ import annotations

import numpy as np
import pytest

from server.reports.hazard_plot import hazard_plot
from server.reports.life_curves import life_curves
from shared_models.survival.life_table import aalen_johansen, kaplan_meier, life_table

TIMES, CAUSES = np.arange(1.0, 61), np.tile([1, 2, 0, 1], 15)
TABLE = life_table(TIMES, CAUSES, grid=[10.0, 30.0, 45.0], kinds=2)
TOLD = {"patients": 60, "causes": ["death", "transplant"], "times": [10.0, 30.0, 45.0]}


def test_two_causes_are_two_incidences_over_the_numbers_at_risk() -> None:
    found = life_curves(TOLD | {"at_risk": TABLE.at_risk.tolist(), "events": TABLE.events.tolist()})
    assert [row["at_risk"] for row in found["rows"]] == [60, 50, 30]
    assert [(row["start"], row["end"]) for row in found["rows"]] == [(0, 10), (10, 30), (30, 45)]
    for row, following in zip(found["rows"], [50, 30, None], strict=True):
        if following is not None:
            assert row["at_risk"] - sum(row["events"]) - row["lost"] == following
    assert found["rows"][-1]["lost"] is None
    assert found["rows"][1]["share"][0] == pytest.approx(kaplan_meier(TABLE).at(30), abs=1e-12)
    for number, name in enumerate(TOLD["causes"], 1):
        assert f"{name}: {aalen_johansen(TABLE, number).values[-1]:.3f}" in found["svg"]
    assert "Incidence" in found["svg"]


def test_one_cause_is_a_survival_curve_and_nobody_is_no_curve() -> None:
    one = life_table(TIMES, np.minimum(CAUSES, 1), grid=[10.0, 30.0])
    found = life_curves({"patients": 60, "causes": ["event"], "times": [10.0, 30.0], "at_risk": one.at_risk.tolist(), "events": one.events.tolist()})
    assert "Incidence" not in found["svg"] and found["rows"][0]["events"] == [8]
    assert life_curves(None) == {} and life_curves(TOLD | {"times": [], "at_risk": [], "events": [[], []]}) == {}


def test_a_forest_plot_cuts_what_is_endless_and_leaves_out_what_is_unknown() -> None:
    sure = {"ratio": 1.9, "low": 1.5, "high": 2.4}
    rows = [
        {"name": "fibrosis", "scale": 2.0, "federated": sure, "profile": {"low": 1.52, "high": None}},
        {"name": "wild", "scale": 1.0, "federated": {"ratio": 5.0, "low": 1e-9, "high": 1e12}, "profile": None},
        {"name": "silent", "scale": 1.0, "federated": None, "profile": None},
    ]
    svg = hazard_plot(rows)
    assert f"{1.9**2:.2f} ({1.5**2:.2f} to {2.4**2:.2f})" in svg and "silent" not in svg and "256" in svg
    assert svg.count("whisker alone thin") == 1 and hazard_plot(rows[2:]) == ""
