"""What a worker process of the simulation imports once, before it is forked: torch, the worker, Flower's messages, the chosen model.

No operation of torch that starts threads runs here: autograd must not have started before the fork.
"""

from __future__ import annotations

import os

import torch

import sim.apps
import sim.grid
import sim.tasks  # noqa: F401
from client.training.gradient import network_key, network_on_cpu
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.experiment import Experiment


def warm() -> None:
    """Use one thread a process, and build the model of the experiment in ``FEDILD_WARM``: all processes then have it and what it imports."""
    torch.set_num_threads(1)
    if text := os.environ.get("FEDILD_WARM"):
        experiment = Experiment.from_json(text)
        if spec_of(experiment.model).fit in NETWORK_FITS:
            network_on_cpu(*network_key(experiment))
        else:
            build(experiment.model, inputs=inputs_of(experiment), outputs=experiment.data.outputs)
