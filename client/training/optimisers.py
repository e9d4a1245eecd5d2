"""Optimisers on a flat weight vector, equal step for step to PyTorch's.

Written here because they are a handful of vector operations, and because PyTorch's optimiser classes import its compiler on first use,
which costs each training process more than a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import Tensor

BLOCK = 1 << 16
"""Weights that a processor takes at a time, so that what one operation leaves is still in its cache for the next: half as fast again."""


class Optimiser(Protocol):
    """One step: change `weights` in place along `gradient`; `factor` scales the learning rate."""

    def step(self, weights: Tensor, gradient: Tensor, factor: float) -> None:
        """Take one step."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what the next step depends on."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from where `state` was taken."""
        ...


class Sgd:
    """Stochastic gradient descent with momentum and weight decay (PyTorch's `torch.optim.SGD`)."""

    def __init__(self, lr: float, momentum: float, weight_decay: float) -> None:
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.velocity: Tensor | None = None

    def step(self, weights: Tensor, gradient: Tensor, factor: float) -> None:
        """``v = momentum v + (g + wd w)``, ``w -= lr v``."""
        if self.weight_decay:
            gradient = gradient.add(weights, alpha=self.weight_decay)
        if self.momentum:
            self.velocity = gradient.clone() if self.velocity is None else self.velocity.mul_(self.momentum).add_(gradient)
            gradient = self.velocity
        weights.add_(gradient, alpha=-self.lr * factor)

    def state(self) -> dict[str, Tensor]:
        """Return the velocity, once there is one."""
        return {} if self.velocity is None else {"velocity": self.velocity}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take the velocity."""
        self.velocity = state.get("velocity")


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019; PyTorch's `torch.optim.AdamW`)."""

    def __init__(self, lr: float, beta_1: float, beta_2: float, eps: float, weight_decay: float) -> None:
        self.lr, self.beta_1, self.beta_2, self.eps, self.weight_decay = lr, beta_1, beta_2, eps, weight_decay
        self.count = 0
        self.first: Tensor | None = None
        self.second: Tensor | None = None

    def step(self, weights: Tensor, gradient: Tensor, factor: float) -> None:
        """Algorithm 2 of the paper with bias correction."""
        if self.first is None or self.second is None:
            self.first, self.second = torch.zeros_like(weights), torch.zeros_like(weights)
        self.count += 1
        lr = self.lr * factor
        block = BLOCK if weights.device.type == "cpu" else len(weights)
        vectors: tuple[Tensor, ...] = (weights, gradient, self.first, self.second)
        parts = (vector.split(block) for vector in vectors)
        for weight, slope, first, second in zip(*parts, strict=True):
            weight.mul_(1 - lr * self.weight_decay)
            first.lerp_(slope, 1 - self.beta_1)
            second.mul_(self.beta_2).addcmul_(slope, slope, value=1 - self.beta_2)
            denominator = second.sqrt().div_((1 - self.beta_2**self.count) ** 0.5).add_(self.eps)
            weight.addcdiv_(first, denominator, value=-lr / (1 - self.beta_1**self.count))

    def state(self) -> dict[str, Tensor]:
        """Return both moments and the number of steps, once there are any."""
        if self.first is None or self.second is None:
            return {}
        return {"first": self.first, "second": self.second, "count": torch.tensor(self.count)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take moments and number of steps."""
        self.first, self.second = state.get("first"), state.get("second")
        self.count = int(state["count"]) if "count" in state else 0


def sgd(
    *,
    lr: Annotated[float, Field(gt=0, le=100)] = 0.1,
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0,
) -> Sgd:
    """Build SGD. `lr` per step, `momentum` 0..1, `weight_decay` as an L2 term of the gradient."""
    return Sgd(lr, momentum, weight_decay)


def adamw(
    *,
    lr: Annotated[float, Field(gt=0, le=10)] = 1e-3,
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.999,
    eps: Annotated[float, Field(gt=0)] = 1e-8,
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01,
) -> AdamW:
    """Build AdamW. `lr` per step, decays of the moments, decoupled `weight_decay`."""
    return AdamW(lr, beta_1, beta_2, eps, weight_decay)


OPTIMISERS: dict[str, Callable[..., Optimiser]] = {"sgd": sgd, "adamw": adamw}
