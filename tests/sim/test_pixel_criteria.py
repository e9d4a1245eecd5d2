"""What the zoo asks of systems that label pixels: the supervised half of a recipe, and lungs by a plain threshold."""

from __future__ import annotations

import numpy as np

from sim.check import faults, load_checked
from sim.zoo.lungs import by_threshold
from sim.zoo.sparse_labels import without_labels_of_its_own


def test_the_supervised_half_has_the_same_rounds_and_nothing_to_agree_with() -> None:
    whole = load_checked("esseg_ild", [])
    half = without_labels_of_its_own(whole)
    assert [stage.train.get("pseudo_labels") for stage in whole.stages or ()] == [None, 0.5, 1.0]
    assert not any("pseudo_labels" in stage.train for stage in half.stages or ())
    assert half.model.knobs["weight"] == 0
    assert (half.federation.rounds, half.train, half.inputs) == (whole.federation.rounds, whole.train, whole.inputs)
    assert not faults(half)


def test_a_threshold_loses_what_is_dense_at_the_pleura_and_fills_what_is_dense_inside() -> None:
    plane = np.zeros((40, 60))
    plane[4:36, 4:56] = 0.8  # a body in air
    plane[10:30, 10:26] = plane[10:30, 34:50] = 0.2
    truth = plane == 0.2
    plane[18:22, 16:20] = 0.8  # a vessel
    np.testing.assert_array_equal(by_threshold(plane), truth)
    plane[10:30, 10:13] = 0.8  # consolidation at the pleura
    found = by_threshold(plane)
    assert not found[10:30, 10:13].any()
    np.testing.assert_array_equal(found[:, 13:], truth[:, 13:])
