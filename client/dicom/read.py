"""From a series of slice files to a volume in Hounsfield units, each deviation from the ideal either repaired and named or refused by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from client.cases.finding import Finding
from client.cases.volume import Volume
from client.dicom import tags
from client.dicom.geometry import SAME_POSITION_MM, Stack, head_normal, to_volume
from client.dicom.pixels import read_hu
from client.dicom.scan import Series
from client.dicom.slices import Dismissed, SliceFile
from shared_models.core.errors import BadStudy

MAX_BAD_SHARE = 0.1
"""At most this share of a series may be damaged before the whole series is set aside."""


@dataclass(frozen=True)
class Reading:
    """A series as a volume: its findings so far, the slices that gave it, and the files that were left out with their reasons."""

    volume: Volume
    findings: tuple[Finding, ...]
    slices: tuple[SliceFile, ...]
    left_out: tuple[Dismissed, ...]


def read_series(series: Series) -> Reading:
    """Order the slices by position along their normal, decode them, and put them on one grid.

    Instance numbers and file names play no part. A slice that cannot be decoded, or that looks like neither neighbour, is left out and
    interpolated.

    Raises
    ------
    BadStudy
        With one of the reasons in `tags.SKIPPED` or `tags.QUARANTINED`.
    """
    findings: list[Finding] = []
    slices, left_out = _ordered(series, findings)
    hu, slices, bad = _decoded(slices)
    left_out += bad
    if len(bad) > max(1, MAX_BAD_SHARE * len(slices)):
        raise BadStudy("CORRUPT_SLICES", f"at most {MAX_BAD_SHARE:.0%} of the slices may be damaged", value=len(bad))
    if damaged := len(bad) + series.lost:  # files lost before they were decoded count only here: what they leave open is a gap or nothing
        text = f"{damaged} of {len(slices) + damaged} slices are damaged and were left out"
        findings.append(Finding("CORRUPT_SLICE", "warning", text))
    if len(slices) < tags.MIN_SLICES:
        raise BadStudy("TOO_FEW_SLICES", f"a series needs at least {tags.MIN_SLICES} slices", value=len(slices))
    first = slices[0]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    volume, made = to_volume(Stack(hu, np.array([s.position_mm for s in slices]), row, column, first.spacing_mm))
    findings += made
    if not all(s.rescale_given for s in slices):
        findings.append(Finding("RESCALE_MISSING", "warning", "slope, intercept or the type HU is missing; the stored values were taken as HU"))
    if any(s.lossy for s in slices):
        findings.append(Finding("LOSSY", "warning", "the pixels were compressed with loss; densities may be off by tens of HU"))
    return Reading(volume, tuple(findings), tuple(slices), tuple(left_out))


def heights_mm(slices: list[SliceFile]) -> NDArray[np.float64]:
    """Return the position of each slice along the common normal (toward the head), millimetres."""
    orientation = np.array(slices[0].orientation)
    return np.array([s.position_mm for s in slices]) @ head_normal(orientation[:3], orientation[3:])


def _ordered(series: Series, findings: list[Finding]) -> tuple[list[SliceFile], list[Dismissed]]:
    slices = list(series.slices)
    left_out: list[Dismissed] = []
    if _has_twins(slices):
        slices, twins = _without_equal_twins(slices)
        left_out += [Dismissed("DUPLICATE_FILE", (s.path,)) for s in twins]
        if twins:
            findings.append(Finding("DUPLICATE_SLICE", "info", f"{len(twins)} slices are there twice with equal pixels; one of each was taken"))
    if _has_twins(slices):
        counts = Counter(s.acquisition for s in slices)
        best = max(sorted(counts), key=lambda a: counts[a])
        kept = [s for s in slices if s.acquisition == best]
        if len(counts) < 2 or len(kept) < tags.MIN_SLICES or _has_twins(kept):
            raise BadStudy("DUPLICATE_POSITIONS", "each position must hold one image")
        others = tuple(s.path for s in slices if s.acquisition != best)
        left_out.append(Dismissed("OTHER_ACQUISITION", others))
        findings.append(Finding("OTHER_ACQUISITION", "warning", f"the series holds {len(counts)} acquisitions; the one with most slices was taken"))
        slices = kept
    order = np.argsort(heights_mm(slices), kind="stable")
    return [slices[i] for i in order], left_out


def _has_twins(slices: list[SliceFile]) -> bool:
    heights = np.sort(heights_mm(slices))
    return bool((np.diff(heights) < SAME_POSITION_MM).any())


def _without_equal_twins(slices: list[SliceFile]) -> tuple[list[SliceFile], list[SliceFile]]:
    kept: list[SliceFile] = []
    twins: list[SliceFile] = []
    at: dict[int, list[tuple[SliceFile, bytes | None]]] = {}
    for one, height in zip(slices, heights_mm(slices), strict=True):
        pixels = _hu_bytes(one)
        place = at.setdefault(round(height / SAME_POSITION_MM), [])
        if pixels is not None and any(pixels == other for _, other in place):
            twins.append(one)
        else:
            place.append((one, pixels))
            kept.append(one)
    return kept, twins


def _hu_bytes(one: SliceFile) -> bytes | None:
    out = np.empty((one.rows, one.columns), np.float32)
    try:
        read_hu(one, out)
    except BadStudy:
        return None
    return out.tobytes()


def _decoded(slices: list[SliceFile]) -> tuple[NDArray[np.float32], list[SliceFile], list[Dismissed]]:
    hu = np.empty((len(slices), slices[0].rows, slices[0].columns), np.float32)
    reasons: dict[int, str] = {}
    for k, one in enumerate(slices):
        try:
            read_hu(one, hu[k])
        except (BadStudy, OSError) as error:
            reasons[k] = getattr(error, "reason", "UNREADABLE")
    for k in strangers(hu, skip=set(reasons)):
        reasons[k] = "CORRUPT_SLICE"
    bad = [Dismissed(reason, (slices[k].path,)) for k, reason in sorted(reasons.items())]
    if not reasons:
        return hu, slices, bad
    keep = [k for k in range(len(slices)) if k not in reasons]
    return hu[keep], [slices[k] for k in keep], bad


def strangers(hu: NDArray[np.float32], *, skip: set[int] | None = None, least_hu: float = 200.0) -> list[int]:
    """Return the slices that look like neither neighbour while their neighbours look like each other.

    With d(a, b) the mean absolute difference over every fourth pixel, slice k is strange when min(d(k-1, k), d(k, k+1)) exceeds
    `least_hu` + 2 d(k-1, k+1). An end slice is strange when d to its neighbour exceeds 2 `least_hu` + 4 times the typical d.

    Examples
    --------
    >>> calm = np.zeros((5, 8, 8), np.float32)
    >>> calm[2] = 2000
    >>> strangers(calm)
    [2]
    """
    index = [k for k in range(len(hu)) if k not in (skip or set())]
    if len(index) < 5:
        return []
    small = hu[:, ::4, ::4]
    near = np.array([float(np.abs(small[b] - small[a]).mean()) for a, b in pairwise(index)])
    found = []
    for i in range(1, len(index) - 1):
        across = float(np.abs(small[index[i + 1]] - small[index[i - 1]]).mean()) if min(near[i - 1], near[i]) > least_hu else 0.0
        if min(near[i - 1], near[i]) > least_hu + 2 * across:
            found.append(index[i])
    typical = float(np.median(near))
    if near[0] > 2 * least_hu + 4 * typical and index[1] not in found:
        found.insert(0, index[0])
    if near[-1] > 2 * least_hu + 4 * typical and index[-2] not in found:
        found.append(index[-1])
    return found
