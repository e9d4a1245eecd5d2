"""A process that dies costs its own item."""

from __future__ import annotations

from client.processes import Processes


def test_order_and_deaths() -> None:
    items = ["1", "2", "__import__('os')._exit(3)", "4", "5"]
    with Processes(2) as workers:
        assert list(workers.map(eval, items, lost=lambda item: -1)) == [1, 2, -1, 4, 5]
        assert list(workers.map(eval, ["6", "7"], lost=lambda item: -1)) == [6, 7]  # and the next job finds workers again
    assert workers.pool is None
