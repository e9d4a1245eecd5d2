"""The Flower ClientApp: a thin messenger. It carries a Job to the site's resident worker and what the gate released back to the server.

It runs in a process of its own for every message (`client/executor`) and beside whatever app the site has approved; so it imports neither torch
nor pydicom, can open no data, and every error leaves as a code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Message
from flwr.clientapp import ClientApp

from client.line import ask
from client.privacy.codes import outward
from shared_models.core.errors import FedILDError, Refused
from shared_models.messages import MESSAGE_TYPES, Job, Update, read_job, update_content

if TYPE_CHECKING:
    from flwr.app import Context

Carry = Callable[[Job, "Context"], Update]


PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 30.0)
"""Pauses before asking again when the worker is not there: one that was killed is started again and goes on with the same question."""


def over_socket(job: Job, context: Context) -> Update:
    """Ask the worker at the socket that the site's daemon named in ``FEDILD_SOCKET``; wait for one that is being restarted.

    Raises
    ------
    Refused
        E_NO_WORKER when none answers in spite of the pauses.
    """
    del context
    path = Path(os.environ.get("FEDILD_SOCKET", "worker.sock"))
    for pause in PAUSES_S:
        try:
            return ask(path, job)
        except Refused as error:
            if error.code != "E_NO_WORKER":
                raise
            time.sleep(pause)
    return ask(path, job)


def make_app(carry: Carry, *, views: bool = False) -> ClientApp:
    """Return the messenger with the given line to the worker: a socket in a hospital, a call in the simulation.

    With `views` the line gets a model that it may read alone, and that costs no memory of its own.
    """
    messenger = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        run, round = "", 0
        try:
            job = read_job(message.content, views=views)
            run, round = job.run, job.round
            content = update_content(carry(job, context))
        except FedILDError as error:
            content = update_content(Update(run=run, round=round, code=outward(error.code)))
        except Exception:  # no text of an exception ever leaves a site
            content = update_content(Update(run=run, round=round, code="E_MESSENGER"))
        return Message(content, reply_to=message)

    messenger.train()(answer)
    messenger.evaluate()(answer)
    for kind in MESSAGE_TYPES.values():
        if kind.startswith("query."):
            messenger.query(kind.removeprefix("query."))(answer)
    return messenger


app = make_app(over_socket, views=True)
