"""From a folder to series: list its files, group the slices that belong together, name what is turned away."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.cases.identity import canonical_id
from client.dicom import tags
from client.dicom.slices import Dismissed, SliceFile


@dataclass(frozen=True, slots=True)
class Series:
    """Slices of one series on one grid, not yet ordered.

    `part` tells apart several grids under one Series Instance UID; `lost` counts files of the series whose header or pixels are damaged.
    """

    slices: tuple[SliceFile, ...]
    part: str = ""
    lost: int = 0

    @property
    def series_uid(self) -> str:
        """Series Instance UID as found."""
        return self.slices[0].series_uid


def list_files(folder: Path, *, leave_out: Path | None = None) -> list[str]:
    """Return every path under `folder` in sorted order, links included, without what lies under `leave_out`."""
    avoid = os.path.realpath(leave_out) if leave_out else None
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if os.path.realpath(f"{root}{os.sep}{name}") != avoid)
        found += [f"{root}{os.sep}{name}" for name in names]
    return sorted(found)


def group(headers: Iterable[SliceFile | Dismissed]) -> tuple[list[Series], list[Dismissed]]:
    """Group slices into series of one grid; return them and everything that was turned away, each in a stable order.

    A series is what shares a Series Instance UID; where its slices differ in size, spacing or orientation, the largest group is the series and
    the others are named `OTHER_GRID`. A file that repeats an image already there is `DUPLICATE_FILE`.
    """
    by_series: dict[str, list[SliceFile]] = defaultdict(list)
    dismissed: list[Dismissed] = []
    together: dict[tuple[str, str], list[str]] = defaultdict(list)
    for header in headers:
        if isinstance(header, Dismissed) and header.series_uid:  # one line of the report for a series of localizers, not one a file
            together[header.series_uid, header.reason].append(header.paths[0])
        elif isinstance(header, Dismissed):
            dismissed.append(header)
        else:  # without a series UID, what lies in one folder is one series
            by_series[header.series_uid or str(Path(header.path).parent)].append(header)
    dismissed += [Dismissed(reason, tuple(sorted(paths)), uid) for (uid, reason), paths in sorted(together.items())]
    series: list[Series] = []
    for uid, slices in sorted(by_series.items()):
        lost = sum(len(d.paths) for d in dismissed if d.series_uid == uid and not d.is_skipped)
        for outcome in _split(uid, slices, lost):
            if isinstance(outcome, Series):
                series.append(outcome)
            else:
                dismissed.append(outcome)
    return series, dismissed


def _split(uid: str, slices: list[SliceFile], lost: int) -> Iterator[Series | Dismissed]:
    slices = sorted(slices, key=lambda s: s.path)
    unique: dict[str, SliceFile] = {}
    equal: dict[tuple[str, str], bool] = {}
    repeated: set[str] = set()
    for one in slices:
        twin = unique.setdefault(one.image_uid or one.path, one)
        if twin is not one:
            pair = twin.path, one.path
            if pair not in equal:  # once a file, not once a frame
                equal[pair] = twin.position_mm == one.position_mm and _same_bytes(*pair)
            if equal[pair]:
                repeated.add(one.path)
            else:  # two images under one UID: keep both, geometry decides
                unique[f"{one.path} {one.frame}"] = one
    for path in sorted(repeated):
        yield Dismissed("DUPLICATE_FILE", (path,))
    if len({canonical_id(s.patient_id) for s in unique.values()}) > 1:
        yield Dismissed("TWO_PATIENTS", tuple(dict.fromkeys(s.path for s in unique.values())), uid)
        return
    grids: dict[tuple[Any, ...], list[SliceFile]] = defaultdict(list)
    for one in unique.values():
        direction = tuple(round(v, 2) + 0.0 for v in one.orientation)
        grids[(one.rows, one.columns, direction, tuple(round(v, 3) for v in one.spacing_mm))].append(one)
    ranked = sorted(grids.values(), key=lambda g: (-len(g), g[0].path))
    for rank, members in enumerate(ranked):
        paths = tuple(dict.fromkeys(s.path for s in members))
        if not _is_axial(members[0].orientation):
            yield Dismissed("NOT_AXIAL", paths, uid)
        elif rank and len(members) < tags.MIN_SLICES:
            yield Dismissed("OTHER_GRID", paths, uid)
        elif len(members) < tags.MIN_SLICES:
            yield Dismissed("TOO_FEW_SLICES", paths, uid)
        elif len(members) > tags.MAX_SLICES:
            yield Dismissed("TOO_MANY_SLICES", paths, uid)
        elif len(members) * members[0].rows * members[0].columns > tags.MAX_VOXELS:
            yield Dismissed("TOO_LARGE", paths, uid)
        else:
            yield Series(tuple(members), part=str(rank) if rank else "", lost=0 if rank else lost)


def _is_axial(orientation: tuple[float, ...]) -> bool:
    # the slice normal's component along the body; 0.8 admits a gantry tilt of up to 36 degrees
    r, c = orientation[:3], orientation[3:]
    return abs(r[0] * c[1] - r[1] * c[0]) >= 0.8


def _same_bytes(a: str, b: str) -> bool:
    return Path(a).read_bytes() == Path(b).read_bytes()
