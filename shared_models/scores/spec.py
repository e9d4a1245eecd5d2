"""What a clinical score is: a rule over a patient's numbers, with what it needs and what it says where something is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared_models.core.errors import BadInput

Values = Mapping[str, Any]
"""A patient's numbers and words by the names of the clinical table (`client/cases/clinical`); what is missing is absent or None."""


@dataclass(frozen=True)
class Scored:
    """What a score says of a patient.

    Parameters
    ----------
    value : float or None
        The number; None where something needed is missing.
    stage : str or None
        The word that goes with it.
    risk : dict
        Years to the mortality that the score's authors reported for the stage, 0..1; empty where they reported none.
    missing : tuple of str
        Needed values that are not known.
    inputs : dict
        The values that were used.
    """

    value: float | None = None
    stage: str | None = None
    risk: dict[int, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreSpec:
    """An entry of ``SCORES``.

    Parameters
    ----------
    function : callable
        ``function(values) -> Scored`` over complete `Values`.
    needs : tuple of str
        Names of the values without which it says nothing.
    title : str
        Name for readers.
    means : str
        One sentence for the page.
    source : str
        Paper that defines it.
    """

    function: Callable[[Values], Scored]
    needs: tuple[str, ...]
    title: str
    means: str
    source: str


LIMITS: dict[str, tuple[float, float]] = {
    "age": (0, 130),
    "fvc_percent": (5, 250),
    "fev1_percent": (5, 250),
    "dlco_percent": (5, 250),
    "extent_percent": (0, 100),
}
"""Smallest and largest value of each number; outside them the table is wrong, not the patient ill."""


def number_of(values: Values, name: str) -> float:
    """Return a number of a patient within its limits.

    Raises
    ------
    BadInput
        Something else than a number, or one that cannot be.

    Examples
    --------
    >>> number_of({"age": 70}, "age")
    70.0
    """
    value, (low, high) = values[name], LIMITS[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
        raise BadInput(f"{name} lies between {low:g} and {high:g}", value=value)
    return float(value)


def missing_of(values: Values, needs: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of `needs` a patient lacks.

    Examples
    --------
    >>> missing_of({"age": 70, "sex": None}, ("age", "sex", "fvc_percent"))
    ('sex', 'fvc_percent')
    """
    return tuple(name for name in needs if values.get(name) is None)
