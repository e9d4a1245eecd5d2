"""Where a site trains, and how finely: the device of its ``site.toml``, and mixed precision on it.

The device is the hospital's choice (``[site] device``), the precision the experiment's (``[train] precision``). The worker wraps what it does
in `training_on`; whatever fits or predicts in there asks `current_device`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor

from shared_models.core.errors import BadInput

log = logging.getLogger("fedild.training")
_WANTED: ContextVar[str] = ContextVar("device", default="auto")


@contextlib.contextmanager
def training_on(device: str) -> Iterator[None]:
    """Train on `device` (``[site] device``) within the body; whether it is there shows when something is trained."""
    token = _WANTED.set(device)
    try:
        yield
    finally:
        _WANTED.reset(token)


def current_device() -> torch.device:
    """Return the device that `training_on` named; outside of it the first GPU, or the processor without one.

    Raises
    ------
    BadInput
        E_DEVICE: the site's TOML names a GPU that is not there.
    """
    return find_device(_WANTED.get())


def find_device(wanted: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises
    ------
    BadInput
        E_DEVICE: there is no such device. A site that asked for its GPU is never quietly trained on its processor.

    Examples
    --------
    >>> find_device("cpu")
    device(type='cpu')
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        wanted = "cuda" if count else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise BadInput(
            f"the site's device must be there; PyTorch sees {count} GPUs",
            value=wanted,
            remedy='check the driver with nvidia-smi, or set device = "auto" in site.toml',
            code="E_DEVICE",
        )
    return device


class Precision:
    """How the numbers of a training step are kept: all in 32 bits, or matrix products in 16 bits on a GPU.

    bfloat16 has the range of float32 and needs no more. float16, for GPUs without it, loses small gradients: the loss is scaled up before
    the backward pass, and a step whose scaled gradient overflows is left out (Micikevicius et al., ICLR 2018; PyTorch's ``GradScaler``).

    Parameters
    ----------
    how : str
        ``full`` or ``mixed``. Mixed means full precision on a processor, and the log says so.
    device : torch.device
        Where the step is taken.
    narrow : torch.dtype, optional
        The 16-bit type; by default bfloat16 where the GPU has it.
    """

    def __init__(self, how: Literal["full", "mixed"], device: torch.device, *, narrow: torch.dtype | None = None) -> None:
        self.device = device
        if how == "mixed" and device.type == "cpu" and narrow is None:
            log.info("mixed precision needs a GPU: this round is trained in full precision")
        elif how == "mixed" and narrow is None:
            narrow = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        self.narrow = narrow if how == "mixed" else None
        self._scaler = torch.amp.GradScaler(device.type) if self.narrow == torch.float16 else None

    def forward(self) -> contextlib.AbstractContextManager[object]:
        """Return the context of a forward pass."""
        return contextlib.nullcontext() if self.narrow is None else torch.autocast(self.device.type, dtype=self.narrow)

    def scaled(self, loss: Tensor) -> Tensor:
        """Return `loss` as it goes into the backward pass."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def unscaled(self, gradient: Tensor) -> Tensor:
        """Return a gradient of the scaled loss as it would be without the scale; not finite where it overflowed."""
        return gradient if self._scaler is None else gradient / self._scaler.get_scale()

    def step(self, weights: Tensor, gradient: Tensor, take: Callable[[], None]) -> bool:
        """Undo the scale in `gradient` and call `take`, unless the scaled gradient overflowed; return whether it was called."""
        if self._scaler is None:
            take()
            return True
        one = _OneStep(weights, gradient, take)
        self._scaler.unscale_(one)  # pyright: ignore[reportArgumentType]
        self._scaler.step(one)  # pyright: ignore[reportArgumentType]
        self._scaler.update()
        return one.taken

    def state(self) -> dict[str, float]:
        """Return what the next step depends on: the scale and the steps since it last changed."""
        known = {} if self._scaler is None else self._scaler.state_dict()
        return {name: float(known[name]) for name in ("scale", "_growth_tracker") if name in known}

    def load(self, state: dict[str, float]) -> None:
        """Go on from where `state` was taken."""
        if self._scaler is not None and state:
            known = {**self._scaler.state_dict(), "scale": state["scale"], "_growth_tracker": int(state["_growth_tracker"])}
            self._scaler.load_state_dict(known)


class _OneStep:
    """What the scaler takes for an optimiser: one parameter with its gradient, and a step."""

    def __init__(self, weights: Tensor, gradient: Tensor, take: Callable[[], None]) -> None:
        parameter = weights.detach().view(-1)
        parameter.grad = gradient
        self.param_groups = [{"params": [parameter]}]
        self.take, self.taken = take, False

    def step(self) -> None:
        """Take the step."""
        self.take()
        self.taken = True
