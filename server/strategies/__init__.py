"""STRATEGIES: how updates become the next global model. Adding one is a file beside this one and a line here.

A strategy with a half at the sites adds one class to `client/training/rules.py` under the name it gives in `rule`.
"""

from server.strategies import combined, fedadam, fedavg, fedprox
from server.strategies.strategy import StrategySpec

STRATEGIES: dict[str, StrategySpec] = {
    "fedavg": fedavg.SPEC,
    "fedprox": fedprox.SPEC,
    "fedadam": fedadam.SPEC,
    "exact_sum": combined.EXACT_SUM,
    "union": combined.UNION,
}

DEFAULTS: dict[str, str] = {"gradient": "fedavg", "sums": "exact_sum", "trees": "union"}
"""The strategy of an experiment that names none, by how its model is fitted."""
