"""How replies are fetched: together while they are small, one by one when they are large."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from flwr.app import Message

from server.runs import exchange
from shared_models.messages import Job, Packed, Update, broadcast
from tests.server.loop_grid import LoopGrid


class Counting(LoopGrid):
    """Notes how many replies each pull asks for."""

    asked: list[int]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        numbers = list(message_ids)
        self.asked.append(len(numbers))
        return super().pull_messages(numbers)


@pytest.mark.parametrize(("at_once", "asked"), [(1 << 20, [4]), (180, [2, 2]), (1, [1, 1, 1, 1])])
def test_as_many_together_as_fit(monkeypatch: pytest.MonkeyPatch, at_once: int, asked: list[int]) -> None:
    monkeypatch.setattr(exchange, "AT_ONCE_BYTES", at_once)
    grid = Counting({name: lambda job: Update(job.run, job.round) for name in "abcd"})
    grid.asked = []
    job = Job("r", 1, "fit", state={"w": np.zeros(10)})
    replies = list(exchange.exchange(grid, dict.fromkeys(grid.names, job), timeout_s=30))
    assert len({reply.metadata.src_node_id for reply in replies}) == 4
    assert grid.asked == asked


def test_a_packed_state_is_the_message_itself() -> None:
    state = {"w": np.arange(5, dtype=np.float32), "n": np.array(3)}
    packed = Packed(state)
    content = broadcast(Job("r", 1, "fit", state=packed))
    assert content["state"] is packed.record
    assert content.object_id == broadcast(Job("r", 1, "fit", state=state)).object_id
    assert {key: value.tolist() for key, value in packed.items()} == {"w": [0, 1, 2, 3, 4], "n": 3}
