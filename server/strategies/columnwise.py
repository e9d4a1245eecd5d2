"""Strategies that look at one parameter of all sites at a time: the median and the trimmed mean."""

from __future__ import annotations

from collections.abc import Callable

from server.strategies.blocks import BLOCK, CACHED, Flat, Rows, pieces
from server.strategies.ranks import ranks
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy
from shared_models.core.arrays import State


def columnwise(cut: Callable[[int], int]) -> Strategy:
    """Build a strategy that averages each parameter, one vote a site, without the ``cut(sites)`` smallest and as many of the largest.

    Whole numbers are rounded to the nearest.
    """

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        sites, result = len(spool.replies), Flat(current)
        first = cut(sites)

        def visit(rows: Rows) -> None:
            for piece in pieces(rows.part, min(BLOCK, CACHED // sites)):
                total = rows.room("total", piece.stop - piece.start)
                total[:] = 0
                for values in ranks(rows.read(piece), first, sites - first):
                    total += values
                result.put(rows.run, piece, total / (sites - 2 * first))

        spool.walk(current, visit)
        return result.state(), own

    return Strategy(aggregate)
