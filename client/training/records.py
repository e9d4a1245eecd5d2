"""What a model sees: patients turned into arrays. One patient is one record, or one a visit; all records of a patient carry one name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from client.cases.cache import Stored, load
from client.cases.cohort import Case, Visit
from client.cases.prepared import Prepared
from client.cases.reported import reported
from client.cases.survival import diagnosis_numbers, followed
from client.preprocessing.resample import resample_axis
from shared_models.blocks.spec import ModelSpec
from shared_models.catalogue import spec_of
from shared_models.core.arrays import HU, Mask
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment, Inputs
from shared_models.survival.life_table import LifeTable


@dataclass(frozen=True)
class Records:
    """Arrays of a cohort, ready for a model.

    Parameters
    ----------
    inputs : ndarray
        (n, k, y, x) slices, (n, 1, z, y, x) volumes, (n, 1, y, x) patches or (n, columns) of a table.
    labels : ndarray of int64, shape (n,)
        Class numbers.
    names : tuple of str
        Pseudonyms, in the same order.
    identified : bool
        False where nobody knows which records are of one patient: the names then count records.
    times : ndarray of float64, shape (n,), optional
        Of survival: time from the record's visit to the event (label 1) or to the day last seen (label 0).
    strata : ndarray of int64, shape (n,), optional
        Number of the site of each record, where records of several sites were put together.
    targets : ndarray, shape (n, ...), optional
        What an objective learns: of segmentation uint8 class numbers on the grid of the inputs, 255 = not annotated; of findings float32 (n, k),
        1 present, 0 absent, NaN not known.
    federation : LifeTable, optional
        Of survival: the life table of all training sites, where they have summed one.
    """

    inputs: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    identified: bool = True
    times: np.ndarray | None = None
    strata: np.ndarray | None = None
    targets: np.ndarray | None = None
    federation: LifeTable | None = None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, chosen: Sequence[int] | np.ndarray) -> Records:
        """Return the records with the given numbers."""
        chosen = np.asarray(chosen, int)
        times, strata, targets = (None if part is None else part[chosen] for part in (self.times, self.strata, self.targets))
        names = tuple(self.names[i] for i in chosen)
        return Records(self.inputs[chosen], self.labels[chosen], names, self.identified, times, strata, targets, self.federation)

    @property
    def outcome(self) -> np.ndarray:
        """What a model without gradients learns: class numbers (n,), or of survival time, event and stratum (n, 3) in float64.

        Who left by another cause than the event was last seen then.
        """
        if self.times is None:
            return self.labels
        course = self.course
        course[:, 1] = course[:, 1] == 1
        return course

    @property
    def course(self) -> np.ndarray:
        """What a statistic reads: as `outcome`, of survival with the number of the cause (0 for last seen) in place of the event."""
        if self.times is None:
            return self.labels
        strata = np.zeros(len(self)) if self.strata is None else self.strata
        return np.column_stack([self.times, self.labels, strata]).astype(np.float64)

    @property
    def owners(self) -> np.ndarray:
        """Number of the patient of each record, in the order of their names, shape (n,)."""
        return np.unique(self.names, return_inverse=True)[1] if self.names else np.zeros(0, np.int64)

    @property
    def patients(self) -> int:
        """Number of patients: of records, where nobody knows better."""
        return len(set(self.names))

    def first_of_each(self) -> Records:
        """Return the first record of every patient."""
        seen: dict[str, int] = {}
        for number, name in enumerate(self.names):
            seen.setdefault(name, number)
        return self.take(list(seen.values()))

    @staticmethod
    def join(parts: Sequence[Records]) -> Records:
        """Put the records of several sites together, each a stratum: for the pooled baseline of a simulation."""
        names = tuple(n for p in parts for n in p.names)
        identified = all(p.identified for p in parts)
        times, targets = _joined([p.times for p in parts]), _joined([p.targets for p in parts])
        strata = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        inputs, labels = np.concatenate([p.inputs for p in parts]), np.concatenate([p.labels for p in parts])
        return Records(inputs, labels, names, identified, times, strata, targets, parts[0].federation)


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known and len(known) == len(parts) else None


See = Callable[[Prepared], "np.ndarray | Prepared"]
"""What is made of a prepared study before a model sees it: another study, or a row of numbers that is seen in its place."""


def records_of(cases: Sequence[Case], experiment: Experiment, workspace: Path, *, see: See | None = None) -> Records:
    """Turn labelled cases into records for the experiment's model: the first visit of each patient, or all (``[inputs] visits``).

    `workspace` is the site's: prepared studies are read from its cache. `see` changes each of them first.

    Raises
    ------
    BadCohort
        A case without a label, or a model that needs what the cohort does not hold.
    """
    spec = spec_of(experiment.model)
    classes = experiment.data.classes
    for case in cases:
        if case.label not in classes:
            raise BadCohort("every training case has one of the experiment's classes", value=case.label)
    visits = [case.visits if experiment.inputs.visits == "all" else case.visits[:1] for case in cases]
    times = None
    if experiment.data.target == "survival":
        visits, labels, times = followed(cases, visits, experiment.data)
    else:
        labels = np.array([classes.index(str(case.label)) for case, seen in zip(cases, visits, strict=True) for _ in seen], np.int64)
    inputs = [_input_of(visit, spec, experiment, workspace, see) for seen in visits for visit in seen]
    stacked = np.stack(inputs) if inputs else np.zeros((0, max(1, len(experiment.inputs.columns))))
    names = tuple(case.pseudonym for case, seen in zip(cases, visits, strict=True) for _ in seen)
    targets = diagnosis_numbers([case.diagnosis for case, seen in zip(cases, visits, strict=True) for _ in seen], experiment.data)
    if experiment.data.target == "findings":
        targets = reported([visit for seen in visits for visit in seen], classes)
    return Records(stacked, labels, names, times=times, targets=targets)


def _input_of(visit: Visit, spec: ModelSpec, experiment: Experiment, workspace: Path, see: See | None) -> np.ndarray:
    if spec.takes == "table":
        return table_row(visit, experiment.inputs.columns, gaps=reads_gaps(experiment))
    stored = load(workspace / visit.prepared)
    refuse_gaps(stored, spec)
    seen = stored.prepared if see is None else see(stored.prepared)
    return seen if isinstance(seen, np.ndarray) else image_of(seen, spec, experiment.inputs)


def refuse_gaps(stored: Stored, spec: ModelSpec) -> None:
    """Refuse sequential HRCT (thin slices with unseen lung between them) to a model of volumes; models of slices take it.

    Raises
    ------
    BadCohort
        The series has gaps and the model sees volumes.
    """
    if spec.takes == "volume" and any(finding.get("code") == "GAPPED" for finding in stored.note.get("findings", ())):
        rule = "a model of volumes needs slices without gaps between them"
        raise BadCohort(rule, value="GAPPED", remedy="choose a model of slices, or take the series out of the inbox and prepare again")


def image_of(prepared: Prepared, spec: ModelSpec, inputs: Inputs) -> np.ndarray:
    """Return what an image model sees of a prepared study.

    Raises
    ------
    BadCohort
        The model takes patches, which whole studies are not, or the study has no lung mask.
    """
    if prepared.mask is None:
        raise BadCohort("an image model needs a lung mask", remedy="name a segmenter in [preparation]")
    if spec.takes == "slices":
        return slices_of(prepared, inputs)
    if spec.takes == "volume":
        return volume_of(prepared, inputs)
    raise BadCohort(f"a model that takes a {spec.takes} cannot read studies", remedy="choose a model that takes slices, a volume or a table")


def reads_gaps(experiment: Experiment) -> bool:
    """Say whether missing values stay missing in the experiment's table.

    Raises
    ------
    BadCohort
        They should, and the model cannot read them.
    """
    if experiment.inputs.missing != "mask":
        return False
    if not spec_of(experiment.model).takes_missing:
        raise BadCohort("missing = 'mask' needs a model that reads what is missing", value=experiment.model.name, remedy="choose 'multimodal'")
    return True


def table_row(visit: Visit, columns: Sequence[str], *, gaps: bool = False) -> np.ndarray:
    """Return the named features and clinical variables of a visit, shape (columns,) in float64.

    Parameters
    ----------
    visit : Visit
        Of a patient.
    columns : sequence of str
        Which.
    gaps : bool
        Leave NaN where a value is missing.

    Raises
    ------
    BadCohort
        A column that is neither a feature nor a clinical number, or without `gaps` a missing value.
    """
    row = []
    for column in columns:
        value = visit.features.get(column, visit.clinical.get(column))
        if gaps and (value is None or (isinstance(value, int | float) and math.isnan(value))):
            row.append(math.nan)
            continue
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise BadCohort(f"column {column!r} must be a number for every patient", value=value, remedy="leave the column or the patient out")
        row.append(float(value))
    return np.array(row)


def slice_numbers(mask: Mask, count: int) -> np.ndarray:
    """Return the indices (from the feet) of the `count` slices spread evenly over the lung; some come twice in short lungs.

    Only slices whose lung area is at least a tenth of the largest count.

    Examples
    --------
    >>> mask = np.zeros((9, 2, 2), np.uint8)
    >>> mask[2:8] = 1
    >>> slice_numbers(mask, 3).tolist()
    [2, 4, 7]
    """
    area = (mask > 0).sum((1, 2))
    lung = np.flatnonzero(area >= 0.1 * area.max())
    return lung[spread(len(lung), count)]


def spread(there: int, count: int) -> np.ndarray:
    """Return `count` places spread evenly over 0 .. `there` - 1, ends included; some come twice where there are fewer.

    Examples
    --------
    >>> spread(6, 3).tolist()
    [0, 2, 5]
    """
    return np.round(np.linspace(0, there - 1, count)).astype(int)


def slices_of(prepared: Prepared, inputs: Inputs) -> np.ndarray:
    """Return lung slices spread evenly from base to apex, cropped around the lungs, shape (slices, size, size), float32 in 0..1.

    The crop is a square in millimetres, so that the body's proportions stay.
    """
    mask = prepared.mask
    if mask is None or not mask.any():
        raise BadCohort("a study needs lung in its mask", value=0)
    return slices_at(prepared, inputs, slice_numbers(mask, inputs.slices) if inputs.pixel_mm is None else spread(len(mask), inputs.slices))


def slices_at(prepared: Prepared, inputs: Inputs, chosen: np.ndarray) -> np.ndarray:
    """Return the slices of the given numbers as `slices_of` makes them; whole ones, on pixels of ``pixel_mm``, where that is given."""
    mask, spacing = prepared.mask, prepared.volume.spacing_mm[1:]
    if mask is None or not mask.any():
        raise BadCohort("a study needs lung in its mask", value=0)
    unit = _unit(prepared.volume.hu[chosen], mask[chosen], inputs)
    if inputs.pixel_mm is None:
        box_y, box_x = lung_box(np.asarray(mask.any(0)), inputs.margin_mm, spacing)
        return np.stack([_square(plane, box_y, box_x, spacing, inputs.size) for plane in unit])
    for axis in (1, 2):
        count, step = whole_pixels(unit.shape[axis], spacing[axis - 1], inputs.pixel_mm)
        unit = resample_axis(unit, count, spacing[axis - 1], step, axis)
    return centred(unit, inputs.size, 0)


def whole_pixels(count: int, spacing_mm: float, pixel_mm: float) -> tuple[int, float]:
    """Return how many pixels of about `pixel_mm` cover `count` pixels of `spacing_mm`, and their exact size."""
    pixels = max(1, round(count * spacing_mm / pixel_mm))
    return pixels, count * spacing_mm / pixels


def centred(planes: np.ndarray, size: int, fill: float) -> np.ndarray:
    """Centre planes (n, y, x) in squares of `size` pixels, cutting or filling up with `fill`; the type stays."""
    out = np.full((len(planes), size, size), fill, planes.dtype)
    source, target = [], []
    for have in planes.shape[1:]:
        n = min(have, size)
        source.append(slice((have - n) // 2, (have - n) // 2 + n))
        target.append(slice((size - n) // 2, (size - n) // 2 + n))
    out[:, target[0], target[1]] = planes[:, source[0], source[1]]
    return out


def volume_of(prepared: Prepared, inputs: Inputs) -> np.ndarray:
    """Return the lung volume resampled to ``shape_zyx``, shape (1, z, y, x), float32 in 0..1."""
    mask = prepared.mask
    if mask is None or not mask.any():
        raise BadCohort("a study needs lung in its mask", value=0)
    spacing = prepared.volume.spacing_mm
    planes = np.flatnonzero(mask.any((1, 2)))
    box_y, box_x = lung_box(np.asarray(mask.any(0)), inputs.margin_mm, spacing[1:])
    crop = _unit(prepared.volume.hu, mask, inputs)[planes[0] : planes[-1] + 1, box_y, box_x]
    factors = [n / s for n, s in zip(inputs.shape_zyx, crop.shape, strict=True)]
    smooth = ndimage.gaussian_filter(crop, [max(0.0, 0.5 * (1 / f - 1)) for f in factors])
    return _exact(np.asarray(ndimage.zoom(smooth, factors, order=1, grid_mode=True, mode="nearest")), inputs.shape_zyx)[None]


def _unit(hu: HU, mask: Mask, inputs: Inputs) -> HU:
    low, high = inputs.window_hu
    unit = np.clip((np.asarray(hu, np.float32) - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return unit * (mask > 0) if inputs.mask_outside else unit


def lung_box(shadow: np.ndarray, margin_mm: float, spacing_mm: Sequence[float]) -> tuple[slice, slice]:
    """Return rows and columns of a plane that hold the lungs' `shadow` (y, x) and the margin around it."""
    box = []
    for axis in (0, 1):
        hits = np.flatnonzero(shadow.any(1 - axis))
        margin = round(margin_mm / spacing_mm[axis])
        box.append(slice(max(0, int(hits[0]) - margin), min(shadow.shape[axis], int(hits[-1]) + 1 + margin)))
    return box[0], box[1]


def _square(plane: HU, box_y: slice, box_x: slice, spacing_mm: Sequence[float], size: int) -> HU:
    crop = plane[box_y, box_x]
    side_mm = max(crop.shape[0] * spacing_mm[0], crop.shape[1] * spacing_mm[1])
    factors = [size * s / side_mm for s in spacing_mm]
    smooth = ndimage.gaussian_filter(crop, [max(0.0, 0.5 * (1 / f - 1)) for f in factors])
    small = np.asarray(ndimage.zoom(smooth, factors, order=1, grid_mode=True, mode="nearest"))
    return _exact(small, (size, size))


def _exact(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Centre `image` in `shape`, cutting or padding with the lowest value."""
    out = np.zeros(shape, np.float32)
    source, target = [], []
    for have, want in zip(image.shape, shape, strict=True):
        n = min(have, want)
        source.append(slice((have - n) // 2, (have - n) // 2 + n))
        target.append(slice((want - n) // 2, (want - n) // 2 + n))
    out[tuple(target)] = image[tuple(source)]
    return out
