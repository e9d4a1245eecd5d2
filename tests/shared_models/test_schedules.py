"""One battery over SCHEDULES, and the numbers by hand."""

from __future__ import annotations

from typing import Any

import pytest

from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice
from shared_models.experiment import Train, learning_rate_factor
from shared_models.schedules import CYCLE_ROUNDS, SCHEDULES, factor_of, schedule_of


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("rounds", [1, 2, 15])
@pytest.mark.parametrize("warm_up", [0, 3])
def test_every_schedule_starts_at_one_after_the_warm_up_and_never_rises_within_a_cycle(name: str, rounds: int, warm_up: int) -> None:
    factors = [factor_of(name, warm_up=warm_up, round=number, rounds=rounds + warm_up) for number in range(1, rounds + warm_up + 1)]
    assert factors[:warm_up] == [(number + 1) / 3 for number in range(warm_up)]
    assert factors[warm_up] == 1.0
    cycle = CYCLE_ROUNDS if name == "cyclic" else rounds
    for first in range(warm_up, len(factors), cycle):
        assert factors[first : first + cycle] == sorted(factors[first : first + cycle], reverse=True)
    assert min(factors) > 0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "constant"}, [1, 1, 1, 1, 1]),
        ({"name": "step", "every": 2, "factor": 0.1}, [1, 1, 0.1, 0.1, 0.01]),
        ({"name": "exponential", "factor": 0.5}, [1, 0.5, 0.25, 0.125, 0.0625]),
        ({"name": "cyclic", "every": 3, "end": 0.2}, [1, 0.6, 0.2, 1, 0.6]),
        ({"name": "cosine", "end": 0.2}, [1, 0.2 + 0.4 * (1 + 0.5**0.5), 0.6, 0.2 + 0.4 * (1 - 0.5**0.5), 0.2]),
    ],
)
def test_by_hand(schedule: dict[str, Any], expected: list[float]) -> None:
    train = Train.model_validate({"schedule": schedule})
    assert [learning_rate_factor(train, number, 5) for number in range(1, 6)] == pytest.approx(expected)


@pytest.mark.parametrize(
    "bad",
    [
        "linear",
        {"name": "step", "every": 0},
        {"name": "exponential", "factor": 1.5},
        {"name": "cosine", "floor": 1},
        {"name": "cyclic", "every": 0},
        "",
    ],
)
def test_what_is_no_schedule_is_refused_when_it_is_read(bad: Any) -> None:
    with pytest.raises(ValueError, match="schedule"):
        Train.model_validate({"schedule": bad})
    with pytest.raises((BadChoice, ValueError)):
        schedule_of(Choice.model_validate(bad) if isinstance(bad, dict) else bad)


def test_a_plain_name_travels_as_it_was_written() -> None:
    assert Train().model_dump(mode="json", exclude_none=True)["schedule"] == "cosine"
    assert "warm_up" not in Train().model_dump(mode="json", exclude_none=True)
