"""A patient's course as one record: which visits, what of them, and an outcome that no visit gives away; from studies and from a table alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.cases.cohort import Case, Cohort, Visit
from client.cases.course import course_row, seen_of
from client.selection import split_records, training_names
from client.site import Site
from client.statistics import all_seen
from shared_models.catalogue import inputs_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadCohort
from shared_models.experiment import Data, Evaluation, Experiment, Inputs
from sim.check import faults

DAY = 1 / 365.25
RANGES = {"whole_haa_percent": (0.0, 50.0), "fvc_percent": (20.0, 140.0)}
INPUTS = {
    "visits": "course",
    "columns": ("whole_haa_percent", "fvc_percent"),
    "missing": "mask",
    "scale": "range",
    "ranges": RANGES,
    "landmark_years": 1.5,
}
DATA = {"target": "survival", "horizons": [1.0, 3.0], "diagnoses": ["UIP", "HP"]}


def experiment_of(**data: object) -> Experiment:
    return Experiment(
        name="course",
        data=Data.model_validate({**DATA, **data}),
        inputs=Inputs.model_validate({**INPUTS, "most_visits": 3}),
        model=Choice.model_validate({"name": "visit_transformer", "visits": 3}),
        evaluation=Evaluation(validation=0.0, bootstrap=0, headline="harrell_c"),
    )


PATIENTS: dict[str, tuple[str, float, int, list[tuple[int, float, float | None]]]] = {
    "a": ("UIP", 4.0, 1, [(0, 10.0, 80.0), (200, 20.0, None), (400, 30.0, 60.0), (800, 40.0, 50.0)]),
    "b": ("sarcoidosis", 6.0, 0, [(0, 5.0, None)]),
    "c": ("HP", 1.2, 1, [(0, 50.0, 30.0), (300, 60.0, 25.0)]),  # had died at the landmark
    "d": ("HP", 2.0, 0, [(0, 1.0, 100.0), (100, 2.0, 99.0), (200, 3.0, 98.0), (500, 4.0, 97.0)]),
}
"""Diagnosis, years from the first visit, event, and visits: day, HAA, FVC."""


def studies(folder: Path) -> Site:
    cases = []
    for name, (diagnosis, years, event, visits) in PATIENTS.items():
        rows = [
            Visit(
                f"{name}{n}",
                day,
                f"s{name}{n}",
                Path("x"),
                {"whole_haa_percent": haa},
                {"time_years": years, "event": float(event), **({} if fvc is None else {"fvc_percent": fvc})},
            )
            for n, (day, haa, fvc) in enumerate(visits)
        ]
        cases.append(Case(name, tuple(rows), diagnosis))
    Cohort(tuple(cases)).save(folder / "workspace" / "cohort.json")
    (folder / "site.toml").write_text('[site]\nname = "alpha"\n')
    return Site.load(folder / "site.toml")


def table(folder: Path, *, later: bool = True, header: str = "patient_id,years,diagnosis,whole_haa_percent,fvc_percent,time_years,event") -> Site:
    lines = [header]
    for name, (diagnosis, years, event, visits) in PATIENTS.items():
        for n, (day, haa, fvc) in reversed(list(enumerate(visits))):  # in any order
            outcome = f"{years},{event}" if n == 0 or later else ","
            lines.append(f"{name},{day * DAY},{diagnosis},{haa},{'' if fvc is None else fvc},{outcome}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    (folder / "site.toml").write_text('[site]\nname = "alpha"\ntable = "table.csv"\n')
    return Site.load(folder / "site.toml")


@pytest.mark.parametrize("kind", ["studies", "table"])
def test_a_course_ends_at_the_landmark_and_its_outcome_counts_from_there(kind: str, tmp_path: Path) -> None:
    experiment = experiment_of(kind=kind)
    site = studies(tmp_path) if kind == "studies" else table(tmp_path, later=False)
    records = split_records(site, experiment)[0]
    records = records.take(np.argsort(records.names))
    assert records.names == ("a", "b", "d") and records.labels.tolist() == [1, 0, 0]
    np.testing.assert_allclose(np.asarray(records.times), [2.5, 4.5, 0.5])
    assert np.asarray(records.targets).tolist() == [0, -1, 1]
    rows = records.inputs.reshape(3, 3, 3)
    assert records.inputs.shape == (3, inputs_of(experiment))
    # the first and the latest two before the landmark; the day after it is not seen
    np.testing.assert_allclose(rows[0, :, 0], np.array([0, 200, 400]) * DAY)
    np.testing.assert_allclose(rows[2, :, 0], np.array([0, 200, 500]) * DAY)
    np.testing.assert_allclose(rows[0, :, 1], [-0.6, -0.2, 0.2])
    assert np.isnan(rows[0, 1, 2]) and rows[0, 2, 2] == pytest.approx(2 * 40 / 120 - 1)
    assert np.isnan(rows[1, 1:]).all() and rows[1, 0, 0] == 0
    assert len(training_names(site, experiment)) == 3 and len(all_seen(site, experiment, {})) == 3


def test_a_diagnosis_from_a_course_needs_no_outcome(tmp_path: Path) -> None:
    experiment = experiment_of().model_copy(update={"data": Data(classes=("UIP", "HP"))})
    found = split_records(studies(tmp_path), experiment)[0]
    assert sorted(zip(found.names, found.labels.tolist(), strict=True)) == [("a", 0), ("c", 1), ("d", 1)] and found.times is None


@given(st.lists(st.floats(0.01, 9), min_size=0, max_size=6, unique=True), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_what_is_seen_is_the_first_visit_and_the_latest_before_the_landmark(later: list[float], most: int, turn: int) -> None:
    inputs = Inputs.model_validate({**INPUTS, "most_visits": most})
    years = [0.0, *later]
    years = [years[(n + turn) % len(years)] for n in range(len(years))]
    seen = [years[n] for n in seen_of(years, inputs)]
    before = sorted(year for year in years if year <= 1.5)
    assert seen[0] == 0 and len(seen) == min(most, len(before)) and (most == 1 or seen[1:] == before[1:][-(most - 1) :])
    row = course_row(years, np.array([[year, 80.0] for year in years]), inputs).reshape(most, 3)
    np.testing.assert_allclose(row[: len(seen), 1], 2 * np.array(seen) / 50 - 1)
    assert np.isnan(row[len(seen) :]).all()


def test_a_table_that_tells_no_course_is_refused(tmp_path: Path) -> None:
    experiment = experiment_of(kind="table")
    with pytest.raises(BadCohort, match="every column"):
        split_records(table(tmp_path, header="patient_id,year,diagnosis,whole_haa_percent,fvc_percent,time_years,event"), experiment)
    with pytest.raises(BadCohort, match="whose each row is"):
        split_records(table(tmp_path, header="patient,years,diagnosis,whole_haa_percent,fvc_percent,time_years,event"), experiment)
    with pytest.raises(BadCohort, match="not at one time"):
        seen_of([0.0, 0.5, 0.5], experiment.inputs)
    with pytest.raises(BadCohort, match="count from the first"):
        seen_of([0.5, 0.7], experiment.inputs)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("a,0.5,4,1", "a,1,3.5,1"), "row 2, column years: the years of a patient's visits count from the first"),
        (("a,0,4,1", "b,0,3,0", "a,0.5,,", "a,0.5,,"), "rows 4 and 5, column years: two visits of a patient"),
        (("a,0,4,1", "a,1,3,0"), "rows 2 and 3, column event: one patient has two outcomes"),
        (("a,1,2.8,1", "a,0,4,1"), "rows 3 and 2, column time: the times of one patient end on two days"),
        (("b,0,9,0", "a,0,1,1", "a,2,,"), "rows 3 and 4, column years: a visit after the event"),
    ],
)
def test_visits_that_contradict_one_another_are_named_by_row_and_column(lines: tuple[str, ...], said: str, tmp_path: Path) -> None:
    cells = (line.split(",") for line in lines)
    rows = [f"{name},{years},UIP,10,80,{time},{event}" for name, years, time, event in cells]
    (tmp_path / "table.csv").write_text("\n".join(["patient_id,years,diagnosis,whole_haa_percent,fvc_percent,time_years,event", *rows]))
    (tmp_path / "site.toml").write_text('[site]\nname = "alpha"\ntable = "table.csv"\n')
    with pytest.raises(BadCohort, match=said) as told:
        split_records(Site.load(tmp_path / "site.toml"), experiment_of(kind="table"))
    assert '"a"' not in str(told.value)
    right = [f"{name},{years},UIP,10,80,{time},1" for name, years, time in (("a", 0, 4), ("a", 1, 3), ("a", 2, 2.05), ("a", 3, 4))]
    (tmp_path / "table.csv").write_text("\n".join(["patient_id,years,diagnosis,whole_haa_percent,fvc_percent,time_years,event", *right]))
    assert len(split_records(Site.load(tmp_path / "site.toml"), experiment_of(kind="table"))[0]) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"landmark_years": None}, "landmark_years is required"),
        ({"missing": "drop"}, "missing = 'mask'"),
        ({"visits": "first"}, "landmark_years is of visits"),
    ],
)
def test_settings_that_do_not_fit(change: dict[str, object], words: str) -> None:
    document = experiment_of().model_dump() | {"inputs": {**INPUTS, "most_visits": 3, **change}}
    with pytest.raises(ValueError, match=words):
        Experiment.model_validate(document)


def test_a_network_of_visits_is_asked_for_visits() -> None:
    experiment = experiment_of()
    assert faults(experiment) == []
    four = experiment.model_copy(update={"model": Choice(name="visit_transformer")})
    with pytest.raises(BadChoice, match=r"model\.visits = 3"):
        inputs_of(four)
    odd = Choice.model_validate({**experiment.model.model_dump(), "proportional": 1})
    assert any("model.proportional" in fault for fault in faults(experiment.model_copy(update={"model": odd})))
    plain = experiment.model_copy(update={"inputs": Inputs(columns=("age",), missing="mask")})
    assert any("set visits" in fault for fault in faults(plain))
    assert any("no second head" in fault for fault in faults(experiment.model_copy(update={"model": Choice(name="random_survival_forest")})))
    with pytest.raises(ValueError, match="diagnoses are at least two"):
        Data.model_validate({**DATA, "diagnoses": ["UIP"]})
