"""One patient is one name and stands on one side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.cases.clinical import ClinicalRow, ClinicalTable
from client.cases.cohort import Case, Cohort, Visit
from client.cases.identity import Pseudonyms, canonical_id
from client.cases.splits import folds, place, split
from client.outcome import build_cohort
from shared_models.core.errors import BadCohort, BadInput

KEY = bytes(range(32))
IDS = st.text(st.sampled_from("abcXYZ0123456789"), min_size=1, max_size=12)


def cohort(count: int, classes: tuple[str, ...] = ("normal", "UIP")) -> Cohort:
    visit = Visit("v", 0, "s", Path("cache/x"))
    return Cohort(tuple(Case(f"p{n}", (visit,) * (1 + n % 3), classes[n % len(classes)]) for n in range(count)), classes)


@given(IDS, st.lists(st.sampled_from([" ", "-", "_", ".", "/", "^"]), max_size=4), st.booleans())
def test_spellings_are_one_patient(text: str, marks: list[str], upper: bool) -> None:
    other = "".join(c + (marks[i] if i < len(marks) else "") for i, c in enumerate(text))
    other = f" {other.upper() if upper else other.lower()} "
    names = Pseudonyms(KEY)
    assert canonical_id(other) == canonical_id(text) and names.patient(other) == names.patient(text)
    assert place(names.patient(other), salt="x") == place(names.patient(text), salt="x")


@given(IDS)
def test_canonical_is_stable(text: str) -> None:
    assert canonical_id(canonical_id(text)) == canonical_id(text)


def test_names_are_keyed_and_apart() -> None:
    here, there = Pseudonyms(KEY), Pseudonyms(KEY[::-1])
    assert here.patient("0042") == here.patient("42") != there.patient("42")
    assert here.patient("1.2") != here.series("1.2") != here.item("1.2")
    assert here.visit("a", "20240101", "1.1") == here.visit("a", "20240101", "1.2") != here.visit("a", "20240102", "1.1")
    assert here.visit("a", "", "1.1") != here.visit("a", "", "1.2")
    assert here.uid("1.2.3") == here.uid("1.2.3") and len(here.uid("1.2.3")) <= 64
    assert KEY.hex() not in repr(here) and str(KEY) not in repr(here)
    with pytest.raises(BadInput, match="at least 16"):
        Pseudonyms(b"short")


@settings(max_examples=40)
@given(st.integers(2, 40), st.sampled_from([0.1, 0.25, 0.5]), st.text(min_size=1, max_size=6))
def test_split_parts_patients(count: int, share: float, salt: str) -> None:
    whole = cohort(count)
    train, validation = split(whole, validation=share, salt=salt)
    left, right = ({c.pseudonym for c in side.cases} for side in (train, validation))
    assert not left & right and left | right == {c.pseudonym for c in whole.cases}
    for label in whole.classes:
        n = whole.count()[label]
        assert abs(validation.count()[label] - share * n) <= 1
        if n > 1:
            assert validation.count()[label] >= 1 and train.count()[label] >= 1
    again = split(Cohort(tuple(reversed(whole.cases)), whole.classes), validation=share, salt=salt)
    assert again[1].digest == validation.digest


@settings(max_examples=40)
@given(st.integers(4, 40), st.integers(2, 4))
def test_folds_part_patients_evenly(count: int, number: int) -> None:
    whole = cohort(count)
    parts = folds(whole, count=number, salt="s")
    names = [c.pseudonym for part in parts for c in part.cases]
    assert sorted(names) == sorted(c.pseudonym for c in whole.cases)
    sizes = [len(part.cases) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for label in whole.classes:
        per = [part.count()[label] for part in parts]
        assert max(per) - min(per) <= 1


MARKS = st.lists(st.sampled_from(["", " ", "-", "_", ".", "^"]), min_size=1, max_size=3)
SPELLINGS = st.tuples(MARKS, st.sampled_from([str.lower, str.upper, str.title]), st.sampled_from(["", "  "]))


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 400), min_size=4, max_size=14), st.data(), st.integers(2, 4))
def test_no_patient_in_two_folds_however_often_and_however_spelled(numbers: set[int], data: st.DataObject, count: int) -> None:
    """Visits of a cohort whose archive spells a patient's id anew at every visit."""
    studies: list[Any] = []
    spelled: dict[int, set[str]] = {}
    for number in sorted(numbers):
        for visit in range(data.draw(st.integers(1, 3))):
            (marks, letters, blank) = data.draw(SPELLINGS)
            words = letters(f"site{number:03d}x")
            text = blank + "".join(c + marks[i % len(marks)] for i, c in enumerate(words))
            spelled.setdefault(number, set()).add(text)
            first = SimpleNamespace(patient_id=text, study_date=f"2020{visit + 1:02d}01", study_uid="1.2")
            seen = SimpleNamespace(age_years=None, sex="", kernel_class="soft")
            study = SimpleNamespace(cached=f"{number}.{visit}", features={}, acquisition=seen, findings=[], spacing_mm=(1.0, 1.0, 1.0), slices=9)
            studies.append((SimpleNamespace(slices=[first], series_uid=f"1.{number}.{visit}", part=""), study))
    names = Pseudonyms(KEY)
    rows = tuple(ClinicalRow(canonical_id(min(texts)), "", {"diagnosis": "abc"[number % 3]}) for number, texts in spelled.items())
    whole = build_cohort(studies, ClinicalTable(rows), names)
    assert len(whole.cases) == len(numbers) and sum(len(case.visits) for case in whole.cases) == len(studies)
    sides = [split(whole, validation=0.3, salt="s"), folds(whole, count=count, salt="s")]
    for parts in sides:
        where = {case.pseudonym: {i for i, part in enumerate(parts) if case.pseudonym in {c.pseudonym for c in part.cases}} for case in whole.cases}
        assert all(len(places) == 1 for places in where.values())
        for texts in spelled.values():  # every spelling leads to the one side
            assert len({frozenset(where[names.patient(text)]) for text in texts}) == 1
        assert sorted(visit.series for part in parts for case in part.cases for visit in case.visits) == sorted(
            visit.series for case in whole.cases for visit in case.visits
        )


def test_salt_changes_the_split() -> None:
    sides = {split(cohort(40), validation=0.25, salt=salt)[1].digest for salt in ("a", "b", "c")}
    assert len(sides) == 3
    with pytest.raises(BadInput):
        split(cohort(4), validation=1.0, salt="a")
    with pytest.raises(BadInput):
        folds(cohort(4), count=5, salt="a")


def test_cohort_refuses_contradictions(tmp_path: Path) -> None:
    case = cohort(1).cases[0]
    with pytest.raises(BadCohort, match="one case"):
        Cohort((case, case))
    with pytest.raises(BadCohort, match="classes"):
        Cohort((case,), ("UIP", "OP"))
    with pytest.raises(BadCohort, match="visit"):
        Cohort((Case("a", ()),))
    with pytest.raises(BadCohort, match="prepare"):
        Cohort.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"version": 1}')
    with pytest.raises(BadCohort, match="must be a cohort"):
        Cohort.load(tmp_path / "bad.json")
