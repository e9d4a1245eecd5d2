"""A federation whose optimum is known: each site has ``f_i(w) = sum_d a_id (w_d - b_id)^2 / 2`` and trains on it by plain gradient steps.

The sites run their real rules with their memory on disk, the server its real strategy; only the network is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from client.training.memory import Memory
from client.training.optimisers import sgd
from client.training.rules import rule_of
from server.runs.chain import order_of
from server.runs.gathering import carried_over
from server.strategies import STRATEGIES
from server.strategies.replies import Spool
from shared_models.blocks.spec import ModelSpec
from shared_models.core.arrays import State
from shared_models.core.choices import Choice, pick
from shared_models.core.files import pack_state, unpack_state

Who = Callable[[int, str], bool]
SPEC = ModelSpec(nn.Identity, takes="table", fit="gradient", source="", representation="")


@dataclass(frozen=True)
class Federation:
    """Five sites: curvatures `a` and optima `b` of shape (5, 3), patients, local steps."""

    a: np.ndarray
    b: np.ndarray
    cases: tuple[int, ...]
    steps: tuple[int, ...]

    @staticmethod
    def draw(seed: int, *, spread: float = 1.0, steps: int | tuple[int, ...] = 1, alike: bool = False) -> Federation:
        """Draw one; `alike` gives all sites one curvature, `spread` is that of their optima."""
        rng = np.random.default_rng(seed)
        a = np.ones((5, 3)) if alike else rng.uniform(0.5, 1.5, (5, 3))
        b = rng.normal(size=3) + spread * rng.normal(size=(5, 3))
        return Federation(a, b, (10, 20, 30, 40, 50), (steps,) * 5 if isinstance(steps, int) else steps)

    def optimum(self, weighting: str) -> np.ndarray:
        """Return the minimum of the weighted sum in closed form."""
        p = np.array(self.cases if weighting == "cases" else [1] * 5, float)[:, None]
        return (p * self.a * self.b).sum(0) / (p * self.a).sum(0)


def _network(state: State) -> nn.Module:
    return nn.ParameterDict({key: torch.tensor(value) for key, value in state.items()})


def federate(
    name: str,
    knobs: dict[str, Any],
    sites: Federation,
    folder: Path,
    *,
    rounds: int,
    lr: float,
    absent: Who = lambda number, site: False,
    lost: Who = lambda number, site: False,
    resumed_after: int = 0,
    delay: Callable[[str], int] = lambda site: 0,
) -> tuple[np.ndarray, State]:
    """Run `rounds` rounds and return weights and the strategy's own state.

    Sites of a chain take turns; where rounds do not wait, a site answers `delay` rounds after it was asked. `absent` sites are not asked;
    `lost` ones train, but their update never arrives; after `resumed_after` rounds everything but files is forgotten.
    """
    state: State = {"w": np.zeros(3)}
    built = pick(STRATEGIES, Choice.model_validate({"name": name, **knobs}), get=lambda spec: spec.build)(None)
    own = built.start(state)
    started: dict[str, tuple[int, State]] = {}  # who is at work since which round, on which state
    for number in range(1, rounds + 1):
        spool, extra, place = Spool(folder / "spool"), built.sends(own), 0
        moving = state
        for site in order_of("abcde", built.chain or "fixed", seed=0, round=number):
            i = "abcde".index(site)
            if absent(number, site):
                continue
            began, base = started.setdefault(site, (number, moving if built.chain else state))
            if built.buffer and number - began < delay(site):
                continue
            del started[site]
            rule, _ = rule_of(built.rule, extra, Memory(folder / site, site, "run", number))
            weights, optimiser = torch.tensor(base["w"]), sgd(lr=lr)
            loss = float((sites.a[i] * (base["w"] - sites.b[i]) ** 2).sum() / 2)
            rule.meet(_network(base), SPEC, lambda: sgd(lr=lr))
            rule.lay_out({"w": slice(0, 3)}, sites.steps[i])
            rule.start(weights)
            for step in range(1, sites.steps[i] + 1):
                rule.step = step
                gradient = torch.tensor(sites.a[i]) * (weights - torch.tensor(sites.b[i]))
                rule.beside(weights, lambda at, i=i: torch.tensor(sites.a[i]) * (at - torch.tensor(sites.b[i])), 1.0)
                rule.correct(weights, gradient)
                optimiser.step(weights, gradient, 1.0)
                rule.moved(weights, 1.0)
            rule.finish(weights, 1.0)
            if not lost(number, site):
                place, moving = place + 1, {"w": weights.numpy()}
                more = {"place": place, "staleness": number - began, "metrics": {"received_loss": loss}}
                update = carried_over(moving, base, state) if began < number else moving
                spool.add(site, update, num_cases=sites.cases[i], steps=sites.steps[i], **more)
        if not spool.replies:
            continue  # everybody is still at work
        state, own = built.aggregate(state, own, spool)
        spool.clear()
        if number == resumed_after:
            state, own = unpack_state(pack_state(state)), unpack_state(pack_state(own))
            built = pick(STRATEGIES, Choice.model_validate({"name": name, **knobs}), get=lambda spec: spec.build)(None)
    return state["w"], own
