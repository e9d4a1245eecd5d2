"""Slices of a study and, on their very pixels, the classes that are to be learnt: of the prepared lung mask, or of what a reader has drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from client.cases.cache import load
from client.cases.cohort import Case
from client.cases.prepared import Prepared
from client.preprocessing.resample import nearest
from client.training.records import Records, See, centred, lung_box, slice_numbers, slices_at, spread, whole_pixels
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadCohort
from shared_models.experiment import Data, Experiment, Inputs
from shared_models.patterns import NOT_ANNOTATED, PATTERNS, UNLABELLED


def class_map(prepared: Prepared, data: Data) -> Mask:
    """Return the class number of every voxel of a prepared study, uint8, shape (z, y, x); 255 where nothing is to be learnt.

    Patterns are learnt inside the prepared lung mask alone: what a label map calls 0 is healthy lung only there.

    Raises
    ------
    BadCohort
        The study has no lung mask, or nobody has drawn on it.
    """
    mask = _mask_of(prepared)
    if data.annotation == "lung":
        return (mask > 0).astype(np.uint8)
    if prepared.annotation is None:
        raise BadCohort("a study must have an annotation to be learnt from", remedy="name the folder in the site TOML: annotations")
    numbers = np.full(256, NOT_ANNOTATED, np.uint8)
    for name, code in PATTERNS.items():
        if (merged := data.merge.get(name, name)) in data.classes:
            numbers[code] = data.classes.index(merged)
    return np.where(mask > 0, numbers[prepared.annotation], np.uint8(NOT_ANNOTATED))


def slices_to_learn(prepared: Prepared, classes: Mask, inputs: Inputs, *, all_of_them: bool = False) -> np.ndarray:
    """Return which slices are seen: `slices` spread evenly over those on which something is to be learnt, or all of them.

    Raises
    ------
    BadCohort
        There is none.
    """
    known = np.flatnonzero((classes != NOT_ANNOTATED).any((1, 2)))
    if not len(known):
        raise BadCohort("an annotation must have drawn slices inside the lungs", value=0)
    return known if all_of_them else known[spread(len(known), inputs.slices)]


def images_and_classes(prepared: Prepared, data: Data, inputs: Inputs, *, all_of_them: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return slices, float32 in 0..1, and their class numbers, uint8, both of shape (slices, size, size)."""
    if inputs.unlabelled is not None and not all_of_them:
        return with_unlabelled(prepared, data, inputs)
    classes = class_map(prepared, data)
    chosen = slices_to_learn(prepared, classes, inputs, all_of_them=all_of_them)
    beyond = 0 if data.annotation == "lung" else NOT_ANNOTATED
    return slices_at(prepared, inputs, chosen), classes_at(prepared, classes[chosen], inputs, beyond=beyond)


