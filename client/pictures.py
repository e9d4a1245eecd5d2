"""Slices as pictures: which ones a model of slices looked at, and how one looks with lungs outlined, an explanation or a pattern map laid over."""

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
STRIP_INCHES = 0.55
"""Height of the legend under a pattern map."""
LABEL_OPACITY = 0.55
BARS_MM = (100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0)
"""Lengths of the scale bar: the longest that takes at most a third of the width."""


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


def draw_slice(
    prepared: Prepared,
    number: int,
    heat: np.ndarray | None = None,
    *,
    labels: np.ndarray | None = None,
    legend: Mapping[int, tuple[str, str]] | None = None,
) -> bytes:
    """Return a slice as PNG in the lung window, cropped around the lungs, their outline drawn; the patient's right is on the left.

    An image that is no longer HU is shown from its lowest to its highest value. A bar tells the scale.

    Parameters
    ----------
    prepared : Prepared
        Image and lung mask.
    number : int
        Index from the feet.
    heat : ndarray (y, x), optional
        0..1, laid over the slice: the higher, the brighter and the less transparent; 0 is not seen.
    labels : ndarray of uint8 (y, x), optional
        Laid over the slice in the colours of `legend`, which stand with their titles under it; a code that is not in it is not seen.
    legend : mapping of int to (str, str), optional
        Code to title and colour.
    """
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure  # no pyplot: nothing global, and no window is ever opened

    image, mask = prepared.volume.hu[number], prepared.mask
    _, y_mm, x_mm = prepared.volume.spacing_mm
    box_y, box_x = slice(None), slice(None)
    if mask is not None and mask.any():
        box_y, box_x = _around(mask.any((0, 2)), MARGIN_MM / y_mm), _around(mask.any((0, 1)), MARGIN_MM / x_mm)
    view = image[box_y, box_x]
    low, high = LUNG_WINDOW_HU if prepared.is_hu else (float(view.min()), float(view.max()))
    shape_mm = (view.shape[0] * y_mm, view.shape[1] * x_mm)
    strip = 0.0 if labels is None else STRIP_INCHES
    height = SIDE_INCHES * shape_mm[0] / shape_mm[1]
    figure = Figure(figsize=(SIDE_INCHES, height + strip), facecolor="black")
    axes = figure.add_axes((0.0, strip / (height + strip), 1.0, height / (height + strip)))
    axes.imshow(view, cmap="gray", vmin=low, vmax=high, aspect="auto")
    if heat is not None:
        warm = np.clip(heat[box_y, box_x], 0, 1)
        axes.imshow(warm, cmap="inferno", vmin=0, vmax=1, alpha=0.7 * np.sqrt(warm), aspect="auto", interpolation="bilinear")
    if labels is not None:
        paint = np.zeros((*view.shape, 4))
        for code, (_, colour) in (legend or {}).items():
            paint[labels[box_y, box_x] == code] = (*to_rgba(colour)[:3], LABEL_OPACITY)
        axes.imshow(paint, aspect="auto", interpolation="nearest")
        _draw_legend(figure, list((legend or {}).values()), strip / (height + strip))
    if mask is not None and (mask[number][box_y, box_x] > 0).any():
        axes.contour(mask[number][box_y, box_x] > 0, levels=[0.5], colors="#35d0ba", linewidths=0.9)
    backing = {"facecolor": "black", "edgecolor": "none", "boxstyle": "square,pad=0.2"}
    for side, place in (("R", 0.03), ("L", 0.97)):
        axes.text(
            place, 0.5, side, transform=axes.transAxes, color="white", fontsize=11, ha="left" if side == "R" else "right", va="center", bbox=backing
        )
    bar_mm = max((mm for mm in BARS_MM if mm <= shape_mm[1] / 3), default=BARS_MM[-1])
    right, length = 0.965, bar_mm / shape_mm[1]
    for colour, width in (("black", 4.0), ("white", 1.6)):  # seen on lung and on bone
        axes.plot([right - length, right], [0.035, 0.035], transform=axes.transAxes, color=colour, linewidth=width, solid_capstyle="butt")
    words = {"facecolor": "black", "edgecolor": "none", "boxstyle": "square,pad=0.15"}
    axes.text(right - length / 2, 0.065, f"{bar_mm:g} mm", transform=axes.transAxes, color="white", fontsize=7, ha="center", va="bottom", bbox=words)
    axes.set_xlim(-0.5, view.shape[1] - 0.5)
    axes.set_ylim(view.shape[0] - 0.5, -0.5)
    axes.set_axis_off()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def _draw_legend(figure: Any, entries: Sequence[tuple[str, str]], height: float) -> None:
    from matplotlib.patches import Rectangle

    if not entries:
        figure.text(0.5, height / 2, "no pattern on this slice", color="white", fontsize=7, ha="center", va="center")
    rows = -(-len(entries) // 2)
    for place, (title, colour) in enumerate(entries):
        left, middle = 0.02 + 0.49 * (place % 2), height * (1 - (place // 2 + 0.5) / rows)
        figure.add_artist(Rectangle((left, middle - 0.012), 0.03, 0.024, facecolor=colour, edgecolor="none"))
        figure.text(left + 0.04, middle, title, color="white", fontsize=7, ha="left", va="center")


def _around(hits: Any, margin: float) -> slice:
    where = np.flatnonzero(hits)
    return slice(max(0, int(where[0]) - round(margin)), int(where[-1]) + 1 + round(margin))
