"""Grad-CAM: which places of the last feature map raise the score of a class."""

from __future__ import annotations

import numpy as np

from shared_models.core.errors import BadInput
from shared_models.explanations.subject import ExplanationSpec, Subject, score_of


def grad_cam(subject: Subject, label: int, *, per_pixel: bool = False) -> np.ndarray:
    """Weigh the channels of the last feature map by the mean of their gradients, sum them and keep what is positive.

    The map is enlarged linearly to the record's size and keeps its scale: slices of one bag can be compared with one another.

    Parameters
    ----------
    subject : Subject
        A record and its network, whose `feature_map` gives (n, channels, ...).
    label : int
        Class whose score is explained.
    per_pixel : bool
        Weigh each place by its own gradient (HiResCAM): for a network that reads its map by more than its mean.

    Returns
    -------
    ndarray of float64
        Not negative, shape `subject.shape`.

    Raises
    ------
    BadInput
        The network names no feature map, or what it names gives none.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2; per pixel: Draelos & Carin, HiResCAM, arXiv 2011.08891.
    """
    import torch
    from torch.nn.functional import interpolate

    network = subject.own_network()
    if subject.feature_map is None:
        raise BadInput("Grad-CAM needs a network that names its last feature map", remedy="choose occlusion or integrated_gradients")
    held: list[torch.Tensor] = []

    def hold(module: torch.nn.Module, given: object, out: torch.Tensor) -> None:
        held.append(out)

    handle = network.get_submodule(subject.feature_map).register_forward_hook(hold)
    try:
        with torch.enable_grad():
            image = torch.from_numpy(np.ascontiguousarray(subject.record[None], np.float32)).requires_grad_()
            score = score_of(network(image), label, each=subject.each)[0]
            if not held or not isinstance(held[-1], torch.Tensor) or held[-1].dim() < 4:
                raise BadInput("the module that a network names must give maps (n, channels, ...)", value=subject.feature_map)
            (gradient,) = torch.autograd.grad(score, held[-1])
    finally:
        handle.remove()
    maps, places = held[-1].detach(), tuple(range(2, held[-1].dim()))
    weights = gradient if per_pixel else gradient.mean(places, keepdim=True)
    heat = torch.relu((weights * maps).sum(1, keepdim=True))
    size = subject.shape[-len(places) :]
    heat = interpolate(heat, size=size, mode={1: "linear", 2: "bilinear", 3: "trilinear"}[len(places)], align_corners=False)
    return np.array(
        np.broadcast_to(heat.double().numpy().reshape(-1, *size) if subject.takes == "slices" else heat[0, 0].double().numpy(), subject.shape)
    )


SPEC = ExplanationSpec(
    grad_cam,
    frozenset({"slices", "volume", "patch"}),
    lambda subject: subject.network is not None and subject.feature_map is not None,
    source="Selvaraju et al., Grad-CAM: Visual explanations from deep networks, ICCV 2017",
)
