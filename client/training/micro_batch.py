"""A batch that does not fit into memory is taken in parts whose sizes are halved until they fit; the sum over the parts is the batch's.

The logical batch, the one that the experiment names, stays what it is: only what is in memory at once changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from shared_models.core.errors import Refused

T = TypeVar("T")


@dataclass
class MicroBatch:
    """The largest number of records that has not run out of memory; None until something did. Kept from step to step."""

    size: int | None = None


def in_parts(count: int, fits: MicroBatch, work: Callable[[slice], T], *, again: Callable[[], None] | None = None) -> list[T]:
    """Call `work` for consecutive parts of ``range(count)`` and return what it gave.

    When a part runs out of memory, all parts are done anew in halves: `fits` remembers the size.

    Parameters
    ----------
    count : int
        Records of the logical batch.
    fits : MicroBatch
        Changed in place.
    work : callable
        Given a slice; adds its part of the gradient, or returns its part of a result. The part that begins at 0 starts the sum.
    again : callable, optional
        Called before everything is done anew: puts back what a half-done attempt may have changed (random generators, running means).

    Raises
    ------
    Refused
        E_MEMORY: not even one record fits.

    Examples
    --------
    >>> in_parts(5, MicroBatch(2), lambda part: (part.start, part.stop))
    [(0, 2), (2, 4), (4, 5)]
    """
    while True:
        size = min(fits.size or count, count)
        try:
            return [work(slice(at, min(at + size, count))) for at in range(0, count, size or 1)]
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
        # Out of the except clause, so that the traceback no longer holds what the failed attempt had in memory.
        if size <= 1:
            raise Refused("one record at a time must fit into memory", remedy="choose a smaller model or input, or another device", code="E_MEMORY")
        fits.size = (size + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if again is not None:
            again()


def rewind(model: nn.Module) -> Callable[[], None]:
    """Return what puts random generators and buffers (running means) of `model` back to where they are now."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    own = torch.get_rng_state()
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    cuda = [(device, torch.cuda.get_rng_state(device)) for device in devices]

    def back() -> None:
        torch.set_rng_state(own)
        for device, state in cuda:
            torch.cuda.set_rng_state(state, device)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)

    return back


def ran_out(error: BaseException) -> bool:
    """Say whether an exception means that memory ran out, on a GPU or on the processor (where PyTorch has no type of its own for it)."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
