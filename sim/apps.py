"""The deployed ClientApp with the worker called in process: one resident `Worker` for each site that this process has met."""

from __future__ import annotations

import functools
import json
import os
from typing import TYPE_CHECKING

from client.app import make_app
from shared_models.messages import Job, Update

if TYPE_CHECKING:
    from flwr.app import Context

    from client.worker import Worker


def in_process(job: Job, context: Context) -> Update:
    """Hand the job to the site's worker in this process.

    The site is named in the node's configuration, or (on Ray, which sets none) counted in the list ``FEDILD_SITES``.
    """
    site = context.node_config.get("site")
    if site is None:
        site = json.loads(os.environ["FEDILD_SITES"])[int(context.node_config["partition-id"])]  # type: ignore[arg-type]
    return worker_of(str(site)).handle(job)


@functools.cache
def worker_of(site: str) -> Worker:
    """Return this process's worker of a site TOML."""
    import torch

    from client.site import Site
    from client.worker import Worker

    torch.set_num_threads(1)
    return Worker(Site.load(site))


client_app = make_app(in_process)
