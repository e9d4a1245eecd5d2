"""No two folds hold one patient: however often seen, however spelled, whatever becomes of the others; and every site finds its folds by itself."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.cases.clinical import ClinicalRow, ClinicalTable
from client.cases.cohort import Cohort
from client.cases.identity import Pseudonyms, canonical_id
from client.cases.splits import dealt
from client.outcome import build_cohort
from client.selection import split_records, training_names
from client.site import Site
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort, BadExperiment, BadInput
from shared_models.experiment import Data, Evaluation, Experiment, Inputs, Privacy
from tests.client.sites import patch_experiment, patch_site, table_experiment, table_site

KEY = bytes(range(32))
WIDE = str.maketrans("0123456789ABCXYZabcxyz", "０１２３４５６７８９ＡＢＣＸＹＺａｂｃｘｙｚ")
MARKS = ("", " ", "-", "_", ".", "^", "\u00a0", "\u2009")


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """One of the spellings of an id that an archive may hold: letters of any case or width, marks between, zeros before a plain number."""
    if text.isdecimal():
        return draw(st.sampled_from(["", "0", "000"])) + (text.translate(WIDE) if draw(st.booleans()) else text) + draw(st.sampled_from(["", "  "]))
    letters = draw(st.sampled_from([str.lower, str.upper, str.title]))(text)
    marked = "".join(letter + draw(st.sampled_from(MARKS)) for letter in letters)
    return draw(st.sampled_from(["", "  "])) + (marked.translate(WIDE) if draw(st.booleans()) else marked)


@st.composite
def longitudinal(draw: st.DrawFn) -> tuple[dict[str, set[str]], Cohort]:
    """Spellings of each patient, and the cohort that a preparation makes of one to three series at as many visits."""
    plain = draw(st.sets(st.integers(1, 10**6).map(str) | st.integers(0, 400).map(lambda number: f"ssc{number}x"), min_size=6, max_size=14))
    studies: list[Any] = []
    spellings: dict[str, set[str]] = {}
    for place, text in enumerate(sorted(plain)):
        for visit in range(draw(st.integers(1, 3))):
            for series in range(draw(st.integers(1, 2))):
                own = draw(spelled(text))
                spellings.setdefault(text, set()).add(own)
                first = SimpleNamespace(patient_id=own, study_date=f"2020{visit + 1:02d}01", study_uid=f"1.{place}.{visit}")
                seen = SimpleNamespace(age_years=None, sex="", kernel_class="soft")
                file, features = f"{place}.{visit}.{series}", {"whole_haa_percent": float(place)}
                study = SimpleNamespace(cached=file, features=features, acquisition=seen, findings=[], spacing_mm=(1.0, 1.0, 1.0), slices=9)
                studies.append((SimpleNamespace(slices=[first], series_uid=f"9.{file}", part=""), study))
    rows = tuple(
        ClinicalRow(canonical_id(min(texts)), "", {"time_years": 6.0 + place % 3, "event": float(place % 2)})
        for place, texts in enumerate(spellings.values())
    )
    return spellings, build_cohort(studies, ClinicalTable(rows), Pseudonyms(KEY))


def survival(folds: int, fold: int | None, *, seed: int = 0) -> Experiment:
    return Experiment(
        name="folds",
        seed=seed,
        data=Data.model_validate({"target": "survival", "horizons": [1, 3]}),
        inputs=Inputs(columns=("whole_haa_percent",), visits="all"),
        model=Choice(name="cox"),
        evaluation=Evaluation(folds=folds, fold=fold, headline="harrell_c"),
    )


@settings(max_examples=40, deadline=None)
@given(longitudinal(), st.integers(2, 5), st.integers(0, 99))
def test_every_patient_is_in_one_fold_with_all_visits(drawn: tuple[dict[str, set[str]], Cohort], count: int, seed: int) -> None:
    spellings, cohort = drawn
    assert len(cohort.cases) == len(spellings)
    names, held_in = Pseudonyms(KEY), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        cohort.save(Path(folder) / "workspace" / "cohort.json")
        (Path(folder) / "site.toml").write_text('[site]\nname = "alpha"\n')
        site, where, rows = Site.load(Path(folder) / "site.toml"), {}, 0
        for fold in range(1, count + 1):
            experiment = survival(count, fold, seed=seed)
            training, held = split_records(site, experiment, every_visit=True)
            assert not set(training.names) & set(held.names)
            assert set(training.names) | set(held.names) == {case.pseudonym for case in cohort.cases}
            assert set(training_names(site, experiment)) == set(training.names)
            assert len(split_records(site, experiment)[1]) == held.patients  # as a run judges: the first visit of each
            held_in.update(set(held.names))
            where |= dict.fromkeys(held.names, fold)
            rows += len(held)
    assert set(held_in.values()) == {1} and set(held_in) == {case.pseudonym for case in cohort.cases}
    assert rows == sum(len(case.visits) for case in cohort.cases)
    sizes = Counter(where.values())
    assert max(sizes.values()) - min(sizes.values()) <= 1
    for texts in spellings.values():  # every spelling leads to the one fold
        assert len({where[names.patient(text)] for text in texts}) == 1


@given(st.dictionaries(st.text(max_size=8), st.sampled_from("ab"), min_size=5, max_size=40), st.integers(2, 5))
def test_the_deal_is_even_and_hangs_on_no_order(classes: dict[str, str], count: int) -> None:
    found = dealt(classes, count=count, salt="s")
    assert found == dealt(dict(reversed(classes.items())), count=count, salt="s") and set(found) == set(classes)
    for label in "ab":
        own = [sum(found[name] == fold for name in classes if classes[name] == label) for fold in range(1, count + 1)]
        assert max(own) - min(own) <= 1


def test_another_seed_deals_anew_and_a_fold_is_one_of_them(tmp_path: Path) -> None:
    site = Site.load(table_site(tmp_path, "alpha", patients=30))
    held = [frozenset(split_records(site, folded(seed=seed))[1].names) for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2] and len(held[0]) == 10
    with pytest.raises(BadInput, match="folds must number 2 to 30"):
        split_records(site, folded(folds=31))
    for wrong in ({"fold": 2}, {"folds": 3, "fold": 4}, {"folds": 3, "fold": 1, "from_year": 2020}):
        with pytest.raises(ValueError, match="fold"):
            Evaluation.model_validate(wrong)
    for more in ({"calibration": [{"name": "temperature"}]}, {"federation": {"stopping": {"patience": 2}}}):
        with pytest.raises(BadExperiment, match="would learn from it"):
            reread(folded(), **more)


def folded(*, folds: int = 3, fold: int = 1, seed: int = 0) -> Experiment:
    return table_experiment().model_copy(update={"evaluation": Evaluation(folds=folds, fold=fold), "seed": seed})


def reread(experiment: Experiment, **changes: Any) -> Experiment:
    import json

    return Experiment.from_json(json.dumps(json.loads(experiment.to_json()) | changes))


def test_under_privacy_nobodys_fold_hangs_on_the_others(tmp_path: Path) -> None:
    private = folded().model_copy(update={"privacy": Privacy(unit="patient", noise_multiplier=1.0)})
    few, many = (Site.load(table_site(tmp_path / str(count), "alpha", patients=count)) for count in (20, 60))
    alone, among = (set(split_records(site, private)[1].names) for site in (few, many))
    assert alone == {name for name in among if int(name.removeprefix("alpha")) < 20} and alone


def test_patches_and_tables_deal_patients_too_and_refuse_records_of_nobody_knows_whom(tmp_path: Path) -> None:
    squares = Site.load(patch_site(tmp_path, "alpha"))
    parts = [split_records(squares, in_patches(fold)) for fold in (1, 2)]
    assert {*parts[0][1].names} == {*parts[1][0].names} and not {*parts[0][1].names} & {*parts[1][1].names}
    with np.load(tmp_path / "alpha" / "patches.npz") as file:
        np.savez(tmp_path / "alpha" / "patches.npz", hu=file["hu"], label=file["label"])
    with pytest.raises(BadCohort, match="nobody knows whom"):
        split_records(squares, in_patches(1))


def in_patches(fold: int) -> Experiment:
    return patch_experiment().model_copy(update={"evaluation": Evaluation(folds=2, fold=fold)})


def test_rows_of_one_patient_of_a_table_stay_together(tmp_path: Path) -> None:
    lines = ["patient_id,age,diagnosis,part"] + [
        f"{spelling}{number},{number},{'ab'[number % 2]}," for number in range(12) for spelling in ("P-", "p ")
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "site.toml").write_text('[site]\nname = "alpha"\ntable = "table.csv"\n')
    site = Site.load(tmp_path / "site.toml")
    held: Counter[str] = Counter()
    for fold in (1, 2, 3):
        training, judged = split_records(site, in_table(fold))
        assert len(judged) == 8 and not set(training.names) & set(judged.names)
        held.update(set(judged.names))
    assert len(held) == 12 and set(held.values()) == {1}
    (tmp_path / "table.csv").write_text("\n".join(lines[:1] + [line + "training" for line in lines[1:]]) + "\n")
    with pytest.raises(BadCohort, match="leave the column part out"):
        split_records(site, in_table(1))


def in_table(fold: int) -> Experiment:
    data = {"kind": "table", "classes": ["a", "b"]}
    return reread(folded(fold=fold), data=data, inputs={"columns": ["age"]})
