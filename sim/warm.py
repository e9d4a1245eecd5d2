"""What a worker process of the simulation imports once, before it is forked: torch, the worker, Flower's messages, the chosen model.

No operation of torch runs here: autograd must not have started before the fork.
"""

from __future__ import annotations

import os

import flwr.app
import flwr.clientapp  # noqa: F401
import torch

import client.selection
import client.worker  # noqa: F401
from shared_models.catalogue import build
from shared_models.core.choices import Choice


def warm() -> None:
    """Use one thread a process, and build the model named in ``FEDILD_WARM_MODEL`` once so that all it imports is loaded."""
    torch.set_num_threads(1)
    if text := os.environ.get("FEDILD_WARM_MODEL"):
        build(Choice.model_validate_json(text), inputs=1, outputs=2)
