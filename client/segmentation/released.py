"""A release that labels pixels becomes a site's segmenter: its network, with the grid and window that it was trained on, as one weights file."""

from __future__ import annotations

from pathlib import Path

from client.segmentation.network import Normalisation, load_weights, save_weights
from shared_models.bundle import Bundle
from shared_models.core.errors import BadBundle
from shared_models.phases import trained

PREFIX = "network."
"""Of the arrays of a network inside the model that labels each slice alone."""


def save_segmenter(bundle: Bundle, path: Path) -> str:
    """Write the network of a release as a weights file for the segmenter `network`, and return the SHA-256 that the preparation must name.

    Parameters
    ----------
    bundle : Bundle
        A release with ``data.annotation = "lung"``: trained on whole slices, so that it needs no mask to begin with.
    path : Path
        Target, a safetensors file.

    Raises
    ------
    BadBundle
        The release labels no pixels, or was trained on slices that were cut around the lungs.
    """
    experiment = bundle.experiment
    if experiment.data.target != "segmentation" or experiment.inputs.pixel_mm is None or experiment.inputs.mask_outside:
        raise BadBundle(
            "a segmenter is a release that labels the pixels of whole slices",
            value=experiment.name,
            remedy='train one with data.target = "segmentation", annotation = "lung" and inputs.pixel_mm',
        )
    normalisation = Normalisation(
        network=experiment.model, outputs=experiment.data.outputs, pixel_mm=experiment.inputs.pixel_mm, window_hu=experiment.inputs.window_hu
    )
    state = {key.removeprefix(PREFIX): value for key, value in trained(bundle.state).items()}
    digest = save_weights(path, state, normalisation)
    load_weights(path, digest)  # what cannot be read back is no segmenter
    return digest


def line_of(path: Path, digest: str) -> str:
    """Return the line of ``[preparation]`` that uses a weights file.

    Examples
    --------
    >>> line_of(Path("lung.safetensors"), "0" * 64)[:63]
    'segmenter = { name = "network", weights = "lung.safetensors", s'
    """
    return f'segmenter = {{ name = "network", weights = "{path}", sha256 = "{digest}" }}'
