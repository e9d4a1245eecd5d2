"""Life tables of a federation: the coarse table is that of its own times, no cell tells of few, and they leave through the secure sum alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.privacy.policy import breaches
from client.site import Policy
from client.training.records import Records
from server.phases import phase_conflicts
from shared_models.core.choices import Choice
from shared_models.core.errors import BadState
from shared_models.experiment import Data, Experiment, Federation, Inputs
from shared_models.phases import phases_of
from shared_models.statistics.life_table import life_table, told_table
from shared_models.survival import life_table as tables
from shared_models.survival.small_cells import coarsened

GRID = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
PATIENTS = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 2)), min_size=1, max_size=120)


def course(patients: list[tuple[int, int]]) -> np.ndarray:
    return np.array([(time, cause, 0) for time, cause in patients], np.float64).reshape(-1, 3)


@settings(max_examples=60, deadline=None)
@given(PATIENTS, st.integers(1, 7))
def test_the_coarse_table_is_that_of_its_own_times_and_tells_of_no_few(patients: list[tuple[int, int]], least: int) -> None:
    times, causes = [t for t, _ in patients], [c for _, c in patients]
    fine = tables.life_table(times, causes, grid=GRID, kinds=2)
    coarse = coarsened(fine, least)
    assert set(coarse.times) <= set(GRID)
    slow = tables.life_table(times, causes, grid=coarse.times, kinds=2)
    np.testing.assert_array_equal(coarse.at_risk, slow.at_risk)
    np.testing.assert_array_equal(coarse.events, slow.events)
    assert (coarse.at_risk >= least).all() and ((coarse.events == 0) | (coarse.events >= least)).all()
    if len(coarse.times) > 1:
        lost = coarse.at_risk[:-1] - coarse.at_risk[1:] - coarse.events[:, :-1].sum(0)
        assert ((lost == 0) | (lost >= least)).all()
    if least == 1:
        assert tables.kaplan_meier(coarse).at(8) == pytest.approx(tables.kaplan_meier(fine).at(8), abs=1e-12)


def test_the_sum_of_sites_gives_the_curves_of_all() -> None:
    rng = np.random.default_rng(2)
    whole = np.column_stack([rng.exponential(3, 400), rng.integers(0, 3, 400), np.zeros(400)])
    fit = life_table((), times=GRID, causes=2, least=5)
    sums = [fit.contribution({}, part[:, :0], part, seed=0) for part in np.split(whole, [3, 150, 150])]
    for part in sums:
        fit.check(part, {})
    state = fit.combine(fit.start(seed=0), sums, [])
    slow = tables.life_table(whole[:, 0], whole[:, 1].astype(int), grid=GRID, kinds=2)
    assert state["n"][0] == 400 and state["ends"][0] == len(GRID)
    for cause in (1, 2):
        np.testing.assert_allclose(tables.aalen_johansen(told_table(state), cause).values, tables.aalen_johansen(slow, cause).values, atol=1e-12)
    few = fit.combine(fit.start(seed=0), sums[:1], [])
    assert few["ends"][0] == 0 and not few["at_risk"].any()  # three patients: nothing is told


WRONG: dict[str, Any] = {
    "more at risk than there are": lambda s: s | {"n": s["n"] - 10},
    "somebody comes back": lambda s: s | {"at_risk": s["at_risk"][::-1].copy(), "events": s["events"] * 0},
    "more events than patients": lambda s: s | {"events": s["events"] + s["at_risk"]},
    "a negative count": lambda s: s | {"events": -s["events"]},
}


@pytest.mark.parametrize("name", WRONG)
def test_counts_that_no_patients_can_have(name: str) -> None:
    fit = life_table((), times=GRID)
    good = fit.contribution({}, np.zeros((30, 0)), course([(n % 9, n % 2) for n in range(30)]), seed=0)
    fit.check(good, {})
    with pytest.raises(BadState):
        fit.check(WRONG[name](good), {})


def asked(*, target: str = "survival", secure: bool = True, causes: int = 1, classes: tuple[str, ...] = ("censored", "event")) -> Experiment:
    data = Data.model_validate({"kind": "table", "target": target, "classes": classes})
    return Experiment(
        name="x",
        data=data,
        inputs=Inputs(columns=("a",)),
        model=Choice(name="cox" if target == "survival" else "logistic"),
        statistics=(Choice.model_validate({"name": "life_table", "causes": causes}),),
        federation=Federation.model_validate({"secure_sum": secure}),
    )


def test_it_goes_with_survival_and_the_secure_sum_alone() -> None:
    assert phase_conflicts(asked()) == [] and breaches(asked(), Policy()) == []
    assert [phase.name for phase in phases_of(asked())] == ["life_table", "training"]
    competing = ("censored", "death", "transplant")
    assert phase_conflicts(asked(causes=2, classes=competing)) == []
    for wrong, words in (
        (asked(secure=False), "secure_sum = true"),
        (asked(target="diagnosis"), "data.target is another"),
        (asked(classes=competing), "causes = 2"),
    ):
        assert any(words in str(conflict) for conflict in phase_conflicts(wrong))
    assert [one.code for one in breaches(asked(secure=False), Policy())] == ["E_POLICY_SUM"]
    assert [one.code for one in breaches(asked(), Policy(min_per_class=9, min_cases_in_sum=9))] in ([], ["E_POLICY_STATISTIC"])


def test_a_statistic_reads_the_cause_and_a_model_the_event_alone() -> None:
    records = Records(np.zeros((3, 1)), np.array([0, 1, 2]), ("a", "b", "c"), times=np.array([1.0, 2.0, 3.0]))
    assert records.course[:, 1].tolist() == [0, 1, 2] and records.outcome[:, 1].tolist() == [0, 1, 0]
