"""The acquisition profile: right counts, and none that stands for few patients."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from client.acquisition_profile import acquisition_profile, lines_of, pooled
from client.cases.cohort import Case, Cohort, Visit
from client.cli import app
from client.selection import later_patients, training_names
from client.site import Site
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort, BadExperiment, BadInput, Refused
from shared_models.experiment import Data, Evaluation, Experiment


def site(folder: Path, *, patients: int = 24) -> Path:
    """A site whose patients were scanned at 120 kVp, three of them with another maker and one in another year."""
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    (folder / "site.toml").write_text('[site]\nname = "alpha"\n')
    lines, items, cases = [], ["item,path,year"], []
    for n in range(patients):
        scan = {"manufacturer": "canon" if n < 3 else "siemens", "kernel_class": "soft" if n % 2 else "sharp", "thickness_mm": 1.0, "kvp": 119.9}
        lines.append({"item": f"i{n}", "series": f"s{n}", "acquisition": scan, "findings": []})
        items += [f"i{n},/in/{n}/{k},{2020 if n else 2019}" for k in range(2)]
        cases.append(Case(f"p{n:02d}", (Visit("v", 0, f"s{n}", Path("cache/x")), Visit("w", 9, "another", Path("cache/y")))))
    (workspace / "report.json").write_text(json.dumps({"accepted": lines}))
    (workspace / "items.csv").write_text("\n".join(items) + "\n")
    Cohort(tuple(cases)).save(workspace / "cohort.json")
    return folder


def test_counts_are_right_and_small_ones_are_hidden(tmp_path: Path) -> None:
    found = acquisition_profile(site(tmp_path))
    assert found["patients"] == 24 and found["least"] == 5
    assert found["kernel"] == {"sharp": 12, "soft": 12}
    assert found["kvp"] == {"120": 24} and found["thickness_mm"] == {"<= 1.5": 24}
    # the three (and the one) are hidden, and cannot be found by subtracting the others from the total
    assert found["manufacturer"] == {"other": 24} and found["year"] == {"other": 24}
    assert "2019" not in json.dumps(found) and "canon" not in "\n".join(lines_of(found))


def test_too_few_patients_and_no_preparation(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        acquisition_profile(site(tmp_path / "a", patients=9))
    assert caught.value.code == "E_FEW_CASES" and "9" not in str(caught.value)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "site.toml").write_text('[site]\nname = "b"\n')
    with pytest.raises(BadInput, match="prepare"):
        acquisition_profile(tmp_path / "b")


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 40), max_size=8), st.integers(1, 12))
def test_no_count_is_small_and_no_patient_is_lost(counts: dict[str, int], least: int) -> None:
    shown = pooled(Counter(counts), least)
    assert all(count >= least for count in shown.values())
    total = sum(counts.values())
    assert sum(shown.values()) == (total if total >= least else 0)
    assert all(shown[value] == counts[value] for value in shown if value != "other")


def test_the_command(tmp_path: Path) -> None:
    folder = site(tmp_path)
    text = CliRunner().invoke(app, ["acquisition", "--folder", str(folder)])
    assert text.exit_code == 0 and "kernel        sharp 12, soft 12" in text.output
    found = CliRunner().invoke(app, ["acquisition", "--folder", str(folder), "--format", "json"])
    assert json.loads(found.output) == acquisition_profile(folder)


def test_a_temporal_split_leaves_nobody_on_two_sides_and_refuses_unknown_years(tmp_path: Path) -> None:
    folder = site(tmp_path)
    workspace = folder / "workspace"
    rows = ["item,path,year", *(f"i{n},/in/{n},{2016 + n % 5}" for n in range(24))]
    (workspace / "items.csv").write_text("\n".join(rows) + "\n")
    cases = [replace(case, label="UIP" if n % 2 else "normal") for n, case in enumerate(Cohort.load(workspace / "cohort.json").cases)]
    Cohort(tuple(cases), ("normal", "UIP")).save(workspace / "cohort.json")
    data = {"data": Data(classes=("normal", "UIP")), "model": Choice(name="mil_cnn")}
    names, place = [case.pseudonym for case in cases], Site.load(folder / "site.toml")
    for year, least in ((2017, 2017), (2020, 2020)):
        asked = Experiment(name="later", evaluation=Evaluation(from_year=year), **data)
        early = set(training_names(place, asked))
        later = later_patients(place, names, year)
        assert not early & later and early | later == set(names)
        assert later == {f"p{n:02d}" for n in range(24) if 2016 + n % 5 >= least}
    with pytest.raises(BadCohort, match="before 2016 and since"):
        later_patients(place, names, 2016)
    (workspace / "items.csv").write_text("\n".join(rows[:-3]) + "\n")
    with pytest.raises(BadCohort, match="year of every patient") as caught:
        later_patients(place, names, 2018)
    assert "3 of 24" in str(caught.value)
    with pytest.raises(BadExperiment, match="first scan"):
        Experiment.from_json(
            Experiment(name="t", **data)
            .to_json()
            .replace('"kind":"studies"', '"kind":"table"')
            .replace('"evaluation":{', '"evaluation":{"from_year":2018,')
        )
