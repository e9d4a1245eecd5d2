"""Feature families: each takes a `Prepared` study and returns a flat dictionary of name to number; each says its names beforehand."""

from __future__ import annotations

from collections.abc import Iterable

from client.features.densitometry import densitometry, densitometry_names
from shared_models.core.choices import Choice, look_up

FEATURES = {
    "densitometry": densitometry,
}
"""Name in the experiment TOML to feature family."""

FEATURE_NAMES = {
    "densitometry": densitometry_names,
}
"""The same names to what returns the columns of that family."""


def feature_names(families: Iterable[Choice]) -> tuple[str, ...]:
    """Return the columns that `families` give together, in order.

    Examples
    --------
    >>> feature_names([Choice(name="densitometry")])[:2]
    ('whole_haa_percent', 'whole_laa950_percent')
    """
    return tuple(name for family in families for name in look_up(FEATURE_NAMES, family.name, kind="feature family")())
