"""The page of an evaluation from released statistics: commands as code, net benefit with its bounds and the limits of sampling."""

from __future__ import annotations

import numpy as np

from server.reports.released import _template, warnings
from shared_models.calibration.score_histograms import score_histograms
from shared_models.judging.released import beside, released_sites, released_table

CLASSES = ["UIP", "NSIP"]


def test_the_page_shows_sampling_beside_bounds_and_no_raw_backtick() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(400)
    y = (rng.random(400) < p).astype(int)
    two = np.stack([1 - p, p], 1)
    cells = score_histograms(2, cells=50, least=5).of(two, y)
    found = {
        "experiment": "x",
        "split": "Random.",
        "classes": CLASSES,
        "by_class": beside(released_table(cells, 400, CLASSES), y, two, CLASSES),
        "by_site": released_sites({"alpha": (cells, 400)}, CLASSES),
        "operating_point": None,
        "sites": {},
        "site_gap": {},
    }
    page = _template().render(found={**found, "warnings": warnings(found)})
    assert "<code>fedild evaluate</code> tells them" in page and "`" not in page.split("</style>")[1]
    cell = found["by_class"]["NSIP"]["net_benefit"]["0.3"]
    assert cell["sampled_low"] < cell["low"] <= cell["value"] <= cell["high"] < cell["sampled_high"]
    assert f"sampled {cell['sampled_low']:.3f} to {cell['sampled_high']:.3f}".replace("-", "−") in page
    assert page.count("From .") == 5 and page.count('<span class="ci">sampled') == 10 and "exact" in page
    few = beside(released_table(cells * 0, 3, CLASSES), y[:3], two[:3], CLASSES)
    assert page.count("undefined") == 0 and "undefined" in _template().render(found={**found, "by_class": few, "by_site": {}, "warnings": []})
