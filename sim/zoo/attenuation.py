"""What a network that labels pixels adds to their attenuation: its Dice against that of the likeliest class of each pixel's own HU."""

from __future__ import annotations

import numpy as np

from client.selection import all_records, cohort_of
from client.site import Site
from client.training.targets import drawn_study
from shared_models.metrics.segmentation import pixel_table, score_pixels
from sim.zoo.criteria import Criterion
from sim.zoo.ran import Ran

LEVELS = 64
"""Steps of the HU window."""


def over_attenuation(least: float = 0.0) -> Criterion:
    """Ask more pooled Dice than each pixel's own attenuation gives: the likeliest class of its HU among the training pixels."""

    def figure(ran: Ran) -> float | None:
        ours = ran.value("pooled_dice")
        return None if ours is None else ours - _attenuation_dice(ran)

    return Criterion("pooled Dice minus that of single pixels' attenuation", figure, least=least)


def _attenuation_dice(ran: Ran) -> float:
    """Return the better pooled Dice of two ways: classes as frequent as they are, or all alike."""
    experiment, classes = ran.experiment, len(ran.experiment.data.classes)
    counts = np.zeros((classes, LEVELS))
    for site in ran.training:
        records = all_records(Site.load(site), experiment)
        drawn = np.asarray(records.targets)
        for number in range(classes):
            counts[number] += np.bincount(_level(records.inputs[drawn == number]), minlength=LEVELS)
    tables = []
    for site in ran.held_out:
        place = Site.load(site)
        for case in cohort_of(place, experiment).cases:
            records = drawn_study(case, experiment, place.workspace)
            calls = [likely.argmax(0)[_level(records.inputs)] for likely in (counts, counts / np.maximum(1, counts.sum(1, keepdims=True)))]
            tables.append([pixel_table(np.asarray(records.targets), found, classes) for found in calls])
    return max(score_pixels(np.array(way), experiment.data.classes, bootstrap=0)["pooled_dice"]["value"] for way in zip(*tables, strict=True))


def _level(values: np.ndarray) -> np.ndarray:
    return np.clip((np.asarray(values) * LEVELS).astype(np.int64), 0, LEVELS - 1)
