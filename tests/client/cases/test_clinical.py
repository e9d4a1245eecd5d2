"""The clinical table: each bad cell is named by row and column, and no patient id is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.cases.clinical import read_clinical
from shared_models.core.errors import BadCohort

HEAD = "patient_id,study_date,diagnosis,age,sex,smoking,fvc_percent,dlco_percent,time_years,event\n"


def table(folder: Path, text: str, **options: object):
    path = folder / "clinical.csv"
    path.write_text(text, encoding="utf-8")
    return read_clinical(path, **options)  # pyright: ignore[reportArgumentType]


def test_reads_and_joins(tmp_path: Path) -> None:
    found = table(tmp_path, "\ufeff" + HEAD + 'Secret-01,20240531,UIP,71,m,ex,80,"55,5",3.5,1\nSecret 01,,UIP,,,,,,,\n\n007,,,,,never,,,,\n')
    assert found.diagnosis("SECRET01") == "UIP" and found.diagnosis("7") is None and found.diagnosis("none") is None
    values = found.values("secret01", "20240531")
    assert values["dlco_percent"] == 55.5 and values["smoking"] == "former" and values["ever_smoker"] == 1.0 and values["male"] == 1.0
    assert found.values("secret01", "20240601") == {} and found.values("7", "20240601") == {"smoking": "never", "ever_smoker": 0.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "Secret-01,,UIP,old,,,,,,\n", "row 2, column age: must be a number"),
        (HEAD + "Secret-01,,UIP,170,,,,,,\n", "row 2, column age: must lie between 0 and 130"),
        (HEAD + "Secret-01,,UIP,,x,,,,,\n", "row 2, column sex: must be one of F, M"),
        (HEAD + "a,,,,,,,,,\nSecret-01,,,,,sometimes,,,,\n", "row 3, column smoking"),
        (HEAD + "Secret-01,,,,,,nan,,,\n", "row 2, column fvc_percent"),
        (HEAD + "Secret-01,31.05.2024,,,,,,,,\n", "row 2, column study_date"),
        (HEAD + "Secret-01,,,,,,,,2,12\n", "row 2, column event"),
        (HEAD + "Secret-01,,,,,,,,2,0.5\n", "row 2, column event: must be 0 or 1"),
        (HEAD + "Secret-01,2020-01-01,,,,,,,2,1\nsecret01,2020-07-01,,,,,,,2,0\n", "rows 2 and 3, column event: one patient has two outcomes"),
        (HEAD + "Secret-01,2020-01-01,,,,,,,2,1\nb,,,,,,,,,\nsecret01,2020-07-01,,,,,,,3,1\n", "rows 2 and 4, column time_years: the times"),
        (HEAD + "Secret-01,2020-01-01,,,,,,,2,1\nsecret01,2022-07-01,,,,,,,,\n", "rows 2 and 3, column study_date: a visit after the event"),
        (HEAD + "Secret-01,,,,,,,,2,\n", "row 2: time_years and event belong together"),
        (HEAD + ",,UIP,,,,,,,\n", "row 2, column patient_id"),
        (HEAD + "Secret-01,,UIP\n", "row 2: every row needs 10 cells"),
        (HEAD + "Secret-01,2024-01-01,UIP,,,,,,,\nsecret01,2024-02-01,NSIP,,,,,,,\n", "rows 2 and 3 give one patient two diagnoses"),
        (HEAD + "Secret-01,2024-01-01,UIP,,,,,,,\nsecret01,2024-01-01,UIP,,,,,,,\n", "rows 2 and 3 describe the same patient and day"),
        ("patient_id,shoe_size\na,4\n", "unknown column; found 'shoe_size'"),
        ("id,age\na,4\n", "needs a column patient_id"),
        ("patient_id,age,age\na,4,4\n", "each column once"),
        ("", "needs a column patient_id"),
    ],
)
def test_faults_have_an_address(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadCohort) as caught:
        table(tmp_path, text)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value).casefold()


def test_rows_that_tell_one_story_pass(tmp_path: Path) -> None:
    same = "a,2020-01-01,,,,,,,2,1\na,2020-07-01,,,,,,,2,1\n"  # one time, given once for the patient
    counted = "b,2020-01-01,,,,,,,2,1\nb,2021-01-01,,,,,,,1.02,1\nb,2019-01-01,,,,,,,,\n"
    other = "c,,,,,,,,4,2\nc,2020-01-01,,,,,,,,\n"
    assert len(table(tmp_path, HEAD + same + counted + other).rows) == 7


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(BadCohort, match="must exist"):
        read_clinical(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"patient_id\n\xff\xfe\n")
    with pytest.raises(BadCohort, match="UTF-8"):
        read_clinical(tmp_path / "b.csv")
    assert table(tmp_path, "patient_id,shoe_size\n1,4\n", extra_columns="ignore").values("1", "") == {}


def test_findings_are_present_absent_or_not_known(tmp_path: Path) -> None:
    found = table(tmp_path, "patient_id,finding_ggo,finding_cysts\n1,1,\n2,0,1\n")
    assert found.values("1", "") == {"finding_ggo": 1.0}
    assert found.values("2", "") == {"finding_ggo": 0.0, "finding_cysts": 1.0}
    for text, words in (("patient_id,finding_ggo\n1,maybe\n", "column finding_ggo: must be 1"), ("patient_id,finding_\n1,1\n", "unknown column")):
        with pytest.raises(BadCohort, match=words):
            table(tmp_path, text)
