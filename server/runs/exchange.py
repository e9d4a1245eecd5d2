"""Questions to sites and their answers, over Flower's Grid: who is asked, how long is waited, and that nothing large is held twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from shared_models.core.errors import FedILDError
from shared_models.core.state import size_bytes
from shared_models.messages import MESSAGE_TYPES, Job, Update, broadcast, read_update

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

POLL_S = (0.02, 0.3)
"""Seconds between two looks for replies: short at first, for sites on this machine; longer soon, for sites far away."""

ASK_AGAIN_S = (2.0, 5.0, 15.0, 30.0, 60.0)
"""Pauses before a site whose message came back as an error is asked again within the round, one after another; then it is left alone."""

AT_ONCE_BYTES = 64 << 20
"""Replies that are fetched together hold at most so much; larger ones come one by one, each dropped before the next."""


def exchange(grid: Grid, jobs: dict[int, Job], *, timeout_s: float, again: bool = False) -> Iterator[Message]:
    """Send a job to each node and yield the replies as they come, until all have answered or `timeout_s` has passed.

    Jobs that are the same object are serialised once. Replies made by the server's own network layer (a dead node) carry an error and
    are yielded too; with `again` such a node gets its job once more, after a pause of `ASK_AGAIN_S`, if it is connected then and the others
    have not all answered yet.
    """
    from flwr.app import Message

    contents = {id(job): broadcast(job) for job in jobs.values()}
    together = max(1, AT_ONCE_BYTES // max([1, *(size_bytes(job.state) for job in jobs.values())]))
    until, pause = time.monotonic() + timeout_s, POLL_S[0]

    def ask(nodes: Sequence[int]) -> dict[str, int]:
        left = max(1e-3, until - time.monotonic())
        messages = [
            Message(contents[id(jobs[node])], dst_node_id=node, message_type=MESSAGE_TYPES[jobs[node].kind], ttl=left, group_id=str(jobs[node].round))
            for node in nodes
        ]
        # Flower gives no number to a message for a node that it does not know any more.
        return {str(number): node for number, node in zip(grid.push_messages(messages), nodes, strict=False) if number} if messages else {}

    waiting = ask(list(jobs))
    errors: Counter[int] = Counter()
    due: dict[int, float] = {}
    while waiting:
        looked, answered = time.monotonic(), False
        numbers = list(waiting)
        for start in range(0, len(numbers), together):
            replies = list(grid.pull_messages(numbers[start : start + together]))
            while replies:
                reply = replies.pop(0)
                node = waiting.pop(str(reply.metadata.reply_to_message_id), None)
                if node is None:
                    continue  # a reply that the network delivers twice is one reply
                answered = True
                if again and reply.has_error() and errors[node] < len(ASK_AGAIN_S):
                    due[node] = looked + ASK_AGAIN_S[errors[node]]
                    errors[node] += 1
                yield reply
                del reply  # a large reply has gone before the next one comes
        if time.monotonic() >= until:
            return
        if waiting and (ready := [node for node, at in due.items() if at <= looked]):
            here = [node for node in ready if node in set(grid.get_node_ids())]
            due |= dict.fromkeys(ready, looked + POLL_S[1])  # who is not there is looked for again
            for node in here:
                del due[node]
            waiting |= ask(here)
        if not answered:
            time.sleep(max(0.0, looked + pause - time.monotonic()))  # a grid that waits by itself has waited already
            pause = min(POLL_S[1], 1.5 * pause)


def read(message: Message) -> Update | None:
    """Return the update that a message carries; None for an error of the network layer and for anything that is no update."""
    if message.has_error():
        return None
    try:
        return read_update(message.content)
    except FedILDError:
        return None
