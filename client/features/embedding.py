"""What a frozen encoder makes of the lungs: a row of numbers, from which tables are learnt. The encoder of a CT foundation model is one.

The weights lie at the site, in the folder that FEDILD_WEIGHTS names: nothing of them travels, and every site must hold the same file.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from client.cases.prepared import Prepared
from client.features.encoders import (
    Encoder,
    EncoderWeights,
    Grid,
    Normalisation,
    Weights,
    choice_of,
    encoder_of,
    image_for,
    on_grid,
    representation_of,
    seen_by,
    width_of,
)
from client.features.roi import hu_of, side_mask
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice

SEGRESNET = Choice(name="segresnet")


def embedding_names(*, encoder: Encoder = SEGRESNET) -> tuple[str, ...]:
    """Return the columns of `embedding` in order.

    Examples
    --------
    >>> names = embedding_names()
    >>> len(names), names[0], names[-1]
    (512, 'embedding_000', 'embedding_511')
    """
    count = width_of(choice_of(encoder).model_dump_json())
    digits = max(3, len(str(count - 1)))
    return tuple(f"embedding_{number:0{digits}d}" for number in range(count))


def embedding(
    prepared: Prepared,
    *,
    encoder: Encoder = SEGRESNET,
    weights: Weights,
    normalisation: Normalisation | None = None,
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0,
    pooling: Literal["lung", "mean"] = "lung",
) -> dict[str, float]:
    """Return the embedding of a study.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).
    encoder : Choice or str
        ``segresnet``, with its knobs `width` and `blocks`, or a network of the catalogue over slices or volumes: its representation.
    weights : table or "random"
        `path`, `sha256`, `licence`, `normalisation` and, where names differ, `rename`, `skip`, `fresh`. ``random`` is an encoder that nobody
        trained, and is called so in the model's card.
    normalisation : table, optional
        Of random weights: `spacing_mm`, `axes` and `window_hu`, or the keys of ``[inputs]`` for a network of the catalogue. A file has its own.
    seed : int
        Of random weights.
    pooling : {"lung", "mean"}
        Of SegResNet's deepest map: the mean over the places that hold lung, each as much as it holds, or over all places of the lungs' box.

    Returns
    -------
    dict
        Keys of `embedding_names`; NaN where there is no lung.

    Raises
    ------
    BadInput
        No lung mask, or intensities that are no HU; E_WEIGHTS: no such file, or another hash.
    BadState
        E_WEIGHTS: arrays missing, left over or of another shape.
    BadChoice
        No normalisation, two of them, or one of another kind of encoder.
    """
    import torch

    from shared_models.blocks.segresnet import deepest_map

    choice = choice_of(encoder)
    seen = seen_by(choice, _normalisation(weights, normalisation))
    hu_of(prepared)
    names = embedding_names(encoder=choice)
    if not side_mask(prepared).any():
        return dict.fromkeys(names, math.nan)
    network: Any = _frozen(choice, weights, seed)
    with torch.inference_mode():
        if isinstance(seen, Grid):
            volume, mask = on_grid(prepared, seen)
            maps = deepest_map(network, torch.from_numpy(volume)[None, None])
            inside = torch.from_numpy(mask.astype(np.float32))[None, None]
            share = torch.nn.functional.interpolate(inside, size=list(maps.shape[2:]), mode="area")
            share = share if pooling == "lung" else torch.ones_like(share)
            row = (maps * share).sum((2, 3, 4)) / share.sum()
        else:
            from shared_models.representation import represent

            image = np.ascontiguousarray(image_for(prepared, choice, seen), np.float32)
            row = represent(network, representation_of(choice), torch.from_numpy(image)[None])
    return dict(zip(names, map(float, row[0].double().tolist()), strict=True))


def ready_embedding(
    *,
    encoder: Encoder = SEGRESNET,
    weights: Weights,
    normalisation: Normalisation | None = None,
    seed: int = 0,
    pooling: str = "lung",
) -> None:
    """Read the weights before the first study: what is wrong with them is said once, and by name.

    Raises
    ------
    BadInput, BadState, BadChoice
        As `embedding`.
    """
    del pooling
    seen_by(choice_of(encoder), _normalisation(weights, normalisation))
    _frozen(choice_of(encoder), weights, seed)


def _normalisation(weights: Weights, normalisation: Normalisation | None) -> Normalisation | None:
    if not isinstance(weights, EncoderWeights):
        return normalisation
    if normalisation is not None:
        raise BadChoice("weights of a file have a normalisation of their own", remedy="give it once: in weights")
    return weights.normalisation


def _frozen(choice: Choice, weights: Weights, seed: int) -> Any:
    return encoder_of(choice.model_dump_json(), weights.model_dump_json() if isinstance(weights, EncoderWeights) else weights, seed)
