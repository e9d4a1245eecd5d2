"""From positioned slices to one regular grid, voxel-exact where the slices already lie on one, named interpolation where they do not.

Frame of every volume: axis z grows toward the head, y toward the back, x toward the patient's left (LPS), whatever the order in which the
archive kept slices, rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.cases.finding import Finding
from client.cases.volume import Volume
from shared_models.core.errors import BadStudy

STEP_TOLERANCE = 0.05
"""A slice is on the grid when it lies within 5 % of a step of its place: positions are often written rounded to 0.1 mm."""
MAX_FILL_MM = 12.0
MAX_FILLED_SHARE = 0.1
MIN_TILT_DEGREES = 0.5
MAX_TILT_DEGREES = 36.0
SAME_POSITION_MM = 0.01


@dataclass(frozen=True)
class Stack:
    """Slices sorted from feet to head.

    `hu` has shape (slice, row, column); `positions_mm` (slice, 3) in LPS; `row` and `column` are the unit vectors along which the column
    index and the row index grow; `spacing_mm` is (row step, column step).
    """

    hu: NDArray[np.float32]
    positions_mm: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    spacing_mm: tuple[float, float]

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit normal of the slices, turned toward the head."""
        return head_normal(self.row, self.column)


def head_normal(row: NDArray[np.float64], column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unit normal of a slice, turned toward the head (+z in LPS).

    Examples
    --------
    >>> float(head_normal(np.array([1.0, 0, 0]), np.array([0, -1.0, 0]))[2])
    1.0
    """
    normal = np.cross(row, column)
    normal = normal / np.linalg.norm(normal)
    return normal if normal[2] >= 0 else -normal


def to_volume(stack: Stack) -> tuple[Volume, list[Finding]]:
    """Put a stack on a regular grid in the patient's frame.

    Gantry tilt is sheared away, missing or uneven slices are interpolated linearly along z, and each of these is a finding. Slices that already
    lie on a grid keep every voxel.

    Raises
    ------
    BadStudy
        ``GAP`` (more than 12 mm or 10 % would have to be invented) or ``UNEVEN_GEOMETRY``.
    """
    findings: list[Finding] = []
    stack, tilted = _sheared(stack)
    findings += tilted
    heights = stack.positions_mm @ stack.normal
    hu, step, made = _regular(stack.hu, heights)
    findings += made
    return _in_patient_frame(hu, step, stack), findings


def _sheared(stack: Stack) -> tuple[Stack, list[Finding]]:
    offsets = stack.positions_mm - stack.positions_mm[0]
    heights = offsets @ stack.normal
    # in pixels: how far each slice has moved inside its own plane
    y_shift, x_shift = offsets @ stack.column / stack.spacing_mm[0], offsets @ stack.row / stack.spacing_mm[1]
    if max(np.ptp(y_shift), np.ptp(x_shift)) < 0.5:
        return stack, []
    moved_mm = float(np.hypot(np.ptp(y_shift) * stack.spacing_mm[0], np.ptp(x_shift) * stack.spacing_mm[1]))
    degrees = float(np.degrees(np.arctan2(moved_mm, np.ptp(heights))))
    if degrees > MAX_TILT_DEGREES:
        raise BadStudy("UNEVEN_GEOMETRY", f"slices must stack within {MAX_TILT_DEGREES:g} degrees of their normal", value=round(degrees, 1))
    if degrees < MIN_TILT_DEGREES and moved_mm < 2 * max(stack.spacing_mm):
        return stack, []
    hu, first_y, first_x = shear(stack.hu, y_shift, x_shift)
    start = stack.positions_mm[0] + first_y * stack.spacing_mm[0] * stack.column + first_x * stack.spacing_mm[1] * stack.row
    positions = start + heights[:, None] * stack.normal
    text = f"slices lean {degrees:.1f} degrees against their stack; straightened by linear interpolation inside each slice"
    return Stack(hu, positions, stack.row, stack.column, stack.spacing_mm), [Finding("GANTRY_TILT", "warning", text)]


def shear(hu: NDArray[np.float32], y_shift: NDArray[np.float64], x_shift: NDArray[np.float64]) -> tuple[NDArray[np.float32], int, int]:
    """Move slice k by (y_shift[k], x_shift[k]) pixels into a common, larger frame; linear interpolation, air outside.

    Returns
    -------
    hu : ndarray, shape (slice, rows + reach, columns + reach)
    first_y, first_x : int
        Index of the new frame's first row and column in the frame of slice 0.

    Examples
    --------
    >>> moved, y, x = shear(np.zeros((2, 2, 2), np.float32), np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    >>> moved.shape, float(moved[1, 0, 0]), float(moved[1, 1, 0])
    ((2, 3, 2), -1024.0, 0.0)
    """
    first_y, first_x = int(np.floor(y_shift.min())), int(np.floor(x_shift.min()))
    rows = hu.shape[1] + int(np.ceil(y_shift.max())) - first_y
    columns = hu.shape[2] + int(np.ceil(x_shift.max())) - first_x
    out = np.full((len(hu), rows, columns), -1024.0, np.float32)
    for k in range(len(hu)):
        (y, fy), (x, fx) = _split_shift(y_shift[k] - first_y), _split_shift(x_shift[k] - first_x)
        one = np.pad(hu[k], ((1, 1), (1, 1)), constant_values=-1024.0)
        one = (1 - fy) * one[1:] + fy * one[:-1] if fy else one[1:]
        one = (1 - fx) * one[:, 1:] + fx * one[:, :-1] if fx else one[:, 1:]
        height, width = min(one.shape[0], rows - y), min(one.shape[1], columns - x)
        out[k, y : y + height, x : x + width] = one[:height, :width]
    return out, first_y, first_x


def _split_shift(shift: float) -> tuple[int, float]:
    whole = int(np.floor(shift + 1e-6))
    part = shift - whole
    return whole, part if part > 1e-3 else 0.0


def _regular(hu: NDArray[np.float32], heights: NDArray[np.float64]) -> tuple[NDArray[np.float32], float, list[Finding]]:
    steps = np.diff(heights)
    mean = float((heights[-1] - heights[0]) / (len(heights) - 1))
    if np.abs(heights - (heights[0] + mean * np.arange(len(heights)))).max() <= STEP_TOLERANCE * mean:
        return hu, mean, []
    step = float(np.median(steps))
    multiples = np.rint(steps / step)
    count = int(multiples.sum()) + 1
    is_missing = bool((multiples >= 1).all()) and bool((np.abs(steps - multiples * step) <= 2 * STEP_TOLERANCE * step).all())
    if is_missing:
        step = float((heights[-1] - heights[0]) / (count - 1))
    else:
        count = int(np.floor((heights[-1] - heights[0]) / step + 1e-6)) + 1
    widest = float(steps.max())
    invented = count - len(heights)
    if widest > 1.5 * step and (widest > MAX_FILL_MM or invented > MAX_FILLED_SHARE * count):
        rule = f"gaps must be at most {MAX_FILL_MM:g} mm and {MAX_FILLED_SHARE:.0%} of the slices"
        raise BadStudy("GAP", rule, value=f"{widest:.1f} mm, {max(invented, 0)} slices", remedy="send the whole series again")
    targets = heights[0] + step * np.arange(count)
    out = interpolate_slices(hu, heights, targets, exact_mm=2 * STEP_TOLERANCE * step)
    if is_missing:
        text = f"{invented} of {count} slices were missing and are interpolated from their neighbours"
        return out, step, [Finding("MISSING_SLICE", "warning", text)]
    text = f"slice steps vary from {steps.min():.2f} to {widest:.2f} mm; resampled to {step:.2f} mm"
    return out, step, [Finding("UNEVEN_STEPS", "warning", text)]


def interpolate_slices(
    hu: NDArray[np.float32], heights: NDArray[np.float64], targets: NDArray[np.float64], *, exact_mm: float
) -> NDArray[np.float32]:
    """Return slices at `targets` by linear interpolation along z; a slice within `exact_mm` of a target is taken as it is.

    Examples
    --------
    >>> two = np.stack([np.zeros((1, 1), np.float32), np.full((1, 1), 10, np.float32)])
    >>> interpolate_slices(two, np.array([0.0, 2.0]), np.array([0.0, 1.0, 2.0]), exact_mm=0.1).ravel().tolist()
    [0.0, 5.0, 10.0]
    """
    out = np.empty((len(targets), *hu.shape[1:]), np.float32)
    for k, height in enumerate(targets):
        nearest = int(np.abs(heights - height).argmin())
        if abs(heights[nearest] - height) <= exact_mm:
            out[k] = hu[nearest]
            continue
        above = int(np.clip(np.searchsorted(heights, height), 1, len(heights) - 1))
        weight = np.float32((height - heights[above - 1]) / (heights[above] - heights[above - 1]))
        out[k] = (1 - weight) * hu[above - 1] + weight * hu[above]
    return out


def _in_patient_frame(hu: NDArray[np.float32], step: float, stack: Stack) -> Volume:
    y_axis, x_axis, spacing = stack.column, stack.row, stack.spacing_mm
    origin = np.array(stack.positions_mm[0])
    if abs(x_axis[0]) < abs(y_axis[0]):  # rows run along the body's depth: turn the image
        hu, y_axis, x_axis, spacing = hu.transpose(0, 2, 1), x_axis, y_axis, (spacing[1], spacing[0])
    if y_axis[1] < 0:
        origin = origin + (hu.shape[1] - 1) * spacing[0] * y_axis
        hu, y_axis = hu[:, ::-1], -y_axis
    if x_axis[0] < 0:
        origin = origin + (hu.shape[2] - 1) * spacing[1] * x_axis
        hu, x_axis = hu[:, :, ::-1], -x_axis
    place = (float(origin[0]), float(origin[1]), float(origin[2]))
    return Volume(np.ascontiguousarray(hu), (step, spacing[0], spacing[1]), place, np.stack([stack.normal, y_axis, x_axis]) + 0.0)
