"""Questions to sites and their answers, over Flower's Grid: who is asked, how long is waited, and that nothing large is held twice."""

from __future__ import annotations

import time
from collections import Counter, deque
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
    post = Post(grid, again=again)
    post.send(jobs, timeout_s=timeout_s)
    for _, _, message in post.replies(timeout_s=timeout_s):
        yield message
        del message  # a large reply has gone before the next one comes


class Post:
    """Questions on their way, and answers that have come and were not looked at yet: both outlive a round that closes without them.

    Parameters
    ----------
    grid : Grid
        Flower's messages to the sites.
    again : bool
        As in `exchange`.
    """

    def __init__(self, grid: Grid, *, again: bool = False) -> None:
        self._grid, self._again = grid, again
        self._jobs: dict[int, Job] = {}
        self._until: dict[int, float] = {}
        self._numbers: dict[str, int] = {}
        self._errors: Counter[int] = Counter()
        self._due: dict[int, float] = {}
        self._here: deque[Message] = deque()

    @property
    def nodes(self) -> set[int]:
        """Nodes whose answer is still expected."""
        return {*self._numbers.values(), *self._due}

    def send(self, jobs: dict[int, Job], *, timeout_s: float) -> None:
        """Send a job to each node; the answer to an earlier one is no longer expected. Each has `timeout_s` to be answered."""
        for node in jobs:
            self.forget(node)
        self._jobs |= jobs
        self._until |= dict.fromkeys(jobs, time.monotonic() + timeout_s)
        self._push(list(jobs))

    def forget(self, node: int) -> None:
        """Expect no answer of `node` any more."""
        self._numbers = {number: one for number, one in self._numbers.items() if one != node}
        for known in (self._jobs, self._until, self._due, self._errors):
            known.pop(node, None)

    def replies(self, *, timeout_s: float) -> Iterator[tuple[int, Job, Message]]:
        """Yield who was asked, what, and the reply, as the replies come, until nothing is expected any more or `timeout_s` has passed.

        Whoever stops in between finds the other replies here the next time. An error that the network layer made itself bears another
        sender than the node that was asked.
        """
        until, pause = time.monotonic() + timeout_s, POLL_S[0]
        while self._numbers:
            looked, answered = time.monotonic(), False
            here = {str(message.metadata.reply_to_message_id) for message in self._here}  # left over from when somebody stopped
            numbers = [number for number in self._numbers if number not in here]
            together = max(1, AT_ONCE_BYTES // max([1, *(size_bytes(job.state) for job in self._jobs.values())]))
            for start in range(0, len(numbers) or 1, together):
                self._here += self._grid.pull_messages(numbers[start : start + together]) if numbers else ()
                while self._here:
                    reply = self._here.popleft()
                    node = self._numbers.pop(str(reply.metadata.reply_to_message_id), None)
                    if node is None:
                        continue  # a reply that the network delivers twice is one reply
                    answered, job = True, self._jobs[node]
                    if self._again and reply.has_error() and self._errors[node] < len(ASK_AGAIN_S):
                        self._due[node] = looked + ASK_AGAIN_S[self._errors[node]]
                        self._errors[node] += 1
                    else:
                        del self._jobs[node]
                    yield node, job, reply
                    del reply, job  # a large reply has gone before the next one comes
            if time.monotonic() >= until:
                return
            if self._numbers and (ready := [node for node, at in self._due.items() if at <= looked]):
                back = [node for node in ready if node in set(self._grid.get_node_ids())]
                self._due |= dict.fromkeys(ready, looked + POLL_S[1])  # who is not there is looked for again
                for node in back:
                    del self._due[node]
                self._push(back)
            if not answered:
                time.sleep(max(0.0, looked + pause - time.monotonic()))  # a grid that waits by itself has waited already
                pause = min(POLL_S[1], 1.5 * pause)

    def _push(self, nodes: Sequence[int]) -> None:
        from flwr.app import Message

        if not nodes:
            return
        jobs = {node: self._jobs[node] for node in nodes}
        contents = {id(job): broadcast(job) for job in jobs.values()}
        now = time.monotonic()
        messages = [
            Message(
                contents[id(job)],
                dst_node_id=node,
                message_type=MESSAGE_TYPES[job.kind],
                ttl=max(1e-3, self._until[node] - now),
                group_id=str(job.round),
            )
            for node, job in jobs.items()
        ]
        # Flower gives no number to a message for a node that it does not know any more.
        self._numbers |= {str(number): node for number, node in zip(self._grid.push_messages(messages), nodes, strict=False) if number}


def read(message: Message) -> Update | None:
    """Return the update that a message carries; None for an error of the network layer and for anything that is no update."""
    if message.has_error():
        return None
    try:
        return read_update(message.content)
    except FedILDError:
        return None
