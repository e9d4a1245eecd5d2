"""The spool of a round's replies: on disk as they arrive, read back in roster order, so that any arrival order gives the same bits.

Every valid update is written to a file at once. When the round closes, the sums run over blocks that fit the processor's cache: for each
block, each site's values are read from its file in the order of the sites' names, weighted and added in float64. Memory is therefore one
new model and a few blocks, however many sites there are, and every byte is read once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from server.strategies.blocks import Blocks, Flat, Found, Rows, pieces
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.files import read_state, state_parts, write_atomic

GROUP = 8
"""Sites whose blocks are held in float64 at a time."""

AT_ONCE = 1 << 17
"""Values of a group in float64 at a time: long calls, for between two calls the threads wait for each other."""


Weights: TypeAlias = Sequence[float] | np.ndarray
"""One number a site, in the order of the sites' names."""


@dataclass(frozen=True)
class Reply:
    """One site's valid update, spooled."""

    site: str
    path: Path
    num_cases: int
    steps: int
    staleness: int = 0
    """Rounds that have closed since the site was asked; its state has been moved to the round's own start."""
    place: int = 0
    """Its turn among sites that train one after another, from 1; 0 where all train at once."""
    metrics: Mapping[str, float] = field(default_factory=dict)


class Spool:
    """The replies of one round in a folder.

    Parameters
    ----------
    folder : Path
        Made when missing; `clear` removes it.
    durable : bool
        Flush each reply to disk: a deployed server recovers replies after a crash, a simulation repeats the round instead.
    factor : float
        Factor on the sites' learning rate in this round.
    """

    def __init__(self, folder: Path, *, durable: bool = False, factor: float = 1.0) -> None:
        self.folder, self.durable, self.factor = Path(folder), durable, factor
        self._replies: dict[str, Reply] = {}

    def add(self, site: str, state: State, *, num_cases: int, steps: int, **more: Any) -> None:
        """Store one update; a second one of the same site is refused. `more` are further fields of its `Reply`."""
        if site in self._replies:
            raise BadState("a site replies once a round", value=site)
        path = self.folder / f"{site}.safetensors"
        write_atomic(path, state_parts(state, {"num_cases": str(num_cases), "steps": str(steps)}), durable=self.durable)
        self._replies[site] = Reply(site, path, num_cases, steps, **more)

    def take_up(self, site: str, path: Path, *, num_cases: int, steps: int, **more: Any) -> None:
        """Count a file of this folder that an earlier process spooled and whose content was verified (`server/runs/journal`)."""
        self._replies[site] = Reply(site, path, num_cases, steps, **more)

    @property
    def replies(self) -> list[Reply]:
        """Replies in the order of the sites' names, whatever order they came in."""
        return [self._replies[site] for site in sorted(self._replies)]

    def states(self) -> Iterator[State]:
        """Read the updates one after another, in order."""
        for reply in self.replies:
            yield read_state(reply.path)

    def walk(self, like: State, visit: Callable[[Rows], Found]) -> list[Found]:
        """Call ``visit(rows)`` over all parameters of all sites, as `Blocks.walk` does.

        Raises
        ------
        BadState
            No replies, or one of another layout.
        """
        if not self._replies:
            raise BadState("a round needs replies", value=0)
        with Blocks([reply.path for reply in self.replies], like) as blocks:
            return blocks.walk(visit)

    def weighted_mean(self, like: State, weights: Weights) -> State:
        """Return ``sum_i w_i x_i / sum_i w_i`` with the keys, shapes and types of `like`.

        Integer keys (counters) are rounded to the nearest integer.

        Raises
        ------
        BadState
            No replies, weights that do not sum to a positive number, or a reply of another layout.
        """
        return self.weighted_means(like, [weights])[0]

    def weighted_means(self, like: State, weightings: Sequence[Weights]) -> list[State]:
        """Return `weighted_mean` under each of the weightings; the files are read once."""
        totals, sites = [float(sum(weights)) for weights in weightings], len(self._replies)
        if not sites or any(len(weights) != sites or not total > 0 for weights, total in zip(weightings, totals, strict=True)):
            raise BadState("a mean needs replies and a positive total weight", value=(sites, totals))
        shares = [np.array([weight / total for weight in weights]) for weights, total in zip(weightings, totals, strict=True)]
        results = [Flat(like) for _ in weightings]

        group = min(GROUP, sites)
        size = AT_ONCE // group

        def visit(rows: Rows) -> None:
            # In float64: the roundings of many sites must not show in the result.
            wide, more = rows.room("wide", group, size), rows.room("more", size)
            sums = rows.room("sums", len(shares), 2 * size)
            for piece in pieces(rows.part, 2 * size):
                for first in range(0, sites, group):
                    read = rows.read(piece, first, group)
                    for part in pieces(slice(0, piece.stop - piece.start), size):
                        here = wide[: len(read), : part.stop - part.start]
                        np.copyto(here, read[:, part])
                        for share, total in zip(shares, sums, strict=True):
                            added = more[: part.stop - part.start] if first else total[part]
                            np.matmul(share[first : first + len(read)], here, out=added)
                            if first:
                                total[part] += added
                for result, total in zip(results, sums, strict=True):
                    result.put(rows.run, piece, total[: piece.stop - piece.start])

        self.walk(like, visit)
        return [result.state() for result in results]

    def clear(self) -> None:
        """Forget the replies and remove their files."""
        self._replies.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
