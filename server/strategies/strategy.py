"""What a strategy is: plain functions over states, tied together in one frozen record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from server.strategies.replies import Spool
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.core.arrays import State


@dataclass(frozen=True)
class Buffer:
    """Rounds that close on the first updates and let the others come later (`server/runs/buffered`).

    Parameters
    ----------
    size : int or None
        Updates that close a round; the experiment's quorum when None.
    most_stale : int
        A site that has not answered for more rounds than this is asked anew.
    """

    size: int | None = None
    most_stale: int = 10


@dataclass(frozen=True)
class Strategy:
    """One configured strategy.

    Parameters
    ----------
    aggregate : callable
        ``aggregate(current, own, spool) -> (next, own)``: the global state, the strategy's own state (momentum, control variates) and
        the round's valid replies give the next global state and own state. A pure function: the same replies in any order give the same
        bits, and nothing is kept between calls.
    start : callable
        ``start(current) -> own``: the strategy's own state before round 1.
    rule : dict
        The half at the sites: a name in the sites' RULES and its numbers.
    sends : callable
        ``sends(own) -> extra``: arrays of the strategy's own state that go to every site with the model (control variates).
    release : callable
        ``release(state, own) -> state``: what is judged and released at the end of the run.
    needs : tuple of str
        Metrics that every update must bring; one without them is refused (E_METRIC).
    chain : str
        Sites train one after another, each on from the last one's state (`server/runs/chain`), in an order drawn anew every round
        (``shuffled``) or that of their names (``fixed``); all at once when empty.
    buffer : Buffer, optional
        Rounds do not wait for every site.
    """

    aggregate: Callable[[State, State, Spool], tuple[State, State]]
    start: Callable[[State], State] = lambda current: {}
    rule: dict[str, Any] = field(default_factory=lambda: {"name": "plain"})
    sends: Callable[[State], State] = lambda own: {}
    release: Callable[[State, State], State] = lambda state, own: state
    needs: tuple[str, ...] = ()
    chain: Literal["", "shuffled", "fixed"] = ""
    buffer: Buffer | None = None

    @property
    def together(self) -> bool:
        """Whether all sites of a round train on one and the same state."""
        return not self.chain and self.buffer is None


@dataclass(frozen=True)
class StrategySpec:
    """One line of STRATEGIES: ``build(model, *, knobs) -> Strategy``; `fit` says which models it serves; `source` is its paper.

    `least` tells from the knobs how many replies a round must have for the method to mean anything; `representation` says that the sites
    compare representations, which not every network has. What a strategy goes together with is a line of COMBINES (`server/combines`).
    """

    build: Callable[..., Strategy]
    fit: str
    source: str
    least: Callable[[dict[str, Any]], int] = lambda knobs: 1
    representation: bool = False

    def serves(self, fit: str) -> bool:
        """Say whether models of that fit can be aggregated so: what averages weights takes those of any network."""
        return self.fit == fit or (self.fit == "gradient" and fit in NETWORK_FITS)


def case_weights(spool: Spool) -> list[float]:
    """Return the number of patients behind each reply, in order."""
    return [float(reply.num_cases) for reply in spool.replies]


def site_weights(spool: Spool, weighting: str) -> list[float]:
    """Return each reply's weight in order: its patients under ``cases``, 1 under ``equal``."""
    return case_weights(spool) if weighting == "cases" else [1.0] * len(spool.replies)


def mean_of(current: State, spool: Spool, weighting: str) -> State:
    """Return the mean of the replies under `weighting`, in the layout of `current`."""
    return spool.weighted_mean(current, site_weights(spool, weighting))
