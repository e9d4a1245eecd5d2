"""A Flower Grid in this process: the real ClientApp made by `make_app`, the real messages, and every way a site can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from client.app import make_app
from server.runs import start
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update

Handle = Callable[[Job], Update]


def begin_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process, which has torch already, build round 0 of a deployed run; `test_start.py` holds both ways to the same bits."""

    def build(experiment: Experiment, folder: Path, run: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        start.write_start(experiment, folder, run=run)

    monkeypatch.setattr(start, "_build", build)


class LoopGrid(Grid):
    """Sites by name, each a function from Job to Update; node ids are 1, 2, ... in the order given.

    Parameters
    ----------
    sites : dict
        Site name to its handler.
    order : callable, optional
        Changes the order in which replies arrive.
    """

    def __init__(self, sites: dict[str, Handle], *, order: Callable[[list[Message]], list[Message]] = list) -> None:
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
        self.sites = dict(sites)
        self.order = order
        self.names = dict(enumerate(sites, 1))
        self.connected = set(self.names)
        self.silent: set[str] = set()
        """Sites that never answer."""
        self.broken: set[str] = set()
        """Sites whose ClientApp fails: Flower itself answers with an error."""
        self.forged: dict[str, Callable[[Message], RecordDict]] = {}
        """Sites whose reply is replaced: what a hostile site may send."""
        self.jobs: list[tuple[str, str, int]] = []
        self._ready: list[Message] = []
        self._count = 0

    def connect(self, name: str, handle: Handle) -> int:
        """Let a site connect under a new node id."""
        number = max(self.names, default=0) + 1
        self.sites[name], self.names[number] = handle, name
        self.connected.add(number)
        return number

    def set_run(self, run: Any) -> None:
        del run

    @property
    def run(self) -> Run:
        return Run.create_empty(1)

    def create_message(self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return sorted(self.connected, reverse=True)  # no order that a caller could lean on

    def get_nodes(self) -> list[Any]:
        """Nodes under the names that the server's administrator registered: here each site's own."""
        return [SimpleNamespace(node_id=node, name=self.names[node]) for node in self.get_node_ids()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            self._count += 1
            ids.append(f"m{self._count}")
            message.metadata.__dict__["_message_id"] = ids[-1]
            self._answer(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = set(message_ids)
        here = [m for m in self._ready if m.metadata.reply_to_message_id in wanted]
        self._ready = [m for m in self._ready if m.metadata.reply_to_message_id not in wanted]
        return self.order(here)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> None:
        node = message.metadata.dst_node_id
        name = self.names[node]
        self.jobs.append((name, message.metadata.message_type, int(message.metadata.group_id or 0)))
        if name in self.silent or node not in self.connected:
            return
        if name in self.broken:
            self._ready.append(Message(Error(code=2, reason="ValueError: /data/Doe^John"), reply_to=message))
            return
        app = make_app(lambda job, context: self.sites[name](job))
        context = Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
        reply = app(message=message, context=context)
        if name in self.forged and message.metadata.message_type == "train":
            reply = Message(self.forged[name](message), reply_to=message)
        self._ready.append(reply)
