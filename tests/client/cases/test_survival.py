"""Outcomes of visits: each counts from its own day, and what is not known is no 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.cases.cohort import Case, Visit
from client.cases.survival import followed, outcomes_of
from shared_models.core.errors import BadCohort
from shared_models.experiment import Data

DATA = Data.model_validate({"target": "survival", "horizons": [1, 3]})


def case(*visits: tuple[int, float | None]) -> Case:
    """A patient of visits (days, years that the table gives at that visit)."""
    rows: list[dict[str, float | str]] = [{} if years is None else {"time_years": years, "event": 1.0} for _, years in visits]
    made = (Visit(f"v{n}", days, f"s{n}", Path("x"), {}, row) for n, ((days, _), row) in enumerate(zip(visits, rows, strict=True)))
    return Case("a", tuple(made))


@pytest.mark.parametrize(
    ("visits", "years"),
    [
        ([(0, 4.0), (365, 3.0)], [4.0, 3.0]),  # a row a visit
        ([(0, 4.0), (487, 4.0), (1461, 4.0)], [4.0, 4 - 487 / 365.25, 0.0]),  # one row for the patient: from the first visit
        ([(0, 4.0), (1500, 4.0)], [4.0, None]),  # a visit after the end
        ([(0, 4.0), (0, 4.0)], [4.0, None]),  # days between visits were not kept
        ([(0, 4.0), (0, 3.2)], [4.0, 3.2]),
        ([(0, None), (365, 3.0)], [None, 3.0]),
    ],
)
def test_a_visit_counts_from_its_own_day(visits: list[tuple[int, float | None]], years: list[float | None]) -> None:
    found = [None if outcome is None else outcome[1] for outcome in outcomes_of(case(*visits), DATA)]
    assert [one is None for one in found] == [one is None for one in years]
    np.testing.assert_allclose([one for one in found if one is not None], [one for one in years if one is not None], atol=1e-12)


def test_visits_without_an_outcome_are_no_records() -> None:
    first, second = case((0, 4.0), (1500, 4.0)), case((0, 2.0), (365, 1.0))
    visits, events, times = followed([first, second], [first.visits, second.visits], DATA)
    assert [len(seen) for seen in visits] == [1, 2]
    assert events.tolist() == [1, 1, 1] and times.tolist() == [4.0, 2.0, 1.0]
    with pytest.raises(BadCohort, match="time and an event"):
        followed([case((0, None))], [case((0, None)).visits], DATA)