def with_unlabelled(prepared: Prepared, data: Data, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Return `slices` drawn slices and after them `unlabelled` others, the lung of which is 254, shapes (slices + unlabelled, size, size).

    Others are spread evenly over the lung slices on which nobody has drawn. A study that nobody has drawn on gives nothing but others.
    """
    chosen, known = shown_slices(prepared, data, inputs)
    classes = known[chosen]
    blank = (classes == NOT_ANNOTATED).all((1, 2))
    classes[blank] = np.where(_mask_of(prepared)[chosen][blank] > 0, np.uint8(UNLABELLED), np.uint8(NOT_ANNOTATED))
    return slices_at(prepared, inputs, chosen), classes_at(prepared, classes, inputs)


def shown_slices(prepared: Prepared, data: Data, inputs: Inputs) -> tuple[np.ndarray, Mask]:
    """Return the numbers of the slices that `with_unlabelled` shows, drawn ones first, and the class number of every voxel, 255 of a bare study."""
    mask, count = _mask_of(prepared), inputs.unlabelled or 0
    bare = np.full(mask.shape, NOT_ANNOTATED, np.uint8)
    known = bare if prepared.annotation is None else class_map(prepared, data)
    looked, lung = (known != NOT_ANNOTATED).any((1, 2)), np.unique(slice_numbers(mask, len(mask)))
    others = lung[~looked[lung]] if (~looked[lung]).any() else lung
    if not looked.any():
        return others[spread(len(others), inputs.slices + count)], bare
    return np.concatenate([slices_to_learn(prepared, known, inputs), others[spread(len(others), count)]]), known


def classes_at(prepared: Prepared, classes: Mask, inputs: Inputs, *, beyond: int = NOT_ANNOTATED) -> np.ndarray:
    """Return class numbers of slices (n, y, x) on the pixels of `slices_at`: that of the voxel nearest to each pixel's centre.

    Pixels beyond the scan are `beyond`. Where lungs are learnt it is 0: a network that nobody tells so paints lung there.
    """
    spacing = prepared.volume.spacing_mm[1:]
    if inputs.pixel_mm is not None:
        for axis in (1, 2):
            count, step = whole_pixels(classes.shape[axis], spacing[axis - 1], inputs.pixel_mm)
            classes = np.take(classes, nearest(classes.shape[axis], count, spacing[axis - 1], step), axis=axis)
        return centred(classes, inputs.size, beyond)
    box_y, box_x = lung_box(np.asarray(_mask_of(prepared).any(0)), inputs.margin_mm, spacing)
    crop = classes[:, box_y, box_x]
    side_mm = max(crop.shape[1] * spacing[0], crop.shape[2] * spacing[1])
    factors = (1.0, inputs.size * spacing[0] / side_mm, inputs.size * spacing[1] / side_mm)
    return centred(np.asarray(ndimage.zoom(crop, factors, order=0, grid_mode=True, mode="nearest")), inputs.size, beyond)


def onto_study(planes: Mask, prepared: Prepared, inputs: Inputs) -> Mask:
    """Return class numbers on the pixels of `slices_at`, (n, size, size), on those of the study, (n, y, x): the way back; 0 beyond the cut.

    Each voxel gets the class of the pixel in which its centre lies.
    """
    spacing, shape = prepared.volume.spacing_mm[1:], prepared.volume.hu.shape[1:]
    found, inside = [], []
    if inputs.pixel_mm is not None:
        for axis in (0, 1):
            count, step = whole_pixels(shape[axis], spacing[axis], inputs.pixel_mm)
            pixel = np.floor((np.arange(shape[axis]) + 0.5) * spacing[axis] / step).astype(int)
            found.append(pixel + _offset(count, inputs.size))
    else:
        boxes = lung_box(np.asarray(_mask_of(prepared).any(0)), inputs.margin_mm, spacing)
        extent = [box.stop - box.start for box in boxes]
        side_mm = max(length * step for length, step in zip(extent, spacing, strict=True))
        for axis in (0, 1):
            count = round(extent[axis] * inputs.size * spacing[axis] / side_mm)
            pixel = np.floor((np.arange(shape[axis]) - boxes[axis].start + 0.5) * count / extent[axis]).astype(int)
            found.append(np.where((pixel >= 0) & (pixel < count), pixel + _offset(count, inputs.size), -1))
    for pixel in found:
        inside.append((pixel >= 0) & (pixel < inputs.size))
    rows, columns = (np.clip(pixel, 0, inputs.size - 1) for pixel in found)
    seen = planes[:, rows[:, None], columns[None, :]]
    return np.where(inside[0][:, None] & inside[1][None, :], seen, 0).astype(np.uint8)


def _offset(count: int, size: int) -> int:
    """Return by how much `centred` moves the first of `count` pixels in a row of `size`."""
    return (size - min(count, size)) // 2 - (count - min(count, size)) // 2


def _mask_of(prepared: Prepared) -> Mask:
    if prepared.mask is None or not prepared.mask.any():
        raise BadCohort("segmentation needs a lung mask", remedy="name a segmenter in [preparation]")
    return prepared.mask


def drawn_records(cases: Sequence[Case], experiment: Experiment, workspace: Path, *, see: See | None = None) -> Records:
    """Turn cases into records for a network that labels pixels: the first visit of each patient, with the class of every pixel as target."""
    size, count = experiment.inputs.size, experiment.inputs.slices + (experiment.inputs.unlabelled or 0)
    found = [images_and_classes(seen_study(case, workspace, see), experiment.data, experiment.inputs) for case in cases]
    empty = np.zeros((0, count, size, size), np.float32)
    images = np.stack([image for image, _ in found]) if found else empty
    targets = np.stack([classes for _, classes in found]) if found else empty.astype(np.uint8)
    return Records(images, np.zeros(len(found), np.int64), tuple(case.pseudonym for case in cases), targets=targets)


def drawn_study(case: Case, experiment: Experiment, workspace: Path, *, see: See | None = None) -> Records:
    """Return every slice of a patient's first visit on which something is to be learnt, each as a record of its own: for a judgement.

    Where slices without a drawing are learnt from, a patient may have no other: nothing is judged by those.
    """
    prepared, size = seen_study(case, workspace, see), experiment.inputs.size
    if experiment.inputs.unlabelled is not None and prepared.annotation is None:
        nothing = np.zeros((0, 1, size, size))
        return Records(nothing.astype(np.float32), np.zeros(0, np.int64), (), targets=nothing.astype(np.uint8))
    images, classes = images_and_classes(prepared, experiment.data, experiment.inputs, all_of_them=True)
    return Records(images[:, None], np.zeros(len(images), np.int64), (case.pseudonym,) * len(images), targets=classes[:, None])


def seen_study(case: Case, workspace: Path, see: See | None) -> Prepared:
    """Return the prepared study of a patient's first visit as the model sees it."""
    prepared = load(workspace / case.visits[0].prepared).prepared
    seen = prepared if see is None else see(prepared)
    if isinstance(seen, np.ndarray):
        raise BadCohort("a network that labels pixels sees images", remedy="leave statistics of tables out")
    return seen
