"""A Flower Grid whose nodes are the warm processes of this machine: the same messages, apps and checks as in a deployment, no network.

Array bytes go through shared memory: a broadcast model is written once for all sites, a reply once by its site.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from typing import Any

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from sim.nursery import BOXES
from sim.pool import Pool

FIRST_NODE = 1000


class PoolGrid(Grid):
    """Nodes 1000, 1001, ... are the sites, in order; `sites` are the paths of their TOMLs."""

    def __init__(self, pool: Pool, sites: list[str]) -> None:
        # Flower's Message constructor asks which task runs in this process.
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
        self.pool, self.sites = pool, sites
        self._run = Run.create_empty(1)
        self._count = 0
        self._end = 0
        self._replies: dict[str, Message | None] = {}

    def set_run(self, run: Any) -> None:
        """Take the run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None) -> Message:
        """Make a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return one id a site."""
        return [FIRST_NODE + i for i in range(len(self.sites))]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages for the pool; arrays that several messages share are written once."""
        if self.pool.pending == 0:
            self._end = 0
        known: dict[int, tuple] = {}
        ids = []
        self._replies.clear()  # nobody waits any more for answers to what was sent before
        for message in messages:
            self._count += 1
            ids.append(f"m{self._count}")
            message.metadata.__dict__["_message_id"] = ids[-1]
            key = id(message.content["state"]) if message.has_content() and "state" in message.content else id(message)
            if key not in known:
                packed, self._end = _pack(message.content, self.pool.broadcast.fileno(), self._end)
                known[key] = (packed, message)
            site = self.sites[message.metadata.dst_node_id - FIRST_NODE]
            bare = copy.copy(message)
            bare.__dict__ = {**message.__dict__, "_content": RecordDict()}
            self._replies[ids[-1]] = None
            self.pool.submit(("boxed", message), "sim.grid", "run_client", (site, bare, known[key][0]), home=site)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there; waits a moment for the first."""
        wanted = [number for number in message_ids if number in self._replies]
        if not any(self._replies[number] for number in wanted):
            for (kind, sent), answer in self.pool.results(0.5):
                if kind == "boxed" and sent.metadata.message_id in self._replies:
                    content, box = answer
                    self._replies[sent.metadata.message_id] = Message(_unpack(content, box.fileno()), reply_to=sent)
        return [self._replies.pop(number) for number in wanted if self._replies[number] is not None]  # type: ignore[misc]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then pull until all have answered."""
        waiting = set(self.push_messages(messages))
        replies = []
        while waiting:
            for reply in self.pull_messages(waiting):
                waiting.discard(reply.metadata.reply_to_message_id)
                replies.append(reply)
        return replies


def run_client(site: str, message: Message, packed: tuple) -> tuple:
    """Run the ClientApp for one message, in a worker process; return the reply's content, its arrays in this process's box."""
    from sim.apps import client_app

    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
    message.__dict__["_content"] = _unpack(packed, BOXES["broadcast"])
    context = Context(run_id=1, node_id=message.metadata.dst_node_id, node_config={"site": site}, state=RecordDict(), run_config={})
    reply = client_app(message=message, context=context)
    return _pack(reply.content, BOXES["out"], 0)[0]


def _pack(content: RecordDict, box: int, at: int) -> tuple[tuple, int]:
    """Write the bytes of all arrays to a box from `at` on; return the rest of the content with their places, and the new end."""
    others, table = {}, []
    for name, record in content.items():
        if not isinstance(record, ArrayRecord):
            others[name] = record
            continue
        table.append((name, None, "", (), "", 0, 0))
        for key, array in record.items():
            size = len(array.data)
            table.append((name, key, array.dtype, tuple(array.shape), array.stype, at, size))
            if os.pwrite(box, array.data, at) != size:
                raise OSError("a box must take all bytes")
            at += size
    return (others, table), at


def _unpack(packed: tuple, box: int) -> RecordDict:
    """Put together what `_pack` took apart."""
    others, table = packed
    records: dict[str, dict[str, Array]] = {}
    for name, key, dtype, shape, stype, at, size in table:
        arrays = records.setdefault(name, {})
        if key is not None:
            arrays[key] = Array(dtype, shape, stype, os.pread(box, size, at))
    return RecordDict({**others, **{name: ArrayRecord(arrays) for name, arrays in records.items()}})
