"""One patient is one name and stands on one side."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.cases.cohort import Case, Cohort, Visit
from client.cases.identity import Pseudonyms, canonical_id
from client.cases.splits import folds, place, split
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
