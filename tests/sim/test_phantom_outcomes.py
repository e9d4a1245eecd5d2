"""Lung function and survival carry the planted effects."""

import numpy as np
import pytest

from sim.phantom.diseases import CLASSES, fibrosis_of
from sim.phantom.outcomes import LOG_HAZARD, MEDIAN_YEARS, PEOPLE, SHAPE, Person, draw_course, log_hazard, survival_years


def test_every_class_has_people():
    assert set(PEOPLE) == set(CLASSES)


def test_a_course_repeats_and_never_outlives_the_patient():
    for seed in range(40):
        course = draw_course("UIP", seed, visits=4)
        assert course == draw_course("UIP", seed, visits=4)
        assert all(visit.time_years > 0 for visit in course.visits)
        ends = [visit.years + visit.time_years for visit in course.visits]
        assert np.allclose(ends, ends[0])
        extents = [fibrosis_of(visit.extents) for visit in course.visits]
        assert extents == sorted(extents)


def test_lung_function_falls_with_fibrosis_as_planted():
    visits = [draw_course(klass, seed).visits[0] for klass in ("UIP", "NSIP", "normal") for seed in range(400)]
    fibrosis = np.array([fibrosis_of(visit.extents) for visit in visits])
    ggo = np.array([visit.extents.get("ggo", 0.0) for visit in visits])
    design = np.stack([np.ones(len(visits)), fibrosis, ggo], axis=1)
    fvc, residual, *_ = np.linalg.lstsq(design, [visit.fvc_percent for visit in visits], rcond=None)
    assert fvc == pytest.approx([98, -0.9, -0.25], abs=1.0)
    assert fvc[1] == pytest.approx(-0.9, abs=0.1)
    assert np.sqrt(residual[0] / len(visits)) == pytest.approx(9.0, abs=0.6)
    dlco = np.array([visit.dlco_percent for visit in visits])
    assert -0.85 < np.corrcoef(fibrosis, dlco)[0, 1] < -0.6


def test_survival_is_weibull_with_the_median_asked_for():
    uniform = np.random.default_rng(0).uniform(size=4000)
    times = np.array([survival_years(u, 0.0) for u in uniform])
    assert np.median(times) == pytest.approx(MEDIAN_YEARS, rel=0.05)
    for years in (1.0, 5.0):
        expected = np.exp(-np.log(2) * (years / MEDIAN_YEARS) ** SHAPE)
        assert np.mean(times > years) == pytest.approx(expected, abs=0.02)


def test_hazard_ratio_of_ten_percent_fibrosis_is_recovered():
    """For Weibull times T of log hazard eta, log T = const - eta / shape + noise: regression gives the coefficient back."""
    rng = np.random.default_rng(1)
    fibrosis = rng.uniform(0, 40, 4000)
    log_times = [np.log(survival_years(rng.uniform(), log_hazard(f, Person(65, "M", "never")))) for f in fibrosis]
    slope = np.polyfit(fibrosis, log_times, 1)[0]
    assert np.exp(-10 * SHAPE * slope) == pytest.approx(1.9, rel=0.05)
    assert np.exp(10 * LOG_HAZARD["fibrosis"]) == pytest.approx(1.9)


def test_event_share_is_neither_rare_nor_certain():
    events = [draw_course("UIP", seed).visits[0].event for seed in range(500)]
    assert 0.35 < np.mean(events) < 0.8
