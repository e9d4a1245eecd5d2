"""Find the lungs on whole slices, cut them out, tell the class from what is inside: a segmenter and a classifier in one network, taught in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, cross_entropy, grid_sample

from shared_models.blocks.adversarial import Game
from shared_models.blocks.encoders import refuse_small
from shared_models.blocks.pix2pix import PatchDiscriminator, discriminator_loss, generator_loss
from shared_models.blocks.segmentation import deep_overlap
from shared_models.blocks.unet import NestedUNet, UNet

LEAST_PX = 16
LUNG = 1
"""Class of the lung, as ``data.annotation = "lung"`` counts."""
AT_ONCE = 8
"""Records whose lungs are found in one pass."""
STRAY = 0.05
"""Rows and columns with less lung than this share of the fullest one are cut off: strays must not widen the box."""


class LungPipeline(Game):
    """Players: a segmenter, who learns the lung masks of the records, and a classifier of bags, who sees the slices that the segmenter leaves.

    Train them in ``[[stages]]``: first the segmenter, then ``train_only = ["classifier.*"]``.

    Parameters
    ----------
    segmenter : nn.Module
        Slices (n, 1, y, x) in 0..1 to logits (n, 2, y, x).
    classifier : nn.Module
        Bags (n, k, size, size) in 0..1 to logits (n, outputs).
    size : int
        Pixels of the classifier's slices.
    window : tuple of float
        Part of the records' values that the classifier sees as 0..1.
    margin : int
        Pixels of a record kept around the lungs.
    cut : bool
        Whether the lungs are cut out at all; without, the classifier sees whole slices.
    """

    players = ("segmenter", "classifier")
    mapped = ("segmenter",)

    def __init__(
        self, segmenter: nn.Module, classifier: nn.Module, *, size: int, window: tuple[float, float], margin: int = 2, cut: bool = True
    ) -> None:
        super().__init__()
        self.segmenter, self.classifier = segmenter, classifier
        self.size, self.window, self.margin, self.cut = size, window, margin, cut

    def lungs(self, bags: Tensor) -> Tensor:
        """Return the probability of lung in each pixel of bags (n, k, y, x)."""
        return self.segmenter(bags.flatten(0, 1).unsqueeze(1)).float().softmax(1)[:, LUNG].unflatten(0, (-1, bags.shape[1]))

    def found(self, bags: Tensor) -> Tensor:
        """Return where the lungs of bags are, as they will be found when the model is used: bool, shape of `bags` (n, k, y, x)."""
        if not self.cut:
            return torch.ones_like(bags, dtype=torch.bool)
        learns = self.segmenter.training
        self.segmenter.eval()
        with torch.no_grad():
            lung = self.lungs(bags) > 0.5
        self.segmenter.train(learns)
        return lung

    def foreseen(self, playing: Sequence[str], records: Tensor) -> Tensor | None:
        """Return the lungs of records (n, k, y, x) where the classifier alone learns: found once a round instead of at every step."""
        if tuple(playing) != ("classifier",):
            return None
        return torch.cat([self.found(part) for part in records.split(AT_ONCE)])

    def inside(self, bags: Tensor, lung: Tensor | None = None) -> Tensor:
        """Return what the classifier sees of bags (n, k, y, x): lung, in its window, in the box around all slices' lungs, (n, k, size, size)."""
        lung = self.found(bags) if lung is None else lung
        low, high = self.window
        return cut_out(((bags - low) / (high - low)).clamp(0, 1) * lung, lung, self.size, self.margin if self.cut else 0)

    def forward(self, bags: Tensor, lung: Tensor | None = None) -> Tensor:
        """Return logits (n, outputs) of bags (n, k, y, x) in 0..1; `lung` where it is known already."""
        refuse_small(bags, LEAST_PX, "a network that finds the lungs first")
        return self.classifier(self.inside(bags, lung))

    def loss_of(self, player: str, records: Tensor, labels: Tensor, foreseen: Tensor | None = None) -> Tensor:
        """Return the segmenter's `overlap_loss` with the lung masks (over all heads of a U-Net++), or the classifier's cross-entropy, shape (n,)."""
        if player == "classifier":
            return cross_entropy(self(records, foreseen).float(), labels, reduction="none")
        slices = records.flatten(0, 1).unsqueeze(1)
        output = tuple(self.segmenter.look(slices)) if isinstance(self.segmenter, NestedUNet) else self.segmenter(slices)
        heads = output if isinstance(output, tuple) else (output,)
        lost = deep_overlap(tuple(head.float() for head in heads), slices, labels.flatten(0, 1))
        return lost.unflatten(0, records.shape[:2]).mean(1)


