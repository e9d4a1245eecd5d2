"""The membership attack's arithmetic: its intervals and its chance are what they say, and it finds what there is to find."""

from __future__ import annotations

import numpy as np
import pytest

from client.privacy.membership import attack, by_patient, sureness
from shared_models.core.errors import BadInput


def test_the_chance_is_that_of_no_difference() -> None:
    rng = np.random.default_rng(0)
    found = [attack(rng.normal(0, 1, 60), np.arange(60) < 40, permutations=99, seed=number) for number in range(120)]
    assert np.mean([one.p <= 0.05 for one in found]) == pytest.approx(0.05, abs=0.04)
    assert np.mean([one.low <= 0.5 <= one.high for one in found]) >= 0.91
    assert np.mean([one.auroc for one in found]) == pytest.approx(0.5, abs=0.02)


def test_a_known_difference_is_found() -> None:
    rng = np.random.default_rng(1)
    member = np.arange(4000) < 2000
    found = attack(rng.normal(1.0 * member, 1), member, permutations=99)
    assert found.auroc == pytest.approx(0.760, abs=0.02)  # Phi(1 / sqrt 2)
    assert found.caught == pytest.approx(0.092, abs=0.03)  # 1 - Phi(Phi^-1(.99) - 1)
    assert found.caught_low < found.caught < found.caught_high
    assert found.p == 0.01


def test_with_few_others_no_false_alarm_is_allowed() -> None:
    found = attack(np.array([5.0, 1.0, 4.0, 3.0, 2.0]), np.array([True, True, False, False, False]), permutations=9)
    assert found.caught == 0.5


def test_the_loss_is_that_of_the_true_class_and_of_the_patient() -> None:
    sure = sureness(np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [1.0, 0.0]]), np.array([0, 1, 0, 0]))
    assert sure[0] == pytest.approx(-sure[1])
    assert np.isfinite(sure).all()
    assert by_patient(sure[:3], ("a", "b", "a"))[1] == pytest.approx([(sure[0] + sure[2]) / 2, sure[1]])


@pytest.mark.parametrize(("scores", "member"), [([1.0, 2.0], [True, True]), ([1.0, np.nan], [True, False])])
def test_attacks_on_nothing_are_refused(scores: list[float], member: list[bool]) -> None:
    with pytest.raises(BadInput):
        attack(np.array(scores), np.array(member))
