"""STRATEGIES: how updates become the next global model. Adding one is a file beside this one and a line here.

A strategy with a half at the sites adds one class to `client/training/rules.py` under the name it gives in `rule`. What it goes together
with is its line in `server/combines.py`.
"""

from server.strategies import (
    apfl,
    combined,
    cyclic,
    ditto,
    fedadagrad,
    fedadam,
    fedavg,
    fedavgm,
    fedbn,
    fedbuff,
    feddyn,
    fednova,
    fedper,
    fedprox,
    fedrep,
    fedyogi,
    geometric_median,
    krum,
    median,
    moon,
    norm_bound,
    one_shot,
    qfedavg,
    scaffold,
    snapshot,
    trimmed_mean,
)
from server.strategies.strategy import StrategySpec

STRATEGIES: dict[str, StrategySpec] = {
    "fedavg": fedavg.SPEC,
    "fedprox": fedprox.SPEC,
    "fedavgm": fedavgm.SPEC,
    "fedadagrad": fedadagrad.SPEC,
    "fedadam": fedadam.SPEC,
    "fedyogi": fedyogi.SPEC,
    "fednova": fednova.SPEC,
    "scaffold": scaffold.SPEC,
    "feddyn": feddyn.SPEC,
    "fedbn": fedbn.SPEC,
    "fedper": fedper.SPEC,
    "fedrep": fedrep.SPEC,
    "ditto": ditto.SPEC,
    "apfl": apfl.SPEC,
    "moon": moon.SPEC,
    "median": median.SPEC,
    "trimmed_mean": trimmed_mean.SPEC,
    "geometric_median": geometric_median.SPEC,
    "krum": krum.SPEC,
    "norm_bound": norm_bound.SPEC,
    "qfedavg": qfedavg.SPEC,
    "fedbuff": fedbuff.SPEC,
    "cyclic": cyclic.SPEC,
    "one_shot": one_shot.SPEC,
    "snapshot": snapshot.SPEC,
    "exact_sum": combined.EXACT_SUM,
    "union": combined.UNION,
}

DEFAULTS: dict[str, str] = {"gradient": "fedavg", "adversarial": "fedavg", "sums": "exact_sum", "trees": "union"}
"""The strategy of an experiment that names none, by how its model is fitted."""
