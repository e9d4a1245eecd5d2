"""The roll call of a simulation, whose sites say their own names. A deployment knows them by their registered keys (`server/runs/roster`)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from server.runs.exchange import POLL_S, exchange, read
from shared_models.core.errors import Interrupted
from shared_models.messages import Job

if TYPE_CHECKING:
    from flwr.serverapp import Grid

HELLO_S = 60.0
"""Seconds that a newly connected site has to say who it is."""

log = logging.getLogger("fedild.run")


def take_roll(grid: Grid, *, run: str, timeout_s: float = 60.0, wanted: int = 1) -> dict[int, str]:
    """Ask every connected node who it is; return node id to site name, sorted by name.

    Waits, at most `timeout_s`, until `wanted` sites have answered. Of several nodes that claim one name the lowest number has it, whatever
    the order of their answers: a stranger cannot keep the others from starting, and a resumed run chooses the same node. (In a deployment
    no name is claimed: Flower knows each node by its registered key.)

    Raises
    ------
    Interrupted
        Fewer sites than wanted.
    """
    until = time.monotonic() + timeout_s
    said: dict[int, str] = {}
    while True:
        said |= _hello(grid, [node for node in grid.get_node_ids() if node not in said], run=run, timeout_s=max(1.0, until - time.monotonic()))
        names = {name: node for node, name in sorted(said.items(), reverse=True)}
        if len(names) >= wanted or time.monotonic() >= until:
            break
        time.sleep(POLL_S[1])
    if len(names) < wanted:
        raise Interrupted("enough sites must be connected", value=f"{len(names)} of {wanted}", remedy="start the missing sites and resume the run")
    for node in sorted(said.keys() - set(names.values())):
        log.warning("node %d is left out: the name %s is another's", node, said[node])
    return {node: name for name, node in sorted(names.items())}


def welcome(grid: Grid, roster: dict[int, str], *, run: str, timeout_s: float) -> None:
    """Add nodes that have connected since to `roster`, in place; a site that came back under a new node takes its old place.

    A node under the name of a site that is still connected is left out.
    """
    connected = set(grid.get_node_ids())
    for node, site in _hello(grid, sorted(connected - roster.keys()), run=run, timeout_s=timeout_s).items():
        before = next((old for old, name in roster.items() if name == site), None)
        if before in connected:
            continue
        if before is not None:
            del roster[before]
        roster[node] = site


def _hello(grid: Grid, nodes: list[int], *, run: str, timeout_s: float) -> dict[int, str]:
    job = Job(run=run, round=0, kind="hello")
    answers = ((message.metadata.src_node_id, read(message)) for message in exchange(grid, dict.fromkeys(nodes, job), timeout_s=timeout_s))
    return {node: update.site for node, update in answers if update is not None and update.site and node in nodes}
