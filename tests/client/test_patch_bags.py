"""Patches as bags of one: a model of slices reads them in the experiment's window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.selection import patch_records
from client.site import Site
from client.training import FITTERS, PREDICTORS
from client.training.rules import Plain
from shared_models.catalogue import initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort
from tests.client.sites import patch_experiment, patch_site


def test_a_model_of_slices_reads_patches(tmp_path: Path) -> None:
    choice = Choice.model_validate({"name": "compact_vgg", "width": 4, "features": 8})
    experiment = patch_experiment().model_copy(update={"model": choice})
    site = Site.load(patch_site(tmp_path, "alpha", patches=6))
    records = patch_records(site, experiment)
    assert records.inputs.shape[:2] == (6, 1)
    assert 0 <= records.inputs.min() <= records.inputs.max() <= 1
    state = initial_state(choice, inputs=1, outputs=2, seed=0)
    fitted = FITTERS["gradient"](experiment, state, records, rule=Plain(), factor=1.0, seed=0)
    assert np.isfinite(fitted.loss or np.nan)
    assert PREDICTORS["gradient"](experiment, fitted.state, records).shape == (6, 2)


def test_a_model_of_volumes_reads_none(tmp_path: Path) -> None:
    experiment = patch_experiment().model_copy(update={"model": Choice(name="resnet18")})
    with pytest.raises(BadCohort, match="patches need a model"):
        patch_records(Site.load(patch_site(tmp_path, "alpha")), experiment)
