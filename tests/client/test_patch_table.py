"""Patches as rows of features: those of the families, kept once measured, refused where a patch has no such number, and learnt from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client import patch_table
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.features.densitometry import densitometry
from client.features.lbp import lbp
from client.patch_table import patch_features
from client.selection import patch_records
from client.site import Site
from client.training import FITTERS, PREDICTORS
from client.training.rules import Plain
from shared_models.catalogue import build, initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment, Inputs, Preparation
from sim.check import faults
from tests.client.sites import patch_experiment, patch_site

COLUMNS = ("whole_mld_hu", "whole_perc15_hu", "lbp8_{0..8}")
GRID_MM = (1.0, 0.8, 0.8)


def experiment_of(columns: tuple[str, ...] = COLUMNS, *, grid_mm: tuple[float, float, float] | None = GRID_MM) -> Experiment:
    changes = {
        "model": Choice.model_validate({"name": "svm", "features": 32}),
        "inputs": Inputs(columns=columns),
        "preparation": Preparation(grid_mm=grid_mm, features=(Choice(name="densitometry"), Choice(name="lbp"))),
        "strategy": None,
    }
    return patch_experiment().model_copy(update=changes)


def test_a_row_is_what_the_families_say_of_a_slice_that_is_lung_all_over() -> None:
    hu = np.random.default_rng(0).integers(-1000, -600, (3, 15, 15))
    rows = patch_features(hu, experiment_of())
    for patch, row in zip(hu, rows, strict=True):
        study = Prepared(Volume(patch[None].astype(np.float32), GRID_MM), np.ones((1, 15, 15), np.uint8))
        found = densitometry(study) | lbp(study)
        assert row.tolist() == [found[name] for name in experiment_of().inputs.columns]
    assert patch_features(hu[:0], experiment_of()).shape == (0, 11)


def test_a_table_model_learns_patches(tmp_path: Path) -> None:
    experiment, site = experiment_of(), Site.load(patch_site(tmp_path, "alpha"))
    records = patch_records(site, experiment)
    assert records.inputs.shape == (40, 11)
    model = build(experiment.model, inputs=11, outputs=2)
    state = initial_state(experiment.model, inputs=11, outputs=2, seed=0)
    for number in range(6):
        fitted = FITTERS["sums"](experiment, state, records, rule=Plain(), factor=1.0, seed=number)
        state = model.combine(state, [fitted.state], [40.0])
    assert (PREDICTORS["sums"](experiment, state, records).argmax(1) == records.labels).mean() > 0.95
    assert not faults(experiment)


def test_what_was_measured_is_kept_privately_and_made_again_where_it_is_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, site = experiment_of(), Site.load(patch_site(tmp_path, "alpha", patches=6))
    first = patch_records(site, experiment).inputs
    (kept,) = (tmp_path / "alpha" / "workspace" / "patch_features").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    with monkeypatch.context() as patched:
        patched.setattr(patch_table, "patch_features", lambda *_: pytest.fail("it was measured already"))
        np.testing.assert_array_equal(patch_records(site, experiment).inputs, first)
        with pytest.raises(pytest.fail.Exception):
            patch_records(site, experiment_of(COLUMNS[:1]))
    kept.write_bytes(kept.read_bytes()[:50])
    np.testing.assert_array_equal(patch_records(site, experiment).inputs, first)


@pytest.mark.parametrize(
    ("columns", "grid_mm", "words"),
    [
        (("whole_mld_hu",), None, "size of their pixels"),
        (("original_glcm_Contrast",), GRID_MM, "feature family"),
        (("left_mld_hu",), GRID_MM, "number for every patch"),
    ],
)
def test_what_a_patch_cannot_say(columns: tuple[str, ...], grid_mm: tuple[float, float, float] | None, words: str) -> None:
    with pytest.raises(BadCohort, match=words):
        patch_features(np.full((1, 9, 9), -850.0), experiment_of(columns, grid_mm=grid_mm))


def test_the_check_asks_for_the_size_of_pixels() -> None:
    assert any(fault.startswith("preparation.grid_mm") for fault in faults(experiment_of(grid_mm=None)))
