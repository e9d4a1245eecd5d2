"""Planted courses: the growth kills and nothing of the first visit tells it; tables hold what was planted, with its error."""

from __future__ import annotations

import numpy as np

from sim.courses import HEADER, MEASURED, visit_rows
from sim.hospital.plan import plan_hospital
from sim.hospital.preset import HospitalPreset
from sim.phantom.outcomes import LOG_HAZARD, LOG_HAZARD_OF_GROWTH

PRESET = HospitalPreset("alpha", "A", 400, mix={"UIP": 1, "NSIP": 1, "OP": 1}, visits=3, interval_years=0.5, survival="progression", missing_fvc=0.1)
PLANS = plan_hospital(PRESET, seed=1)


def test_growth_kills_and_the_first_visit_does_not_tell_it() -> None:
    came = [plan.course for plan in PLANS if len(plan.course.visits) == 3 and sum(plan.course.visits[2].extents.values()) < 74]
    grown = np.array([(sum(c.visits[2].extents.values()) - sum(c.visits[0].extents.values())) / c.visits[2].years for c in came])
    people = np.array([LOG_HAZARD["age"] * (c.person.age - 65) + LOG_HAZARD["male"] * ((c.person.sex == "M") - 0.5) for c in came])
    planted = np.array([c.log_hazard for c in came])
    np.testing.assert_allclose(planted - people, LOG_HAZARD_OF_GROWTH * (grown - 4), atol=1e-6)
    everybody = np.array(
        [(p.course.log_hazard, sum(p.course.visits[0].extents.values()), p.course.person.age, p.course.person.sex == "M") for p in PLANS]
    )
    rest = everybody[:, 0] - LOG_HAZARD["age"] * everybody[:, 2] - LOG_HAZARD["male"] * everybody[:, 3]
    assert abs(np.corrcoef(rest, everybody[:, 1])[0, 1]) < 0.13  # 2.6 standard errors
    assert 0.3 < np.mean([p.course.visits[0].event for p in PLANS]) < 0.7


def test_rows_tell_the_planted_extents_with_their_error() -> None:
    errors = []
    for plan in PLANS[:100]:
        rows = visit_rows(PRESET, plan, 1.0, np.random.default_rng(plan.seed))
        assert len(rows) == len(plan.course.visits) and len({row[0] for row in rows}) == 1
        for row, visit in zip(rows, plan.course.visits, strict=True):
            told = dict(zip(HEADER, row, strict=True))
            assert float(told["years"]) == round(visit.years, 3) and told["time_years"] == f"{plan.course.visits[0].time_years:.4f}"
            assert (told["fvc_percent"] == "") == plan.missing_fvc
            errors += [float(told[f"{n}_percent"]) - visit.extents[n] for n in MEASURED if visit.extents.get(n, 0) > 4]
            assert abs(float(told["diseased_percent"]) - sum(float(told[f"{n}_percent"]) for n in MEASURED)) < 0.05
    assert abs(np.mean(errors)) < 0.12 and 0.9 < np.std(errors) < 1.1
