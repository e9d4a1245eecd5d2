"""Whole federations under the secure sum: the model of the plain run, and no site's count, metric or update on the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.runs.checkpoint import load_latest
from server.runs.log import read_rounds
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice
from shared_models.core.files import read_json, read_state
from shared_models.experiment import Experiment
from shared_models.secure_sum.vector import step
from sim.federation import federate_in_pool
from sim.pool import Pool
from tests.client.sites import patch_experiment, patch_site, table_experiment, table_site

NAMES = ("alpha", "beta", "gamma", "delta")


def with_sum(experiment: Experiment, **more: Any) -> Experiment:
    federation = {**experiment.federation.model_dump(), "quorum": 3, **more}
    document = {**experiment.model_dump(), "strategy": {"name": "fedavg"} if experiment.strategy else None, "federation": federation}
    return Experiment.model_validate(document)


ONE_ROUND = with_sum(patch_experiment(), rounds=1)
MASKED = with_sum(patch_experiment(), rounds=1, secure_sum=True)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2, experiment=MASKED.to_json()) as processes:
        yield processes


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sites")
    return [patch_site(folder, name, seed=seed, patches=30 + 10 * seed) for seed, name in enumerate(NAMES)]


def test_one_round_is_the_plain_one_within_a_step(pool: Pool, sites: list[Path], tmp_path: Path) -> None:
    federate_in_pool(ONE_ROUND, sites, tmp_path / "plain", pool)
    federate_in_pool(MASKED, sites, tmp_path / "masked", pool)
    (plain,), (masked,) = (read_rounds(tmp_path / name / "rounds.jsonl") for name in ("plain", "masked"))
    cases = sum(site["num_cases"] for site in plain["sites"].values())
    assert masked["total"]["num_cases"] == cases
    assert plain["total"] is None
    a, b = (read_state(tmp_path / name / "final.safetensors") for name in ("plain", "masked"))
    bound = step(MASKED, sites=4, weight=cases)
    assert bound < 2e-6
    for key in a:
        assert np.abs(a[key] - b[key]).max() <= bound + np.spacing(np.abs(a[key]).max()), key
    for site in masked["sites"].values():
        assert (site["num_cases"], site["steps"], site["metrics"], site["norm"], site["refused"]) == (0, 0, {}, 0.0, None)
    behind = {name: site["metrics"]["val_cases"] for name, site in plain["sites"].items() if "val_cases" in site["metrics"]}
    mean = sum(plain["sites"][name]["metrics"]["val_loss"] * n for name, n in behind.items()) / sum(behind.values())
    assert masked["total"]["metrics"]["val_loss"] == pytest.approx(mean, abs=1e-9)
    assert masked["total"]["metrics"]["val_cases"] == sum(behind.values())
    assert list(read_json(tmp_path / "masked" / "site_metrics.json")) == ["all sites"]
    assert masked["bytes"] <= 1.3 * plain["bytes"] + 4 * 4000  # the rest is keys and shares, which do not grow with the model
    for site in sites:
        lines = (site.parent / "workspace" / "what-left.jsonl").read_text().splitlines()
        assert '"num_cases": 0' in lines[-1]


def test_a_killed_run_goes_on(pool: Pool, sites: list[Path], tmp_path: Path) -> None:
    experiment = with_sum(patch_experiment(), secure_sum=True)

    class Killed(BaseException):
        pass

    def kill(record: Any, at: Any) -> None:
        if record.round == 2:
            raise Killed

    with pytest.raises(Killed):
        federate_in_pool(experiment, sites, tmp_path / "run", pool, on_round=kill)
    stands = load_latest(tmp_path / "run" / "checkpoints", experiment=experiment.digest)
    assert stands is not None
    assert stands.round == 1
    federate_in_pool(experiment, sites, tmp_path / "run", pool)
    lines = read_rounds(tmp_path / "run" / "rounds.jsonl")
    assert [line["round"] for line in lines] == [1, 2, 3]
    assert not any(line["missing"] for line in lines)


def test_exact_sums_are_those_of_the_plain_run(pool: Pool, tmp_path: Path) -> None:
    sites = [table_site(tmp_path, name, seed=seed) for seed, name in enumerate(NAMES)]
    plain, masked = with_sum(table_experiment(rounds=4)), with_sum(table_experiment(rounds=4), secure_sum=True)
    federate_in_pool(plain, sites, tmp_path / "plain", pool)
    federate_in_pool(masked, sites, tmp_path / "masked", pool)
    a, b = (read_state(tmp_path / name / "final.safetensors") for name in ("plain", "masked"))
    for key in a:
        np.testing.assert_allclose(a[key], b[key], atol=1e-8)
    assert np.abs(a["coefficients"]).max() > 0.5


def test_a_site_that_refuses_is_left_out(pool: Pool, sites: list[Path], tmp_path: Path) -> None:
    strict = patch_site(tmp_path, "strict")
    strict.write_text(strict.read_text() + "[policy]\nmin_cases = 900\n")
    federate_in_pool(MASKED, [*sites, strict], tmp_path / "run", pool)
    (line,) = read_rounds(tmp_path / "run" / "rounds.jsonl")
    assert line["missing"] == ["strict"]
    assert line["sites"]["strict"]["refused"] == "E_FEW_CASES"


def test_strategies_that_must_see_every_update_are_named(pool: Pool, tmp_path: Path) -> None:
    from server.app import strategy_of
    from sim.check import faults

    experiment = with_sum(table_experiment(Choice(name="forest")), secure_sum=True)
    assert any("'union' must see every site's update" in fault for fault in faults(experiment))
    with pytest.raises(BadChoice, match="every site's update"):
        strategy_of(experiment, None)
    assert not faults(MASKED)
