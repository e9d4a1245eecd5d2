"""Slices as pictures: which ones a model of slices looked at, and how one looks with the outline of the lungs and with an explanation."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from client.cases.prepared import Prepared
from client.prediction import SeenSlice

LUNG_WINDOW_HU = (-1350.0, 150.0)
"""Level -600, width 1500: the usual lung window."""
PICTURES = 4
"""Slices shown a series: the most attended ones."""
MARGIN_MM = 12.0
SIDE_INCHES, DPI = 4.0, 110


def seen_slices(
    prepared: Prepared, numbers: Sequence[int], attention: Sequence[float] | None, heat: Mapping[int, np.ndarray] | None = None
) -> tuple[SeenSlice, ...]:
    """Return the slices from apex to base, the `PICTURES` most attended ones (without attention: the first of them) with their picture.

    Parameters
    ----------
    prepared : Prepared
        Image and lung mask on the grid that the model sees.
    numbers : sequence of int
        Indices from the feet; what comes twice is one slice with the sum of its attention.
    attention : sequence of float or None
        Weight of each number.
    heat : mapping of number to ndarray (y, x), optional
        What an explanation says of slices, 0..1: laid over a second picture of those that are shown.
    """
    weights: dict[int, float] = {}
    for place, number in enumerate(numbers):
        weights[int(number)] = weights.get(int(number), 0.0) + (attention[place] if attention is not None else 0.0)
    shown = sorted(weights, key=lambda number: (-weights[number], -number))[:PICTURES]
    mask = np.zeros(prepared.volume.hu.shape, np.uint8) if prepared.mask is None else prepared.mask
    planes = np.flatnonzero(mask.any((1, 2)))
    low, high = int(planes[0]), max(int(planes[-1]), int(planes[0]) + 1)
    total = len(mask)
    return tuple(
        SeenSlice(
            number=total - number,
            of=total,
            height_percent=round(100 * (number - low) / (high - low), 1),
            attention=None if attention is None else weights[number],
            picture=draw_slice(prepared, number) if number in shown else b"",
            overlay=draw_slice(prepared, number, heat[number]) if heat and number in shown and number in heat else b"",
        )
        for number in sorted(weights, reverse=True)
    )


def draw_slice(prepared: Prepared, number: int, heat: np.ndarray | None = None) -> bytes:
    """Return a slice as PNG in the lung window, cropped around the lungs, their outline drawn; the patient's right is on the left.

    An image that is no longer HU is shown from its lowest to its highest value. `heat` (y, x) in 0..1 is laid over it: the higher, the
    brighter and the less transparent; 0 is not seen.
    """
    from matplotlib.figure import Figure  # no pyplot: nothing global, and no window is ever opened

    image, mask = prepared.volume.hu[number], prepared.mask
    _, y_mm, x_mm = prepared.volume.spacing_mm
    box_y, box_x = slice(None), slice(None)
    if mask is not None and mask.any():
        box_y, box_x = _around(mask.any((0, 2)), MARGIN_MM / y_mm), _around(mask.any((0, 1)), MARGIN_MM / x_mm)
    view = image[box_y, box_x]
    low, high = LUNG_WINDOW_HU if prepared.is_hu else (float(view.min()), float(view.max()))
    shape_mm = (view.shape[0] * y_mm, view.shape[1] * x_mm)
    figure = Figure(figsize=(SIDE_INCHES, SIDE_INCHES * shape_mm[0] / shape_mm[1]), facecolor="black")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(view, cmap="gray", vmin=low, vmax=high, aspect="auto")
    if heat is not None:
        warm = np.clip(heat[box_y, box_x], 0, 1)
        axes.imshow(warm, cmap="inferno", vmin=0, vmax=1, alpha=0.7 * np.sqrt(warm), aspect="auto", interpolation="bilinear")
    if mask is not None and (mask[number][box_y, box_x] > 0).any():
        axes.contour(mask[number][box_y, box_x] > 0, levels=[0.5], colors="#35d0ba", linewidths=0.9)
    backing = {"facecolor": "black", "edgecolor": "none", "boxstyle": "square,pad=0.2"}
    for side, place in (("R", 0.03), ("L", 0.97)):
        axes.text(
            place, 0.5, side, transform=axes.transAxes, color="white", fontsize=11, ha="left" if side == "R" else "right", va="center", bbox=backing
        )
    axes.set_axis_off()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def _around(hits: Any, margin: float) -> slice:
    where = np.flatnonzero(hits)
    return slice(max(0, int(where[0]) - round(margin)), int(where[-1]) + 1 + round(margin))
