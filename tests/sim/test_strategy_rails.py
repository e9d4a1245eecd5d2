"""Strategies that keep something at the sites, or send something beside the model, over the real messages: one run, the same bits.

In warm processes that never forget, and with workers that are made anew for every message and a server that is cut in the middle of a round.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.site import Site
from client.worker import Worker
from server.app import run_experiment
from shared_models.core.files import read_json, read_state
from shared_models.core.state import digest
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update
from sim.federation import federate_in_pool
from sim.pool import Pool
from sim.tasks import personal_predictions, predictions
from tests.client.sites import patch_experiment, patch_site
from tests.server.loop_grid import LoopGrid

STRATEGIES: dict[str, dict[str, Any]] = {
    "scaffold": {},
    "feddyn": {},
    "moon": {"compression": "int8"},
    "apfl": {"compression": "int8"},
    "ditto": {},
    "fedrep": {},
}
PERSONAL = ("apfl", "ditto", "fedrep")


def experiment_of(name: str) -> Experiment:
    plain = patch_experiment(rounds=3, quorum=3).model_dump(exclude_none=True)
    federation = {**plain["federation"], "compression": {"name": STRATEGIES[name].get("compression", "none")}}
    return Experiment.model_validate({**plain, "strategy": {"name": name}, "federation": federation})


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2, experiment=patch_experiment().to_json()) as processes:
        yield processes


def sites_of(folder: Path) -> list[Path]:
    return [patch_site(folder, name, seed=seed) for seed, name in enumerate(("gamma", "alpha", "beta"))]


def forgetful(sites: list[Path], asked: list[tuple[str, int]]) -> LoopGrid:
    """Sites whose worker is made anew for every message: only what is on their disks is known."""

    def handler(site: Path) -> Any:
        def handle(job: Job) -> Update:
            asked.append((job.kind, job.round))
            update = Worker(Site.load(site)).handle(job)
            assert not update.extra
            return update

        return handle

    return LoopGrid({site.parent.name: handler(site) for site in sites})


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("name", STRATEGIES)
def test_one_run_whatever_carries_it_and_however_it_was_cut(name: str, pool: Pool, tmp_path: Path) -> None:
    experiment, asked = experiment_of(name), list[tuple[str, int]]()
    warm = sites_of(tmp_path / "warm")
    federate_in_pool(experiment, warm, tmp_path / "a", pool)
    cold = sites_of(tmp_path / "cold")

    def kill(record: Any, at: Any) -> None:
        del at
        if record.round == 2:
            raise Killed  # before the checkpoint of round 2: its replies are in the journal

    with pytest.raises(Killed):
        run_experiment(forgetful(cold, asked), experiment, tmp_path / "b", on_round=kill)
    asked.clear()
    run_experiment(forgetful(cold, asked), experiment, tmp_path / "b")
    assert ("fit", 2) not in asked
    ours, theirs = (read_state(tmp_path / run / "final.safetensors") for run in "ab")
    assert digest(ours) == digest(theirs)
    assert read_json(tmp_path / "a" / "site_metrics.json") == read_json(tmp_path / "b" / "site_metrics.json")
    for one, other in zip(warm, cold, strict=True):
        kept = [sorted((site.parent / "workspace" / "strategy").glob("*-000003.safetensors")) for site in (one, other)]
        assert digest(read_state(kept[0][0])) == digest(read_state(kept[1][0]))
    judged(experiment, tmp_path / "a" / "final.safetensors", warm, name in PERSONAL)


def judged(experiment: Experiment, final: Path, sites: list[Path], personal: bool) -> None:
    """Each site's own patients under the global model and under its own."""
    text, differ = experiment.to_json(), 0
    for site in sites:
        own = personal_predictions(text, str(final), str(site), "validation")
        globally = predictions(text, str(final), [str(site)], "validation")
        assert (own is not None) == personal
        if own is not None:
            assert (own[0], own[2]) == (globally[0], globally[2])
            differ += not np.allclose(own[1], globally[1])
    assert differ == (len(sites) if personal else 0)
