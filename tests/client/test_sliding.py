"""A model of patches as a map: each half of a lung is called what it is, window by window as one by one."""

from __future__ import annotations

import numpy as np
import pytest

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.sliding import sliding_map
from client.training import PREDICTORS
from client.training.gradient import fit_gradient
from client.training.records import Records
from client.training.rules import Plain
from shared_models.catalogue import build, initial_state
from shared_models.core.arrays import State
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment
from sim.phantom.patient import make_phantom

CLASSES = ("normal", "emphysema")
MEAN_HU = (-850.0, -970.0)


def experiment_of(name: str = "texture_kernel", kind: str = "patches") -> Experiment:
    return Experiment.model_validate({"name": "slide", "data": {"kind": kind, "classes": CLASSES}, "model": {"name": name, "features": 16}})


def taught(experiment: Experiment) -> State:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    x = (np.array(MEAN_HU)[y][:, None, None, None] + rng.normal(0, 20, (40, 1, 9, 9))).astype(np.float32)
    model = build(experiment.model, inputs=1, outputs=2)
    state = model.start(seed=0)
    for _ in range(2):
        state = model.combine(state, [model.contribution(state, x, y, seed=0)], [40])
    return state


def study() -> Prepared:
    """Two slices with lung, its left half with emphysema."""
    hu = np.random.default_rng(1).normal(MEAN_HU[0], 20, (3, 24, 40)).astype(np.float32)
    hu[:, :, 20:] += MEAN_HU[1] - MEAN_HU[0]
    mask = np.zeros(hu.shape, np.uint8)
    mask[1:, 2:23, 3:39] = 1
    return Prepared(Volume(hu, (1.0, 1.0, 1.0)), mask)


def test_each_half_is_called_what_it_is_and_nothing_outside_the_lung_is() -> None:
    experiment, prepared = experiment_of(), study()
    found = sliding_map(experiment, taught(experiment), prepared, patch_px=9, step_px=3)
    assert prepared.mask is not None
    assert ((found == 255) == (prepared.mask == 0)).all() and found.dtype == np.uint8
    assert (found[1:, 4:20, 5:14] == 0).all() and (found[1:, 4:20, 26:37] == 1).all()


def test_every_place_has_the_class_of_the_patch_around_the_nearest_middle() -> None:
    experiment, prepared = experiment_of(), study()
    state = taught(experiment)
    found = sliding_map(experiment, state, prepared, patch_px=9, step_px=4)
    hu = np.pad(prepared.volume.hu, ((0, 0), (4, 4), (4, 4)), mode="symmetric")
    for z, y, x in ((1, 2, 3), (2, 13, 19), (1, 22, 38), (2, 12, 22)):
        middle = [min(4 * (place // 4) + 2, 4 * ((size - 3) // 4) + 2) for place, size in ((y, 24), (x, 40))]
        patch = hu[z, middle[0] : middle[0] + 9, middle[1] : middle[1] + 9][None, None]
        assert found[z, y, x] == PREDICTORS["sums"](experiment, state, Records(patch, np.zeros(1, np.int64), ("p",))).argmax()


def ground_glass(seed: int) -> tuple[Prepared, np.ndarray]:
    """A phantom with ground glass at the base of its lungs, and where."""
    phantom = make_phantom("basal_ggo", seed=seed, grid_mm=4.0, body=1, extents={"ggo": 20.0})
    return Prepared(Volume(np.asarray(phantom.hu, np.float32), (4.0, 4.0, 4.0)), (phantom.lung > 0).astype(np.uint8)), phantom.labels > 0


def test_the_map_of_a_patch_network_lies_on_planted_ground_glass() -> None:
    train = {"steps": 80, "batch": 32, "optimiser": {"name": "adamw", "lr": 3e-3}}
    document = {"name": "slide", "data": {"kind": "patches", "classes": ["normal", "ggo"]}, "model": {"name": "ild_cnn", "k": 1, "dropout": 0.0}}
    experiment = Experiment.model_validate({**document, "train": train})
    (known, planted), rng = ground_glass(1), np.random.default_rng(0)
    assert known.mask is not None
    around = np.pad(known.volume.hu, ((0, 0), (3, 3), (3, 3)), mode="symmetric")
    at = [rng.permutation(np.argwhere((known.mask > 0) & (planted == sick)))[:160] for sick in (False, True)]
    patches = np.stack([around[z, y : y + 7, x : x + 7] for z, y, x in np.concatenate(at)])[:, None]
    records = Records(patches, np.repeat([0, 1], 160), tuple(map(str, range(320))))
    state = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    state = fit_gradient(experiment, state, records, rule=Plain(), factor=1.0, seed=0).state

    unseen, planted = ground_glass(2)
    assert unseen.mask is not None
    shown = np.argsort([(slice_ & (lung > 0)).sum() for slice_, lung in zip(planted, unseen.mask, strict=True)])[-3:]
    kept = np.zeros_like(unseen.mask)
    kept[shown] = unseen.mask[shown]
    found = sliding_map(experiment, state, Prepared(unseen.volume, kept), patch_px=7, step_px=1)
    inside, outside = ((found == 1)[(kept > 0) & (planted == sick)].mean() for sick in (True, False))
    assert inside > 0.6 and inside > 2 * outside, (inside, outside)


def test_only_a_model_of_patches_slides_and_only_over_a_lung() -> None:
    experiment, prepared = experiment_of(), study()
    with pytest.raises(BadCohort, match="a map is of the lung"):
        sliding_map(experiment, taught(experiment), Prepared(prepared.volume))
    with pytest.raises(BadCohort, match="takes a patch"):
        sliding_map(experiment_of("mil_cnn", "studies"), {}, prepared)
