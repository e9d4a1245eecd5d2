"""Who comes to a hospital: every patient drawn before any image is made, cheap enough for a whole cohort at once."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from sim.hospital.preset import SHARES, HospitalPreset
from sim.phantom.outcomes import Course, VisitTruth, draw_course
from sim.phantom.template import BODIES


@dataclass(frozen=True)
class PatientPlan:
    """One patient to make.

    Parameters
    ----------
    number : int
        From 0 within the hospital.
    klass, diagnosis : str
        True class, and what the clinical table says.
    seed, body : int
        Seed of the patient and body template.
    course : Course
        Person, visits and outcome.
    birth_date, first_visit : date
        Invented days.
    missing_fvc, missing_dlco : bool
        The test was not done.
    extras : frozenset of str
        Which of prone, localizer, derived, corrupt the patient's studies have.
    """

    number: int
    klass: str
    diagnosis: str
    seed: int
    body: int
    course: Course
    birth_date: date
    first_visit: date
    missing_fvc: bool
    missing_dlco: bool
    extras: frozenset[str]

    def study_date(self, visit: VisitTruth) -> date:
        """Return the day of a visit."""
        return self.first_visit + timedelta(days=round(365.25 * visit.years))


def plan_hospital(preset: HospitalPreset, *, seed: int) -> list[PatientPlan]:
    """Draw every patient of a hospital without making an image.

    Class counts, wrong labels, missing tests and untidy series come in exactly the numbers that the preset's shares give.
    """
    site = [seed, zlib.crc32(preset.name.encode())]
    rng = np.random.default_rng(site)
    klasses = [klass for klass, count in preset.counts().items() for _ in range(count)]
    klasses = [klasses[i] for i in rng.permutation(len(klasses))]
    marked = {share: set(rng.permutation(preset.patients)[: round(getattr(preset, share) * preset.patients)].tolist()) for share in SHARES}
    plans = []
    for number, klass in enumerate(klasses):
        own = np.random.default_rng([*site, number])
        patient_seed = int(own.integers(2**31))
        course = draw_course(klass, patient_seed, visits=preset.visits, interval_years=preset.interval_years, law=preset.survival)
        first_visit = date(preset.first_year, 1, 1) + timedelta(days=int(own.integers(4 * 365)))
        others = [other for other in preset.mix if other != klass]
        wrong = number in marked["label_noise"] and others
        plans.append(
            PatientPlan(
                number=number,
                klass=klass,
                diagnosis=others[int(own.integers(len(others)))] if wrong else klass,
                seed=patient_seed,
                body=2 * int(own.integers(BODIES // 2)) + (course.person.sex == "M"),
                course=course,
                birth_date=first_visit - timedelta(days=round(365.25 * course.person.age)),
                first_visit=first_visit,
                missing_fvc=number in marked["missing_fvc"],
                missing_dlco=number in marked["missing_dlco"],
                extras=frozenset(extra for extra in ("prone", "localizer", "derived", "corrupt") if number in marked[extra]),
            )
        )
    return plans
