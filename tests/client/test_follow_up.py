"""Two visits of a patient through `predict`: what changed, whether it is more than error, criteria of progression, clinical scores; and refusals."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.predict
from client.cases.prepared import Prepared
from client.pattern_maps import PatternSource
from client.predict import predict_study
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput
from shared_models.taxonomy import PATTERNS
from tests.client.dicom_factory import write
from tests.client.test_predict import CHEST, bundle_of, plan

WITHIN_A_POINT = {part: {"limit_low": {"value": -0.5}, "limit_high": {"value": 0.5}} for part in ("reticulation", "honeycombing", "ggo", "fibrosis")}


def stripes(prepared: Prepared) -> Mask:
    """A map whose honeycombing grows with the mean of the image: the later scan is denser."""
    assert prepared.mask is not None
    out = np.zeros(prepared.mask.shape, np.uint8)
    dense = bool(np.median(prepared.volume.hu[prepared.mask > 0]) > -800)
    out[:, ::6] = 2
    out[:, 1 :: 3 if dense else 6] = 3
    return np.where(prepared.mask > 0, out, 0).astype(np.uint8)


@pytest.fixture
def visits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of May 2024, one of September 2023 in a folder of its own, and a source that knows how well its maps repeat."""
    write(tmp_path / "now", replace(plan(), hu=np.where((CHEST < -700) & (CHEST > -950), CHEST + 90, CHEST)))
    write(tmp_path / "before", plan(series="1.2.4.1", study="1.2.4", date="20230901"))
    write(tmp_path / "stranger", plan(series="1.2.9.1", study="1.2.9", date="20230901", patient="Smith-1"))
    source = PatternSource(stripes, "0" * 64, tuple(PATTERNS), None, WITHIN_A_POINT)
    monkeypatch.setattr(client.predict, "load_source", lambda path: source)
    rows = [
        "patient_id,study_date,diagnosis,sex,fvc_percent,dlco_percent",
        "Doe 0007,2023-09-01,,F,80,60",
        "Doe 0007,2024-05-31,unclassifiable,F,72,",
    ]
    (tmp_path / "clinical.csv").write_text("\n".join(rows) + "\n")
    bundle_of(tmp_path / "b")
    return tmp_path


def predicted(folder: Path, study: str = "now", **options: Any) -> tuple[dict[str, Any], str]:
    page = predict_study(folder / study, folder / "b", folder / "out", patterns=folder / "any", explanation="none", **options).read_text()
    return json.loads((folder / "out" / "prediction.json").read_text()), page


def test_a_prior_gives_the_change_the_criteria_and_the_scores(visits: Path) -> None:
    found, page = predicted(visits, prior=visits / "before", clinical=visits / "clinical.csv")
    change = found["change"]
    assert [one["visit"] for one in found["series"]] == [2, 1] and change["series"][1] == found["headline"]
    assert change["years"] == pytest.approx(273 / 365.25)
    before, now = (one["quantities"]["regions"]["whole"]["percent"] for one in reversed(found["series"]))
    line = change["parts"]["honeycombing"]
    assert (line["before"], line["after"]) == (before["honeycombing"], now["honeycombing"]) and line["change"] > 5 and line["beyond"]
    assert change["parts"]["consolidation"]["limit"] is None
    progression = change["progression"]
    assert (progression["status"], progression["signs"]) == ("met", ["new_or_more_honeycombing"])
    assert progression["criteria"] == {"symptoms": None, "physiology": True, "radiology": True}
    assert found["scores"]["goh"]["value"] == pytest.approx(now["fibrosis"] + now["ggo"]) and found["scores"]["gap"]["missing"] == ["dlco_percent"]
    for words in ("Extent of patterns", "Change since the visit before", "criteria of 2022): met", "insufficient data: dlco percent", "Subpleural"):
        assert words in page
    written = re.sub(r'"data:[^"]*"', "", page)  # letters that stand for a picture may say anything
    assert "2023" not in written.replace("2023;", "") and "Doe" not in written


def test_what_is_not_known_is_said(visits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = PatternSource(stripes, "0" * 64, ("normal", "reticulation", "ggo_reticulation", "honeycombing"))
    monkeypatch.setattr(client.predict, "load_source", lambda path: source)
    found, page = predicted(visits, prior=visits / "before")
    assert found["scores"] is None and not found["change"]["limits_known"] and "was not measured" in page
    assert found["change"]["progression"]["status"] == "insufficient data" and found["change"]["parts"]["fibrosis"]["beyond"] is None
    assert set(found["change"]["parts"]) == {"reticulation", "honeycombing", "fibrosis"}
    assert found["series"][0]["category"]["measures"]["ggo_percent"] is None and "not told" in page
    assert predicted(visits)[0]["change"] is None


def test_a_prior_of_somebody_else_or_of_later_is_refused(visits: Path) -> None:
    with pytest.raises(BadInput, match="same patient") as caught:
        predicted(visits, prior=visits / "stranger")
    assert "Smith" not in str(caught.value) and not list((visits / "out").iterdir())
    with pytest.raises(BadInput, match="earlier than the study"):
        predicted(visits, study="before", prior=visits / "now")
