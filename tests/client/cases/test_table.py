"""A table as the data: columns and indicators as the experiment names them, splits, scales, and messages that name row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.cases.cohort import Case, Cohort, Visit
from client.cases.table import read_table
from client.selection import all_records, scaled, split_records
from client.site import Site
from client.training.records import Records
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort
from shared_models.experiment import Data, Experiment, Inputs

TEXT = """\
patient_id,age,cp,label,part
P1,60,1,no,training
P2,?,2.0,yes,training
P3,40,2,yes,validation
P4,50,3,unknown,training
P1,62,1,no,training
"""


def experiment(**inputs: object) -> Experiment:
    given = Inputs.model_validate({"columns": ["age", "cp=2"], **inputs})
    return Experiment(name="t", data=Data(kind="table", classes=("no", "yes"), label="label"), inputs=given, model=Choice(name="linear"))


def site(folder: Path, text: str = TEXT) -> Site:
    (folder / "table.csv").write_text(text, encoding="utf-8")
    (folder / "site.toml").write_text('[site]\nname = "alpha"\ntable = "table.csv"\n', encoding="utf-8")
    return Site.load(folder / "site.toml")


def test_numbers_indicators_and_classes(tmp_path: Path) -> None:
    records = all_records(site(tmp_path), experiment())
    assert records.inputs.tolist() == [[60, 0], [40, 1], [62, 0]]
    assert records.labels.tolist() == [0, 1, 0]
    assert records.names[0] == records.names[2] != records.names[1]  # two rows of one patient


def test_the_table_may_fix_the_split(tmp_path: Path) -> None:
    training, validation = split_records(site(tmp_path), experiment())
    assert training.inputs[:, 0].tolist() == [60, 62]
    assert validation.inputs[:, 0].tolist() == [40]


def test_without_a_part_a_patient_is_on_one_side(tmp_path: Path) -> None:
    lines = "".join(f"P{i % 20},{i},1,no\n" for i in range(60))
    given = experiment()
    training, validation = split_records(site(tmp_path, "patient_id,age,cp,label\n" + lines), given)
    assert len(training) > 0 < len(validation)
    assert not set(training.names) & set(validation.names)


def test_scales() -> None:
    values, training = np.array([[0.0, 1.0], [10.0, 0.0], [30.0, 1.0]]), np.array([True, True, False])
    columns = ("age", "cp=2")
    site_scaled = scaled(values, Inputs(columns=columns, scale="site"), training=training)
    np.testing.assert_allclose(site_scaled, [[-1, 1], [1, -1], [5, 1]])
    ranged = scaled(values, Inputs(columns=columns, scale="range", ranges={"age": (0, 20)}), training=training)
    np.testing.assert_allclose(ranged, [[-1, 1], [0, -1], [1, 1]])  # cut off at the end of the range


def test_median_of_training_rows_fills(tmp_path: Path) -> None:
    records = all_records(site(tmp_path), experiment(missing="median"))
    assert records.inputs[:, 0].tolist() == [60, 61, 40, 62]


def test_a_column_nobody_measured_is_zero() -> None:
    values = np.array([[np.nan], [np.nan]])
    assert scaled(values, Inputs(columns=("a",), missing="median"), training=np.array([True, False])).tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("age,label\n1,no\n", "cp"),
        ("patient_id,age,cp,label\nP1,old,1,no\n", "row 2, column age"),
        ("patient_id,age,cp,label\nP1,1,1\n", "row 2"),
        ("patient_id,age,age,label\nP1,1,1,no\n", "once"),
        ("patient_id,age,cp,label,part\nP1,1,1,no,test\n", "column part"),
        ("", "column"),
    ],
)
def test_faults_name_row_and_column_and_no_patient(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(BadCohort) as caught:
        read_table(site(tmp_path, text).path("table.csv"), experiment())
    assert word in str(caught.value)
    assert "P1" not in str(caught.value)


def test_scales_that_learn_from_patients_are_refused_under_privacy() -> None:
    for inputs in ({"scale": "site"}, {"missing": "median"}):
        document = experiment(**inputs).model_dump() | {"privacy": {"unit": "patient", "noise_multiplier": 1.0}}
        with pytest.raises(ValueError, match="public ranges"):
            Experiment.model_validate(document)


def test_rows_without_patients_are_no_patients(tmp_path: Path) -> None:
    assert all_records(site(tmp_path), experiment()).identified
    assert not all_records(site(tmp_path, "age,cp,label\n1,2,no\n2,2,yes\n"), experiment()).identified


def test_ranges_are_checked() -> None:
    with pytest.raises(ValueError, match="age"):
        experiment(scale="range")
    with pytest.raises(ValueError, match="low to high"):
        experiment(scale="range", ranges={"age": [3, 3]})


class TestSurvival:
    TEXT = """\
