"""Whole small federations on this machine: the same seed gives the same bits, however the run was cut and whatever carries the messages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.runs.checkpoint import load_latest
from server.runs.log import read_rounds
from shared_models.core.choices import Choice
from shared_models.core.errors import Interrupted
from shared_models.core.files import read_json, read_state
from shared_models.core.state import digest
from shared_models.experiment import Evaluation
from sim.federation import federate_in_pool, federate_on_ray
from sim.pool import Pool
from sim.tasks import predictions
from tests.client.sites import patch_experiment, patch_site, table_experiment, table_site

EXPERIMENT = patch_experiment()


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2, experiment=EXPERIMENT.to_json()) as processes:
        yield processes


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sites")
    return [patch_site(folder, name, seed=seed) for seed, name in enumerate(("gamma", "alpha", "beta"))]


@pytest.fixture(scope="module")
def undisturbed(pool: Pool, sites: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    federate_in_pool(EXPERIMENT, sites, folder, pool)
    return folder


def final(folder: Path) -> str:
    return digest(read_state(folder / "final.safetensors"))


def test_it_learns_and_says_what_happened(undisturbed: Path, sites: list[Path]) -> None:
    lines = read_rounds(undisturbed / "rounds.jsonl")
    assert [line["round"] for line in lines] == [1, 2, 3]
    assert list(lines[0]["sites"]) == ["alpha", "beta", "gamma"]
    for site in (site for line in lines for site in line["sites"].values()):
        assert site["num_cases"] > 20
        assert site["steps"] == math.ceil(site["num_cases"] / 16)
        assert site["refused"] is None
    assert sorted(read_json(undisturbed / "site_metrics.json")) == ["alpha", "beta", "gamma"]
    labels, probabilities, names = predictions(EXPERIMENT.to_json(), str(undisturbed / "final.safetensors"), [str(site) for site in sites], "all")
    assert len(labels) == len(set(names)) == 120
    assert np.allclose(np.sum(probabilities, 1), 1)


def test_one_seed_one_model_whatever_the_order_of_the_sites(undisturbed: Path, sites: list[Path], pool: Pool, tmp_path: Path) -> None:
    federate_in_pool(EXPERIMENT, list(reversed(sites)), tmp_path, pool)
    assert final(tmp_path) == final(undisturbed)
    other = tmp_path / "other"
    federate_in_pool(EXPERIMENT.model_copy(update={"seed": 1}), sites, other, pool)
    assert final(other) != final(undisturbed)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", [1, 2])
def test_a_killed_run_is_continued_bit_for_bit(undisturbed: Path, sites: list[Path], pool: Pool, tmp_path: Path, after: int) -> None:
    def kill(record: Any, at: Any) -> None:
        if record.round == after + 1:
            raise Killed

    with pytest.raises(Killed):
        federate_in_pool(EXPERIMENT, sites, tmp_path, pool, on_round=kill)
    stands = load_latest(tmp_path / "checkpoints", experiment=EXPERIMENT.digest)
    assert stands is not None
    assert stands.round == after
    told: list[int] = []
    federate_in_pool(EXPERIMENT, sites, tmp_path, pool, on_round=lambda record, at: told.append(record.round))
    assert told == list(range(after + 1, 4))
    assert final(tmp_path) == final(undisturbed)


STRATEGIES: dict[str, dict[str, Any]] = {
    "fedbuff": {"quorum": 2, "rounds": 4},
    "cyclic": {},
    "qfedavg": {"stopping": {"patience": 2}},
    "one_shot": {"rounds": 1},
}


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_other_ways_through_the_rounds(name: str, sites: list[Path], pool: Pool, tmp_path: Path) -> None:
    """Through Flower's messages and the sites' own workers: the same bits for any order of sites and after a kill."""
    judged = {"strategy": Choice(name=name), "evaluation": Evaluation(validation=0.4, bootstrap=0)}  # enough patients that metrics may leave
    experiment = patch_experiment(**STRATEGIES[name]).model_copy(update=judged)
    federate_in_pool(experiment, sites, tmp_path / "a", pool)

    def kill(record: Any, at: Any) -> None:
        if record.round == min(2, experiment.federation.rounds):
            raise Killed

    with pytest.raises(Killed):
        federate_in_pool(experiment, sites[::-1], tmp_path / "b", pool, on_round=kill)
    federate_in_pool(experiment, sites[::-1], tmp_path / "b", pool)
    assert final(tmp_path / "a") == final(tmp_path / "b")
    lines = read_rounds(tmp_path / "a" / "rounds.jsonl")
    records = [found for line in lines for found in line["sites"].values()]
    assert not any(found["refused"] for found in records)
    released = tmp_path / "a" / "final.safetensors"
    _, probabilities, _ = predictions(experiment.to_json(), str(released), [str(site) for site in sites], "all")
    np.testing.assert_allclose(np.sum(probabilities, 1), 1)
    assert all(read_json(tmp_path / "a" / "site_metrics.json")[site]["val_loss"] > 0 for site in ("alpha", "beta", "gamma"))
    if name == "fedbuff":
        assert max(found["staleness"] for found in records) > 0
    elif name == "cyclic":
        assert sorted(found["place"] for found in records) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    elif name == "qfedavg":
        assert all(found["metrics"]["received_loss"] > 0 for found in records)
        assert read_json(tmp_path / "a" / "release.json")["metric"] == "val_loss"
    else:
        state = read_state(released)
        assert state["ensemble/weights"].sum() == pytest.approx(1.0)
        assert len(state["ensemble/weights"]) == 3


def test_a_site_that_refuses_leaves_the_others_a_degraded_run(sites: list[Path], pool: Pool, tmp_path: Path) -> None:
    strict = patch_site(tmp_path, "strict")
    strict.write_text(strict.read_text() + '[policy]\nmodels = ["forest"]\n')
    federate_in_pool(EXPERIMENT, [*sites[:2], strict], tmp_path / "run", pool)
    lines = read_rounds(tmp_path / "run" / "rounds.jsonl")
    assert [line["missing"] for line in lines] == [["strict"]] * 3
    assert lines[0]["sites"]["strict"]["refused"] == "E_POLICY_MODEL"
    federate_in_pool(EXPERIMENT, sites[:2], tmp_path / "without", pool)
    assert final(tmp_path / "run") == final(tmp_path / "without")


def test_too_many_refusals_stop_the_run_with_a_status(pool: Pool, tmp_path: Path) -> None:
    sites = [table_site(tmp_path, name, toml="[policy]\nmin_cases = 900\n", seed=1) for name in ("alpha", "beta")]
    with pytest.raises(Interrupted, match="E_FEW_CASES"):
        federate_in_pool(table_experiment(retries=1), sites, tmp_path / "run", pool)
    assert not (tmp_path / "run" / "final.safetensors").exists()


def test_exact_sums_equal_one_site_with_everybody(pool: Pool, tmp_path: Path) -> None:
    from sim.tasks import start_state, train_alone

    experiment = table_experiment(rounds=8)
    sites = [table_site(tmp_path, name, seed=seed) for seed, name in enumerate(("alpha", "beta", "gamma"))]
    federate_in_pool(experiment, sites, tmp_path / "run", pool)
    start_state(experiment.to_json(), str(tmp_path / "pooled"))
    train_alone(
        experiment.to_json(), [str(s) for s in sites], str(tmp_path / "pooled" / "start.safetensors"), str(tmp_path / "pooled.safetensors"), "pooled"
    )
    ours, theirs = read_state(tmp_path / "run" / "final.safetensors"), read_state(tmp_path / "pooled.safetensors")
    for key in theirs:
        np.testing.assert_allclose(ours[key], theirs[key], atol=1e-8)
    assert np.abs(theirs["coefficients"]).max() > 0.5


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # Ray warns about its own future
def test_ray_gives_the_same_bits_as_the_pool(sites: list[Path], pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    # control variates go with the model, and lie on the sites' disks from round to round
    experiment = EXPERIMENT.model_copy(update={"strategy": Choice(name="scaffold")})
    federate_in_pool(experiment, sites, tmp_path / "pool", pool)

    for name in list(os.environ):
        monkeypatch.setenv(name, os.environ[name])  # what the run sets in the environment is undone
    federate_on_ray(experiment, sites, tmp_path / "ray", processes=2)
    assert final(tmp_path / "ray") == final(tmp_path / "pool")
    ours, theirs = (read_rounds(tmp_path / engine / "rounds.jsonl") for engine in ("ray", "pool"))
    assert [line["sites"] for line in ours] == [line["sites"] for line in theirs]
