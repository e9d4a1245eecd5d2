"""The segmentation networks as models that an experiment can train (``data.target = "segmentation"``)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from shared_models.blocks.segmentation import SegmentationSpec, deep_overlap
from shared_models.blocks.spec import ModelSpec


def slicewise(spec: SegmentationSpec) -> ModelSpec:
    """Return a line of MODELS that trains the network of `spec`: its knobs, its source, and the loss of annotated pixels."""
    return ModelSpec(build=_of_slices(spec.build), takes="slices", fit="gradient", task="segmentation", objective=deep_overlap, source=spec.source)


def _of_slices(build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(build)
    def of_slices(inputs: int, outputs: int, **knobs: Any) -> Any:
        from shared_models.blocks.slicewise import Slicewise

        return Slicewise(build(inputs, outputs, **knobs))

    return of_slices
