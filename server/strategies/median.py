"""The median of each parameter."""

from __future__ import annotations

from server.strategies.columnwise import columnwise
from server.strategies.strategy import Strategy, StrategySpec


def median(model: None) -> Strategy:
    """Take the median of the sites for every parameter, one vote a site (Yin et al., ICML 2018, definition 1).

    Fewer than half of the sites, whatever they send, cannot move a parameter beyond the range of the others'.
    """
    del model
    return columnwise(lambda sites: (sites - 1) // 2)


SPEC = StrategySpec(
    median,
    fit="gradient",
    source="Yin et al., Byzantine-robust distributed learning: towards optimal statistical rates, ICML 2018",
    least=lambda knobs: 3,
)
