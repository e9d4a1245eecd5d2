"""The page of a prognosis: whole, with the numbers of its files, with and without risks."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.reports.hazard_plot import hazard_plot
from server.reports.prognosis import hazard_rows
from server.reports.report import write_report
from shared_models.core.files import read_json, write_json
from shared_models.metrics.prognosis import score_prognosis
from shared_models.metrics.prognosis_curves import describe_prognosis

HORIZONS = [1.0, 3.0, 5.0]
HAZARDS: dict[str, Any] = {
    "columns": ["whole_haa_percent", "age"],
    "scale": [6.0, 9.0],
    "federated": {
        "columns": {"coefficient": [0.1, None], "standard_error": [0.02, None], "z": [5.0, None]},
        "proportionality": {"p": [0.4, None]},
    },
    "pooled": {"columns": {"coefficient": [0.1, 0.01], "standard_error": [0.02, 0.01], "z": [5.0, 1.0]}, "proportionality": {"p": [0.4, 0.2]}},
}


def write_run(folder: Path, *, absolute: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    hazard = np.exp(rng.normal(size=60)) / 5
    death, last = rng.exponential(1 / hazard), rng.uniform(0.3, 8, 60)
    outcomes = np.column_stack([np.minimum(death, last), death <= last, np.zeros(60)])
    risks = {"federated": 1 - np.exp(-hazard[:, None] * HORIZONS), "pooled": 1 - np.exp(-(hazard[:, None] ** 0.5) * HORIZONS)}
    risks = risks if absolute else {name: np.log(rows[:, -1:]) for name, rows in risks.items()}
    scored = {name: score_prognosis(outcomes, rows, HORIZONS, absolute=absolute, bootstrap=50) for name, rows in risks.items()}
    metrics: dict[str, Any] = {
        "experiment": "ssc", "target": "survival", "horizons": HORIZONS, "time_unit": "years", "case": "scan", "classes": [], "rounds": 3,
        "data": {"kind": "phantom", "note": "Phantoms."}, "headline": "harrell_c",
        "federated": {"held_out": scored["federated"], "sites": {"alpha": scored["pooled"], "beta": scored["federated"]}},
        "pooled": {"held_out": scored["pooled"]}, "local_only": {"alpha": {"held_out": scored["pooled"]}},
    }  # fmt: skip
    write_json(folder / "metrics.json", metrics | ({} if absolute else {"hazards": HAZARDS}))
    drawn = {name: {"n": 60, "prognosis": describe_prognosis(outcomes, rows, HORIZONS, absolute=absolute)} for name, rows in risks.items()}
    write_json(folder / "curves.json", {name: {"held_out": one} for name, one in drawn.items()})
    return metrics


@pytest.mark.parametrize("absolute", [True, False])
def test_the_page_shows_curves_and_numbers(tmp_path: Path, absolute: bool) -> None:
    metrics = write_run(tmp_path, absolute=absolute)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    value = metrics["federated"]["held_out"]["harrell_c"]["value"]
    assert f"{value:.3f}" in page and "Research use only" in page and "On 60 synthetic scans of a hospital" in page
    assert "Numbers at risk, federated model" in page and "AUC at 3" in page and ("Brier score at 5" in page) == absolute
    assert ("Decision curves" in page) == absolute and ("states no risks" in page) == ("Hazard ratios" in page) == (not absolute)
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    titles = [ET.fromstring(one)[0].text or "" for one in pictures if "aria-labelledby" in one]  # noqa: S314  our own page
    assert sum(title.startswith(("ROC of the event", "Calibration of the risk", "Net benefit")) for title in titles) == (9 if absolute else 3)
    assert not absolute or ("<h4>By 1 year</h4>" in page and "By 1 years" not in page)
    for one in pictures:  # names of curves that end at one height are still read
        places = sorted(float(text.get("y", 0)) for text in ET.fromstring(one).iter("text") if (text.text or "").endswith(" risk"))  # noqa: S314
        assert all(below - above >= 12.9 for above, below in itertools.pairwise(places))
    assert len(set(re.findall(r'<title id="([^"]+)"', page))) == len(re.findall(r'<title id="', page))
    assert "It tells apart" not in page and "nan" not in page.lower().replace("finance", "")


def test_calibration_and_net_benefit_have_bars_bands_and_tables(tmp_path: Path) -> None:
    write_run(tmp_path, absolute=True)
    curves = read_json(tmp_path / "curves.json")
    found = curves["federated"]["held_out"]["prognosis"]
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count('<polygon class="spread federated"') == 3  # a band at each horizon
    ratio, told = found["calibration"]["3"]["ratio"], found["decision"]["3"]["told"]["0.3"]
    for cell in (ratio, told["model"], told["all"], told["over_all"]):
        low, high = (f'<data value="{end}">' for end in (cell["low"], cell["high"]))
        assert low in page and high in page
    table = page.split("Net benefit of the federated model")[1].split("</table>")[0]
    assert table.count('<th scope="row">') == 3 * 5
    whiskers = sum(len(arm["held_out"]["prognosis"]["calibration"][by]["bins"]) for arm in curves.values() for by in ("1", "3", "5"))
    assert page.count('class="whisker federated"') + page.count('class="whisker pooled"') >= whiskers
    # A run of an earlier build has neither: the page shows what there is.
    for arm in curves.values():
        prognosis = arm["held_out"]["prognosis"]
        for by in ("1", "3", "5"):
            calibration, decision = prognosis["calibration"][by], prognosis["decision"][by]
            prognosis["calibration"][by] = {name: calibration[name] for name in ("bins", "stated", "seen")}
            prognosis["decision"][by] = {name: decision[name] for name in ("thresholds", "model", "all")}
    write_json(tmp_path / "curves.json", curves)
    old = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Decision curves" in old and "<polygon" not in old and "Net benefit of the federated model" not in old


def test_hazard_ratios_stand_where_they_belong() -> None:
    rows = hazard_rows(HAZARDS)
    assert rows[0]["federated"]["ratio"] == pytest.approx(np.exp(0.1)) and rows[1]["federated"] is None and rows[1]["pooled"]["p"] < 0.4
    plot = ET.fromstring(hazard_plot(rows, pooled=True))  # noqa: S314  our own picture
    words = [text.text or "" for text in plot.iter("text")]
    assert f"{np.exp(0.6):.2f} ({np.exp(6 * (0.1 - 1.96 * 0.02)):.2f} to {np.exp(6 * (0.1 + 1.96 * 0.02)):.2f})" in words
    assert len(list(plot.iter("circle"))) == 1 and len(list(plot.iter("rect"))) == 2
    assert hazard_plot(hazard_rows({}), pooled=True) == ""
    assert hazard_plot(rows).count("<rect") == 0 and hazard_plot(rows).count("<circle") == 1  # one arm alone


def test_the_second_head_has_its_table(tmp_path: Path) -> None:
    metrics = write_run(tmp_path, absolute=True)
    cell = {"value": 0.8125, "low": 0.75, "high": 0.875, "n": 60, "events": 60}
    told = {
        "classes": ["UIP", "HP"],
        "federated": {"auroc_macro": cell, "auroc_UIP": {**cell, "low": None}},
        "pooled": {"auroc_macro": cell, "auroc_UIP": cell},
    }
    write_json(tmp_path / "metrics.json", metrics | {"diagnoses": told})
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Diagnoses by the second head" in page and "Classes: UIP, HP" in page and page.count("0.812") == 4
    assert page.count("0.750 to 0.875") == 3
