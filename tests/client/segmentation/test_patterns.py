"""A pattern map is what the network says inside the lung, on the study's own grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.segmentation.network import Normalisation, Weights
from client.segmentation.patterns import pattern_map
from shared_models.core.choices import Choice
from shared_models.core.errors import BadInput
from shared_models.taxonomy import PATTERN_CODES, PATTERNS


class ByDensity(nn.Module):
    """Calls dense voxels consolidation, grey ones ground glass, and the rest normal."""

    def forward(self, slices: Tensor) -> Tensor:
        logits = torch.full((len(slices), len(PATTERNS), *slices.shape[2:]), -9.0)
        logits[:, 0] = 0.0
        logits[:, PATTERN_CODES["ggo"]] = torch.where(slices[:, 0] > 0.3, 5.0, -5.0)
        logits[:, PATTERN_CODES["consolidation"]] = torch.where(slices[:, 0] > 0.8, 9.0, -9.0)
        return logits


WEIGHTS = Weights(ByDensity(), Normalisation(network=Choice(name="unet"), outputs=8, pixel_mm=2.0, window_hu=(-1000.0, 0.0)))


def study(spacing: float = 2.0) -> tuple[Prepared, np.ndarray]:
    n = round(96 / spacing)
    hu = np.full((20, n, n), -850, np.float32)
    mask = np.zeros(hu.shape, np.uint8)
    mask[:, n // 8 : -n // 8, n // 8 : n // 2], mask[:, n // 8 : -n // 8, n // 2 : -n // 8] = 1, 2
    hu[5:9, n // 4 : n // 2, n // 4 : n // 2] = -600
    hu[12:15, n // 4 : n // 2, n // 4 : n // 2] = -20
    hu[:, :4] = 40  # the chest wall is dense, and is no consolidation
    truth = np.where(mask > 0, np.where(hu > -100, PATTERN_CODES["consolidation"], np.where(hu > -650, PATTERN_CODES["ggo"], 0)), 0)
    return Prepared(Volume(hu, (5.0, spacing, spacing)), mask), truth.astype(np.uint8)


def test_each_voxel_has_the_most_probable_pattern() -> None:
    prepared, truth = study()
    found = pattern_map(prepared, WEIGHTS)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, truth)


def test_the_map_lies_on_the_grid_of_the_study() -> None:
    prepared, truth = study(spacing=1.0)
    found = pattern_map(prepared, WEIGHTS)
    assert found.shape == truth.shape and (found == truth).mean() > 0.98
    assert abs(int((found == 4).sum()) / int((truth == 4).sum()) - 1) < 0.1


def test_other_networks_and_images_are_refused() -> None:
    prepared, _ = study()
    with pytest.raises(BadInput, match="has 8 classes"):
        pattern_map(prepared, Weights(ByDensity(), WEIGHTS.normalisation.model_copy(update={"outputs": 2})))
    with pytest.raises(BadInput, match="Hounsfield"):
        pattern_map(replace(prepared, is_hu=False), WEIGHTS)
    with pytest.raises(BadInput, match="lung mask"):
        pattern_map(replace(prepared, mask=None), WEIGHTS)