class AdversarialLungPipeline(LungPipeline):
    """The same with a conditional GAN as segmenter: its generator draws the mask, a discriminator of patches tells drawn from true ones.

    Parameters
    ----------
    widths : tuple of int
        Channels of the discriminator.
    likeness, fooling : float
        As of `generator_loss`.
    loss : callable
        ``loss(logits, labels) -> (n,)`` of the classifier.
    segmenter, classifier, size, window, margin, cut
        As of `LungPipeline`.
    """

    players = ("discriminator", "segmenter", "classifier")
    mapped = ("discriminator", "segmenter")

    def __init__(
        self,
        segmenter: UNet,
        classifier: nn.Module,
        *,
        widths: tuple[int, ...],
        likeness: float,
        fooling: float,
        loss: Callable[[Tensor, Tensor], Tensor],
        size: int,
        window: tuple[float, float],
        cut: bool = True,
    ) -> None:
        super().__init__(segmenter, classifier, size=size, window=window, cut=cut)
        self.discriminator = PatchDiscriminator(1, 2, widths)
        self.likeness, self.fooling, self.loss = likeness, fooling, loss

    def loss_of(self, player: str, records: Tensor, labels: Tensor, foreseen: Tensor | None = None) -> Tensor:
        """Return what a player loses on each bag: `discriminator_loss`, `generator_loss`, or the classifier's, shape (n,)."""
        if player == "classifier":
            return self.loss(self(records, foreseen).float(), labels)
        slices, masks = records.flatten(0, 1).unsqueeze(1), labels.flatten(0, 1)
        if player == "discriminator":
            lost = discriminator_loss(self.segmenter, self.discriminator, slices, masks)
        else:
            lost = generator_loss(self.segmenter, self.discriminator, slices, masks, likeness=self.likeness, fooling=self.fooling)
        return lost.unflatten(0, records.shape[:2]).mean(1)


def cut_out(bags: Tensor, lung: Tensor, size: int, margin: int) -> Tensor:
    """Return the square box around the lungs of each bag at `size` x `size` pixels; the whole of it where there is no lung.

    Parameters
    ----------
    bags : Tensor, shape (n, k, y, x)
    lung : Tensor of bool, shape (n, k, y, x)
    size, margin : int
        Pixels: of the result, and of the bag around the box.

    Examples
    --------
    >>> bag = torch.zeros(1, 1, 8, 8)
    >>> bag[..., 2:6, 3:7] = 1.0
    >>> cut_out(bag, bag > 0, 4, 0)[0, 0, 1:3].double().round(decimals=2).tolist()
    [[0.88, 1.0, 1.0, 0.88], [0.88, 1.0, 1.0, 0.88]]
    """
    rows, columns = bags.shape[2:]
    seen = lung.any(1)
    (top, bottom), (left, right) = _ends(seen.sum(2)), _ends(seen.sum(1))
    side = torch.maximum(bottom - top, right - left) + 2 * margin
    y, x = (top + bottom) / 2, (left + right) / 2
    scale = side.new_zeros(len(bags), 2, 3)
    scale[:, 0, 0], scale[:, 1, 1] = side / columns, side / rows
    scale[:, 0, 2], scale[:, 1, 2] = 2 * x / columns - 1, 2 * y / rows - 1
    fine = 2 * size if max(rows, columns) > size else size  # twice as fine and then averaged, where pixels are lost
    grid = affine_grid(scale.to(bags.dtype), [len(bags), bags.shape[1], fine, fine], align_corners=False)
    found = grid_sample(bags, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return avg_pool2d(found, 2) if fine > size else found


def _ends(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return where what is full begins and ends along the last axis of counts (n, length), in pixels; the whole axis where all is empty."""
    full = counts > STRAY * counts.amax(1, keepdim=True)
    full |= ~full.any(1, keepdim=True)
    length = counts.shape[1]
    first = full.int().argmax(1)
    last = length - full.flip(1).int().argmax(1)
    return first.float(), last.float()
