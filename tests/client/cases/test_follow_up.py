"""The line of a cohort: patients, visits, events, losses and the median follow-up of lifelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from client.cases.cohort import Case, Cohort, Visit
from client.cases.follow_up import follow_up_of_cases, median_follow_up
from client.outcome import PrepareReport
from client.prepare_page import render


def case(name: str, visits: int, **clinical: float | str) -> Case:
    return Case(name, tuple(Visit(f"{name}{number}", number, "s", Path("x"), {}, dict(clinical)) for number in range(visits)))


def test_the_median_is_that_of_the_curve_of_losses() -> None:
    rng = np.random.default_rng(0)
    times, causes = np.round(rng.uniform(0, 9, 80), 1), rng.integers(0, 3, 80)
    assert median_follow_up(times, causes) == pytest.approx(KaplanMeierFitter().fit(times, causes == 0).median_survival_time_)
    assert median_follow_up([1.0, 2.0], [1, 1]) is None and median_follow_up([], []) is None


def test_a_cohort_in_one_line_and_on_the_page() -> None:
    cases = (
        case("a", 2, time_years=1.0, event=1.0),
        case("b", 1, time_years=2.0, event=0.0),
        case("c", 3, time_years=3.0, event=2.0),
        case("d", 1, age=60.0),
    )
    line = follow_up_of_cases(cases)
    assert (line.patients, line.visits, line.known, line.events, line.lost, line.median, line.longest) == (4, 7, 3, (1, 1), 1, 2.0, 3.0)
    assert line.row()["events"] == [1, 1]
    page = render(PrepareReport(cohort=Cohort(cases)))
    assert "Follow-up" in page and "1 + 1" in page and "2.0" in page
    bare = PrepareReport(cohort=Cohort((case("d", 1, age=60.0),)))
    assert "Follow-up" not in render(bare) and "follow_up" not in bare.as_dict()
