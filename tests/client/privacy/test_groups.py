"""Sums about groups as small as one patient leave a site through the secure sum alone: every model that says so, whatever the policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.privacy.policy import breaches
from client.site import Policy, Site
from client.worker import Worker
from shared_models.catalogue import MODELS, initial_state, inputs_of
from shared_models.core.choices import Choice
from shared_models.experiment import Experiment, Federation
from shared_models.messages import Job
from sim.check import faults
from tests.client.sites import table_experiment, table_site

NAMES = sorted(name for name, spec in MODELS.items() if spec.summed_only)


def test_models_of_clusters_and_of_histograms_say_so() -> None:
    assert {"boosting", "kmeans", "rbf"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_in_clear_they_are_refused_and_the_check_says_it_first(name: str, tmp_path: Path) -> None:
    experiment = table_experiment(Choice(name=name))
    state = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=2, seed=0)
    job = Job(run="run", round=1, kind="fit", state=state, experiment=experiment.to_json(), rule={"name": "plain", "lr_factor": 1.0})
    update = Worker(Site.load(table_site(tmp_path, "alpha", patients=60))).handle(job)
    assert (update.code, update.state) == ("E_POLICY_SUM", {})
    assert any("as small as one patient" in fault for fault in faults(experiment))


@pytest.mark.parametrize("name", NAMES)
def test_through_the_secure_sum_they_may(name: str) -> None:
    federation = Federation.model_validate({"quorum": 3, "secure_sum": True})
    experiment: Experiment = table_experiment(Choice(name=name)).model_copy(update={"federation": federation})
    assert not breaches(experiment, Policy())
    assert not [fault for fault in faults(experiment) if "predicts a survival" not in fault]  # the table's target is a diagnosis