patient_id,age,days,died
P1,60,10,1
P2,50,,1
P3,40,20,?
P4,30,0,0.0
P5,20,NA,na
"""

    @staticmethod
    def experiment(**more: object) -> Experiment:
        data = Data.model_validate({"kind": "table", "target": "survival", "time": "days", "event": "died"})
        return Experiment.model_validate(
            {
                "name": "t",
                "data": data.model_dump(),
                "inputs": {"columns": ["age"]},
                "model": {"name": "cox"},
                "evaluation": {"validation": 0},
                **more,
            }
        )

    def test_who_is_not_known_is_left_out_and_never_counts_as_alive(self, tmp_path: Path) -> None:
        records = all_records(site(tmp_path, self.TEXT), self.experiment())
        assert records.inputs[:, 0].tolist() == [60, 30]
        assert records.outcome.tolist() == [[10, 1, 0], [0, 0, 0]]
        assert records.take([1]).outcome.tolist() == [[0, 0, 0]]

    def test_sites_that_are_put_together_stay_strata(self, tmp_path: Path) -> None:
        records = all_records(site(tmp_path, self.TEXT), self.experiment())
        assert Records.join([records, records]).outcome.tolist() == [[10, 1, 0], [0, 0, 0], [10, 1, 1], [0, 0, 1]]

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("P9,1,-3,1", "column days: .*not negative"),
            ("P9,1,3,2", "column died: an event is 1, or 0"),
            ("P9,1,soon,1", "column days: must be a number"),
        ],
    )
    def test_what_cannot_be_is_named_by_its_row(self, tmp_path: Path, line: str, said: str) -> None:
        with pytest.raises(BadCohort, match=f"row 7.*{said}"):
            all_records(site(tmp_path, self.TEXT + line + "\n"), self.experiment())

    def test_causes_that_end_the_waiting_are_read_where_they_are_named(self, tmp_path: Path) -> None:
        given = self.experiment(data={"kind": "table", "target": "survival", "time": "days", "event": "died", "classes": ["lost", "death", "other"]})
        records = all_records(site(tmp_path, self.TEXT + "P9,33,7,2\n"), given)
        assert records.course[:, 1].tolist() == [1, 0, 2] and records.outcome[:, 1].tolist() == [1, 0, 0]

    def test_a_table_without_the_columns_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadCohort, match="died"):
            all_records(site(tmp_path, self.TEXT.replace("died", "dead")), self.experiment())

    def test_prepared_patients_have_it_from_the_clinical_table(self, tmp_path: Path) -> None:
        def case(name: str, **clinical: float | str) -> Case:
            return Case(name, (Visit(f"v{name}", 0, "s", Path("cache/x"), {}, {"age": 60.0, **clinical}),), label="UIP")

        known = [case(f"p{n}", time_years=float(n), event=float(n % 2)) for n in range(1, 9)]
        cohort = Cohort((*known, case("q", time_years=3.0), case("r", event=1.0)), ("UIP",))
        (tmp_path / "site.toml").write_text('[site]\nname = "alpha"\n')
        cohort.save(tmp_path / "workspace" / "cohort.json")
        given = self.experiment(data={"target": "survival"}, evaluation={"validation": 0.25})
        assert (given.data.time, given.data.event, given.data.classes) == ("time_years", "event", ("censored", "event"))
        records = all_records(Site.load(tmp_path / "site.toml"), given)
        assert records.outcome.tolist() == [[n, n % 2, 0] for n in range(1, 9)]
        training, validation = split_records(Site.load(tmp_path / "site.toml"), given)
        assert len(training) == 6
        assert validation.outcome[:, 1].tolist().count(1.0) == 1  # events are spread over both sides
