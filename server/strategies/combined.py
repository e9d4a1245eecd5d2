"""Models without gradients: the model itself says how contributions combine."""

from __future__ import annotations

from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec, case_weights
from shared_models.blocks.spec import Classical
from shared_models.core.arrays import State
from shared_models.statistics.spec import Statistic


def combined(model: Classical | Statistic) -> Strategy:
    """Hand the sites' contributions, in the order of their names, to the model's own `combine`."""

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        return model.combine(current, list(spool.states()), case_weights(spool)), own

    return Strategy(aggregate)


EXACT_SUM = StrategySpec(combined, fit="sums", source="sums of sufficient statistics: the result equals the pooled fit")
UNION = StrategySpec(combined, fit="trees", source="union of the sites' trees, each site's share in proportion to its patients")
