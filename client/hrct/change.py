"""What changed between two visits: extents part by part, whether a change exceeds the error of both measurements, and the signs that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from shared_models.metrics.agreement import change_limit

SIGNS = {"more_reticulation": "reticulation", "new_or_more_honeycombing": "honeycombing"}
"""Radiological sign of progression (`shared_models.scores.ppf.RADIOLOGY`) to the extent whose rise shows it; a pattern map shows no other sign."""


def changes_of(
    before: Mapping[str, Any], after: Mapping[str, Any], *, years: float | None, agreement: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, float | bool | None]]:
    """Return the change of each part that both visits show, in percentage points of the lung.

    Parameters
    ----------
    before, after : mapping
        ``whole`` of `quantities_of`: the earlier and the later visit.
    years : float or None
        Between them; None where it is not known.
    agreement : mapping
        Part to `agreement_of` against drawn extents; parts that it lacks have no limit.

    Returns
    -------
    dict of part to dict
        ``before``, ``after`` (percent), ``change``, ``change_ml``, ``per_year`` (None without a time), ``limit`` (`change_limit`; None where nobody
        measured the agreement) and ``beyond``: whether the change exceeds it, None where that is not known.

    Examples
    --------
    >>> before = {"percent": {"reticulation": 10.0}, "ml": {"reticulation": 400.0}}
    >>> after = {"percent": {"reticulation": 16.0}, "ml": {"reticulation": 600.0}}
    >>> known = {"reticulation": {"limit_low": {"value": -2.0}, "limit_high": {"value": 4.0}}}
    >>> found = changes_of(before, after, years=0.5, agreement=known)["reticulation"]
    >>> found["change"], found["per_year"], round(found["limit"], 2), found["beyond"]
    (6.0, 12.0, 4.24, True)
    """
    out: dict[str, dict[str, float | bool | None]] = {}
    for part, first in before["percent"].items():
        second = after["percent"].get(part)
        if second is None or math.isnan(first) or math.isnan(second):
            continue
        change, limit = second - first, change_limit(dict(agreement.get(part) or {}))
        out[part] = {
            "before": first,
            "after": second,
            "change": change,
            "change_ml": after["ml"][part] - before["ml"][part],
            "per_year": change / years if years else None,
            "limit": limit,
            "beyond": None if limit is None else abs(change) > limit,
        }
    return out


def signs_of(changes: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...] | None:
    """Return the signs of progression that the changes show beyond the error of measurement; None where they show none.

    None is *not known*: a map shows neither traction bronchiectasis nor loss of volume, so that no sign here never means no sign at all.

    Examples
    --------
    >>> signs_of({"reticulation": {"change": 6.0, "beyond": True}, "honeycombing": {"change": 1.0, "beyond": False}})
    ('more_reticulation',)
    >>> signs_of({"reticulation": {"change": -6.0, "beyond": True}}) is None
    True
    """
    found = tuple(sign for sign, part in SIGNS.items() if (line := changes.get(part)) and line["beyond"] and line["change"] > 0)
    return found or None
