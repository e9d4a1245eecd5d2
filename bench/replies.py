"""The replies that aggregators are timed on: real files where they fit, and the same few bytes read from other places where they do not.

A hundred million parameters of 64 sites are 26 GB. Beyond a budget of bytes, a few files of random values stand for all sites: every site
reads its own stretch of one of them, begun `SHIFT_BYTES` further on than the site before it in the same file. What one site has read is read
again only after the others have read more than the processor's caches hold, so that the memory works as hard as it would for files of their
own. The way there is the product's: only the number of the open file and where its values begin are other ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import server.strategies.replies as spooled
from server.strategies.blocks import Blocks
from server.strategies.replies import Reply, Spool
from shared_models.core.arrays import State
from shared_models.core.files import write_state

SHIFT_BYTES = 4 << 20
CHUNK = 1 << 22


def layout(parameters: int) -> State:
    """Return the shapes of a model of about so many parameters as a network has them: a few large arrays, many small ones. It takes no memory."""
    sizes = [parameters // 2, parameters // 4, *[parameters // 64] * 16]
    return {f"layer{i:02d}.weight": np.broadcast_to(np.float32(0), (size,)) for i, size in enumerate(sizes)}


def bytes_of(parameters: int) -> int:
    """Return the bytes of such a model."""
    return sum(4 * value.size for value in layout(parameters).values())


def write_replies(folder: Path, sites: int, parameters: int, budget: int) -> None:
    """Write one reply a site, or, where these are more bytes than `budget`, the few files that stand for them."""
    size = bytes_of(parameters)
    if sites * size <= budget:
        for site in range(sites):
            rng = np.random.default_rng([3, site])
            state = {key: rng.standard_normal(like.size, np.float32) for key, like in layout(parameters).items()}
            write_state(folder / f"site{site:03d}.safetensors", state, durable=False)
        return
    files = max(2, budget // size)
    head = _head(parameters)
    with open(folder / "layout", "wb") as file:  # a header and a hole: what is checked when a reply is opened
        file.write(head)
        file.truncate(len(head) + size)
    for number in range(files):
        rng, left = np.random.default_rng([3, number]), size + (sites // files + 1) * SHIFT_BYTES
        with open(folder / f"values{number}", "wb") as file:
            while left > 0:
                file.write(rng.standard_normal(min(left, CHUNK) // 4, np.float32).data)
                left -= CHUNK
    (folder / "sites.json").write_text(json.dumps({"sites": sites, "files": files}))


def _head(parameters: int) -> bytes:
    entries, end = {}, 0
    for key, like in layout(parameters).items():
        entries[key] = {"dtype": "F32", "shape": [like.size], "data_offsets": [end, end := end + 4 * like.size]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def places(folder: Path) -> list[tuple[Path, int]]:
    """Return for each site the file that holds its values and the byte where they begin."""
    paths = sorted(folder.glob("*.safetensors"))
    if paths:
        return [(path, 8 + int.from_bytes(path.open("rb").read(8), "little")) for path in paths]
    told = json.loads((folder / "sites.json").read_text())
    return [(folder / f"values{site % told['files']}", site // told["files"] * SHIFT_BYTES) for site in range(told["sites"])]


def weights_of(sites: int) -> list[float]:
    """Return the numbers of patients that weigh the sites."""
    return [float(20 + 3 * site) for site in range(sites)]


def spool_of(folder: Path) -> Spool:
    """Return the replies as the server holds them when a round closes."""
    spool, found = Spool(folder), places(folder)
    shared = not list(folder.glob("*.safetensors"))
    for site, ((path, _), weight) in enumerate(zip(found, weights_of(len(found)), strict=True)):
        name = f"site{site:03d}"
        told = {"received_loss": 1.0 + site % 2}  # what q-FedAvg asks for
        spool._replies[name] = Reply(name, folder / "layout" if shared else path, round(weight), 1 + site % 3, metrics=told)
    if shared:
        spooled.Blocks = _standing_in(found)
    return spool


def _standing_in(found: list[tuple[Path, int]]) -> type[Blocks]:
    class Elsewhere(Blocks):
        def _open(self, path: Path, like: State) -> None:
            super()._open(path, like)
            place, begin = found[len(self._files) - 1]
            os.close(self._files[-1][0])
            self._files[-1] = os.open(place, os.O_RDONLY), begin

    return Elsewhere


def states(folder: Path, parameters: int) -> Iterator[State]:
    """Read the sites' values one after another into memory; sites that share a file share the arrays."""
    held: dict[Path, State] = {}
    for path, begin in places(folder):
        if path not in held:
            values, at, held[path] = np.fromfile(path, np.float32, bytes_of(parameters) // 4, offset=begin), 0, {}
            for key, like in layout(parameters).items():
                held[path][key] = values[at : at + like.size]
                at += like.size
        yield held[path]
