"""A mean teacher over slices: any of the segmentation networks as student, and its moving average, which also learns where nobody has drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.segmentation import SegmentationSpec, deep_overlap
from shared_models.blocks.spec import ModelSpec
from shared_models.core.choices import Choice, pick
from shared_models.networks.segmentation import hrnet, unet, unet_plus_plus

if TYPE_CHECKING:
    from torch import nn

HRNET = Choice(name="hrnet")
STUDENTS: dict[str, SegmentationSpec] = {"unet": unet.SPEC, "unet_plus_plus": unet_plus_plus.SPEC, "hrnet": hrnet.SPEC}


def mean_teacher(
    inputs: int,
    outputs: int,
    *,
    network: Choice = HRNET,
    weight: Annotated[float, Field(ge=0, le=1000)] = 0.1,
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99,
    ramp: Annotated[int, Field(ge=1, le=1_000_000)] = 1000,
    noise: Annotated[float, Field(ge=0, le=1)] = 0.03,
    shift: Annotated[float, Field(ge=0, le=1)] = 0.02,
) -> nn.Module:
    """Build student and teacher over slices (n, k, y, x) in 0..1; logits (n, outputs, k, y, x).

    What is released and predicts is the teacher. Its arrays travel beside the student's, so an update is twice as large as the student's alone.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    network : Choice
        The student: ``unet``, ``unet_plus_plus`` or ``hrnet`` with its knobs.
    weight : float
        Weight of consistency once it has risen; 0 leaves the student to its drawn slices.
    decay : float
        Share of the teacher that stays at each step.
    ramp : int
        Steps at a site over which the weight rises.
    noise, shift : float
        Most standard deviation of the noise, and most offset, under which student and teacher see a slice that nobody has drawn on; 1 is the window.

    Examples
    --------
    >>> import torch
    >>> mean_teacher(1, 2, network=Choice(name="hrnet", widths=(4, 8)))(torch.zeros(2, 3, 15, 10)).shape
    torch.Size([2, 2, 3, 15, 10])
    """
    from shared_models.blocks.mean_teacher import MeanTeacher
    from shared_models.blocks.slicewise import Slicewise

    student = Slicewise(pick(STUDENTS, network, kind="student", get=lambda spec: spec.build)(inputs, outputs))
    return MeanTeacher(student, weight=weight, decay=decay, ramp=ramp, noise=noise, shift=shift)


SPEC = ModelSpec(
    build=mean_teacher,
    takes="slices",
    fit="gradient",
    task="segmentation",
    objective=deep_overlap,
    source="Tarvainen & Valpola, Mean teachers are better role models, NeurIPS 2017; for patterns: Cai et al., ESSegILD, Bioengineering 10:830, 2023",
)
