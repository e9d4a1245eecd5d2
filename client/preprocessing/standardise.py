"""Standardise intensities: the scan's own landmarks of the lung histogram go to those of the federation."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from client.cases.prepared import Prepared
from shared_models.core.errors import BadInput
from shared_models.harmonisation.landmarks import PERCENTILES


def standardise(
    prepared: Prepared, *, standard_hu: Annotated[tuple[float, ...], Field(min_length=len(PERCENTILES), max_length=len(PERCENTILES))]
) -> Prepared:
    """Return the image with the percentiles of its lung histogram mapped to `standard_hu`, linearly in between. `is_hu` falls.

    Beyond the outermost landmarks values are shifted with them, so soft tissue and air keep their contrast.

    Parameters
    ----------
    prepared : Prepared
        Image and lung mask, shape (z, y, x).
    standard_hu : tuple of float
        The federation's landmarks at `PERCENTILES`, rising: what `shared_models/harmonisation/landmarks` finds in the sum of the sites'
        histograms. They are part of the experiment, so every site approves the same ones.

    Raises
    ------
    BadInput
        Landmarks that do not rise, or no lung to take the scan's own from.

    References
    ----------
    Nyul, Udupa & Zhang, New variants of a method of MRI scale standardization, IEEE TMI 2000.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> hu = np.linspace(-900, -700, 101, dtype=np.float32).reshape(1, 1, 101)
    >>> study = Prepared(Volume(hu, (1, 1, 1)), np.ones(hu.shape, np.uint8))
    >>> higher = tuple(float(p) for p in np.percentile(hu, PERCENTILES) + 30)
    >>> step = standardise(study, standard_hu=higher)
    >>> round(float(step.volume.hu.mean())), step.is_hu
    (-770, False)
    """
    if any(b <= a for a, b in itertools.pairwise(standard_hu)):
        raise BadInput("the landmarks of standard_hu must rise", value=list(standard_hu))
    if prepared.mask is None or not prepared.mask.any():
        raise BadInput("standardise needs a lung mask that is not empty", remedy="segment first")
    hu = prepared.volume.hu
    own = np.percentile(hu[prepared.mask > 0], PERCENTILES).astype(np.float64)
    distinct = np.append(True, np.diff(own) > 1e-3)
    own, standard = own[distinct], np.array(standard_hu)[distinct]
    out = np.interp(hu, own, standard).astype(np.float32)
    out += np.minimum(hu - np.float32(own[0]), 0) + np.maximum(hu - np.float32(own[-1]), 0)
    return prepared.with_image(replace(prepared.volume, hu=out), is_hu=False)
