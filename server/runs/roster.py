"""The roster of a deployed run: the declared sites under their registered names, whatever a site claims to be called.

Flower knows every connected node by the name under which the server's administrator registered its public key; only nodes with a name on
the roster are asked anything. All waits are bounded: for the first gathering, and once for a site that has just been lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared_models.core.errors import Interrupted
from shared_models.core.files import read_json

if TYPE_CHECKING:
    from flwr.serverapp import Grid

GATHER_S = 300.0
"""Seconds that a run waits for all of its sites before it begins with a quorum of them."""
REJOIN_S = 120.0
"""Seconds that a round waits for a site that took part in the last one. Flower lets a killed node back in after about a minute."""
LOOK_S = 1.0

Waiting = Callable[[list[str]], None]


def connected(grid: Grid, sites: Sequence[str]) -> dict[int, str]:
    """Return node number to site name of the connected nodes that are registered under one of `sites`, sorted by name.

    A name counts once, with its lowest number: while a site changes its keys, Flower may know it under two for a moment.
    """
    numbers = {node.name: node.node_id for node in sorted(grid.get_nodes(), key=lambda node: -node.node_id) if node.name in sites}
    return {number: name for name, number in sorted(numbers.items())}


class SigningKeys(Mapping[str, str]):
    """Each site's registered signing key (Ed25519, hexadecimal), read from the server's ``sites.json`` whenever it is asked for.

    It is empty for a site that is not, or no longer, approved: nothing that it sends is taken, and the others go on. A key that is rotated
    or revoked counts at once, also in a run that is on its way.

    Parameters
    ----------
    register : Path
        ``sites.json``.
    sites : sequence of str
        The roster.
    """

    def __init__(self, register: Path, sites: Sequence[str]) -> None:
        self.register, self.sites = register, tuple(sites)

    def __getitem__(self, site: str) -> str:
        """Return the key of a site of the roster as it is registered now."""
        if site not in self.sites:
            raise KeyError(site)
        entry = (read_json(self.register) if self.register.exists() else {}).get(site, {})
        return str(entry["signing_key"]) if entry.get("state") == "approved" else ""

    def __iter__(self) -> Iterator[str]:
        """Give the sites of the roster."""
        return iter(self.sites)

    def __len__(self) -> int:
        """Return the number of sites of the roster."""
        return len(self.sites)


def gather(grid: Grid, sites: Sequence[str], *, quorum: int, timeout_s: float = GATHER_S, waiting: Waiting | None = None) -> dict[int, str]:
    """Return the roster when all of `sites` are connected, or, after `timeout_s`, when at least `quorum` of them are.

    Parameters
    ----------
    waiting : callable, optional
        Told the missing sites whenever they change: waits must be visible.

    Raises
    ------
    Interrupted
        Fewer than `quorum` by then.
    """
    roster = _wait_for(grid, sites, sites, timeout_s=timeout_s, waiting=waiting)
    if len(set(roster.values())) < quorum:
        raise Interrupted(
            "enough sites of the roster must be connected",
            value=f"{len(roster)} of {quorum}: {', '.join(roster.values()) or 'none'}",
            remedy="start the missing sites and resume the run",
            code="E_QUORUM",
        )
    return roster


def refresh(grid: Grid, roster: dict[int, str], sites: Sequence[str], *, timeout_s: float = REJOIN_S, waiting: Waiting | None = None) -> None:
    """Bring `roster` up to date in place: late joiners in, sites that are gone out after a wait of at most `timeout_s` for them."""
    now = _wait_for(grid, sites, list(roster.values()), timeout_s=timeout_s, waiting=waiting)
    roster.clear()
    roster.update(now)


def _wait_for(grid: Grid, sites: Sequence[str], wanted: Sequence[str], *, timeout_s: float, waiting: Waiting | None) -> dict[int, str]:
    until = time.monotonic() + timeout_s
    told: list[str] = []
    while True:
        roster = connected(grid, sites)
        missing = sorted(set(wanted) - set(roster.values()))
        if waiting is not None and missing != told:
            waiting(missing)
            told = missing
        if not missing or time.monotonic() >= until:
            return roster
        time.sleep(LOOK_S)
