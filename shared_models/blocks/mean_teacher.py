"""A student that learns from few drawn slices, and its slow mean, the teacher, whose word on all other slices it is to agree with."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from shared_models.blocks.segmentation import deep_overlap
from shared_models.patterns import UNLABELLED


class SelfTaught(nn.Module):
    """A network that says in training what it loses on each record, from records and targets alone, because its passes depend on the targets."""

    def losses(self, records: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each record, shape (n,)."""
        raise NotImplementedError("what is lost is for each network to say")


class MeanTeacher(SelfTaught):
    """Two networks over slices (n, k, y, x) in 0..1: the student trains, the teacher follows as its exponential moving average and is what predicts.

    The teacher's arrays are buffers of the state: sites average them like weights, so that the federation has one teacher and a site keeps none.

    Parameters
    ----------
    student : nn.Module
        From slices to logits (n, classes, k, y, x), or while it trains to those of several heads.
    weight : float
        Weight of consistency after the ramp.
    decay : float
        Share of the teacher that stays at each step; less in the first steps, as Tarvainen & Valpola's code has it.
    ramp : int
        Steps over which the weight rises, as ``exp(-5 (1 - t)^2)``; a site's, counted over all rounds.
    noise, shift : float
        Most standard deviation of white noise, and most offset, that a slice is changed by before student and teacher each look, in units of values.
    """

    progress: Tensor

    def __init__(self, student: nn.Module, *, weight: float, decay: float, ramp: int, noise: float, shift: float) -> None:
        super().__init__()
        self.student = student
        self.teacher = _of_buffers(copy.deepcopy(student), kept=True)
        self.before = _of_buffers(copy.deepcopy(student), kept=False)
        self.register_buffer("progress", torch.zeros(1))
        self.weight, self.decay, self.ramp, self.noise, self.shift = weight, decay, ramp, noise, shift

    def train(self, mode: bool = True) -> MeanTeacher:
        """Let the student train; a teacher always says what it means."""
        super().train(mode)
        self.teacher.eval()
        with torch.no_grad():
            for value in self.before.buffers():  # of another training, perhaps another run
                value.zero_()
        return self

    def forward(self, slices: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (n, classes, k, y, x): of the teacher, or in training of the student."""
        return self.student(slices) if self.training else self.teacher(slices)

    def losses(self, records: Tensor, targets: Tensor) -> Tensor:
        """Return ``overlap_loss + weight(t) MSE(softmax of the student, softmax of the teacher)`` of each record, shape (n,).

        The first term is of drawn pixels on drawn slices, which alone the student sees for it: without consistency the gradient is that of the
        student alone, to the bit. The second is of pixels whose target is 254. Student and teacher see a slice under noise and offsets of their
        own, the teacher in a mirror besides. Sources: Tarvainen & Valpola, NeurIPS 2017; ramp: Laine & Aila, ICLR 2017.

        Parameters
        ----------
        records : Tensor, shape (n, k, y, x)
        targets : Tensor of uint8, shape (n, k, y, x)
        """
        self.follow()
        drawn = (targets < UNLABELLED).flatten(2).any(2)
        lost = self._supervised(records, targets, drawn)
        weight = self.weight * math.exp(-5 * (1 - float(self.progress)) ** 2)
        open_ = targets == UNLABELLED
        return lost + weight * self._inconsistency(records, open_) if self.weight and bool(open_.any()) else lost

    @torch.no_grad()
    def follow(self) -> None:
        """Let the teacher take in the student as it is now, once for each step of the student: parts of a batch count as one."""
        own, seen = dict(self.student.named_parameters()), dict(self.before.named_buffers())
        if all(torch.equal(weights, seen[name]) for name, weights in own.items()):
            return
        stays = min(self.decay, 1 - 1 / (1 + float(self.progress) * self.ramp))
        taught = dict(self.teacher.named_buffers())
        for name, weights in own.items():
            taught[name].lerp_(weights, 1 - stays)
            seen[name].copy_(weights)
        self.progress.add_(1 / self.ramp).clamp_(max=1.0)

    def _supervised(self, records: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
        if not bool(drawn.any()):
            return records.new_zeros(len(records)) + 0 * next(self.student.parameters()).sum()
        output = self.student(records if bool(drawn.all()) else records[drawn][:, None])
        heads = tuple(_in_place(logits.float(), drawn) for logits in (output if isinstance(output, tuple) else (output,)))
        return deep_overlap(heads, records, targets)

    def _inconsistency(self, records: Tensor, open_: Tensor) -> Tensor:
        """Return the mean squared difference of probabilities over the open pixels of each record, shape (n,)."""
        shown = open_.flatten(2).any(2)
        slices, where = records[shown][:, None], open_[shown]
        with torch.no_grad():
            told = self.teacher(self._changed(slices).flip(-1)).flip(-1).float().softmax(1)
        output = self.student(self._changed(slices))
        said = (torch.stack(output).mean(0) if isinstance(output, tuple) else output).float().softmax(1)
        apart = ((said - told) ** 2).mean(1)[:, 0] * where
        record = torch.arange(len(records), device=records.device).repeat_interleave(shown.sum(1))
        summed = apart.new_zeros(len(records)).index_add(0, record, apart.flatten(1).sum(1))
        return summed / open_.flatten(1).sum(1).clamp(min=1)

    def _changed(self, slices: Tensor) -> Tensor:
        spread, offset = torch.rand(2, len(slices), 1, 1, 1, device=slices.device, dtype=slices.dtype)
        return slices + self.noise * spread * torch.randn_like(slices) + self.shift * (2 * offset - 1)


def _in_place(logits: Tensor, drawn: Tensor) -> Tensor:
    """Return logits (n, classes, k, y, x) of all slices from those of the drawn ones (m, classes, 1, y, x); 0 elsewhere."""
    if logits.shape[0] == len(drawn) and bool(drawn.all()):
        return logits
    whole = logits.new_zeros(*drawn.shape, logits.shape[1], *logits.shape[3:])
    return whole.masked_scatter(drawn[:, :, None, None, None].expand_as(whole), logits[:, :, 0]).transpose(1, 2)


def _of_buffers(network: nn.Module, *, kept: bool) -> nn.Module:
    """Turn a network's parameters into buffers, which no optimiser moves; in its state only where they are `kept`.

    Examples
    --------
    >>> sorted(_of_buffers(nn.Linear(2, 1), kept=True).state_dict()), list(_of_buffers(nn.Linear(2, 1), kept=False).state_dict())
    (['bias', 'weight'], [])
    """
    for module in list(network.modules()):
        for name, value in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, value.detach().clone(), persistent=kept)
    return network
