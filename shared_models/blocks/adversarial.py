"""Networks that play against one another: what the loop of `client/training/adversarial` asks of them, and what each of them loses."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class Game(nn.Module):
    """A network of several players, each a submodule with a name, an optimiser and a loss of its own.

    Parameters
    ----------
    players : tuple of str
        Submodules in the order of their steps. Every weight belongs to one of them.
    mapped : tuple of str
        Players who learn the targets of the records, class numbers on the grid of the inputs; the others learn labels. Where the records hold no
        targets these players rest.
    """

    players: tuple[str, ...] = ()
    mapped: tuple[str, ...] = ()

    def loss_of(self, player: str, records: Tensor, labels: Tensor, foreseen: Tensor | None = None) -> Tensor:
        """Return what `player` loses on each record, shape (n,); noise is drawn from torch's global generator, as dropout is.

        `labels` are class numbers (n,), or of players in `mapped` the targets of the records; `foreseen` is what `Game.foreseen` said of them.
        """
        raise NotImplementedError(f"what {player!r} loses is for each game to say")

    def foreseen(self, playing: Sequence[str], records: Tensor) -> Tensor | None:
        """Return what the players that rest say of each record, a map (n, ..., y, x), when `playing` read it and nothing of it will change.

        The loop asks once a round, moves the maps with their records and gives them to `loss_of` as ``foreseen``. None: nothing is known ahead.
        """
        return None


def taken_for(logits: Tensor, share: float) -> Tensor:
    """Return the cross-entropy of each judgement with the wish that it be called real with probability `share`.

    Parameters
    ----------
    logits : Tensor, shape (n, ...)
        Of being real; the mean over everything but n is taken.
    share : float
        1 real, 0 drawn; 0.9 for real ones keeps a discriminator from certainty (Salimans et al., NeurIPS 2016, section 3.4).

    Examples
    --------
    >>> import torch
    >>> taken_for(torch.zeros(2, 3, 3), 0.9)  # ln 2, whatever is wished
    tensor([0.6931, 0.6931])
    """
    return binary_cross_entropy_with_logits(logits, logits.new_full(logits.shape, share), reduction="none").flatten(1).mean(1)
