"""The loop of players: every player's steps by hand, who sits out, the same bits again, and what a site lets out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.site import Site
from client.training.adversarial import fit_adversarial
from client.training.fitter import Fitted
from client.training.records import Records
from client.training.resting import resting
from client.training.rule import Plain, Rule
from client.training.rules import FedProx
from client.training.steps import StepFile, Stopped
from client.worker import Worker
from shared_models.blocks.adversarial import Game
from shared_models.catalogue import build, initial_state
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort, BadState
from shared_models.core.files import read_json
from shared_models.core.state import digest
from shared_models.experiment import Data, Experiment, Train
from shared_models.networks import NETWORKS
from tests.client.sites import patch_experiment, patch_site
from tests.client.test_worker import job_of
from tests.shared_models.tiny import TINY

GAMES = sorted(name for name, spec in NETWORKS.items() if spec.fit == "adversarial")
LR, BETA = 0.01, 0.5


def experiment_of(name: str = "dcgan", **train: Any) -> Experiment:
    optimiser = {"name": "adamw", "lr": LR, "beta_1": BETA, "weight_decay": 0.0}
    settings = {"steps": 2, "batch": 4, "optimiser": optimiser, "schedule": "constant", **train}
    model = Choice.model_validate({"name": name, **TINY[name]})
    return Experiment(name="game", data=Data(classes=("a", "b")), model=model, train=Train.model_validate(settings))


def records_of(count: int = 6) -> Records:
    rng = np.random.default_rng(1)
    y = np.arange(count) % 2
    x = (rng.uniform(0, 0.5, (count, 2, 16, 16)) + 0.4 * y[:, None, None, None]).astype(np.float32)
    maps = (x > np.median(x) if count else x).astype(np.uint8)
    return Records(x, y, tuple(map(str, range(count))), targets=maps)


def aims_for(network: Game, player: str, records: Records) -> torch.Tensor:
    assert records.targets is not None
    return torch.from_numpy(records.targets if player in network.mapped else records.labels)


def start(experiment: Experiment) -> State:
    return initial_state(experiment.model, inputs=1, outputs=2, seed=0)


def fit(experiment: Experiment, *, seed: int = 1, rule: Rule | None = None, steps: StepFile | None = None, **knobs: Any) -> Fitted:
    knobs = {"factor": 1.0, "records": records_of(), **knobs}
    return fit_adversarial(experiment, start(experiment), knobs["records"], rule=rule or Plain(), factor=knobs["factor"], seed=seed, steps=steps)


def changed(found: State, experiment: Experiment) -> set[str]:
    before = start(experiment)
    return {key.partition(".")[0] for key in before if found[key].tobytes() != before[key].tobytes()}


@pytest.mark.parametrize("name", GAMES)
class TestGame:
    def test_every_weight_belongs_to_one_player(self, name: str) -> None:
        experiment = experiment_of(name)
        network = build(experiment.model, inputs=1, outputs=2)
        assert isinstance(network, Game)
        assert {key.partition(".")[0] for key in start(experiment)} == set(network.players)
        records = records_of()
        losses = [network.loss_of(player, torch.from_numpy(records.inputs), aims_for(network, player, records)) for player in network.players]
        assert all(loss.shape == (6,) and bool((loss.detach() >= 0).all()) for loss in losses)

    def test_a_round_is_each_player_in_turn_with_an_optimiser_of_its_own(self, name: str) -> None:
        experiment, records = experiment_of(name, batch=6), records_of()
        network = build(experiment.model, inputs=1, outputs=2).train()
        network.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in start(experiment).items()})
        torch.manual_seed(1)
        shuffle = torch.Generator().manual_seed(1)
        optimisers = {
            player: torch.optim.AdamW(network.get_submodule(player).parameters(), lr=LR, betas=(BETA, 0.999), weight_decay=0.0)
            for player in network.players
        }
        for _ in range(2):
            chosen = torch.randperm(6, generator=shuffle).tolist()
            taken = records.take(chosen)
            for player in network.players:
                network.zero_grad()
                network.loss_of(player, torch.from_numpy(taken.inputs), aims_for(network, player, taken)).mean().backward()
                optimisers[player].step()
        obvious = {key: value.numpy() for key, value in network.state_dict().items()}
        apart = np.concatenate([np.abs(value - obvious[key]).ravel() for key, value in fit(experiment).state.items()])
        # Adam makes a whole step of the rounding error of a gradient that is nothing, as of a bias before a softmax; processors round unlike.
        assert np.mean(apart < 2e-5) > 0.99
        assert apart.max() < 4 * LR

    def test_the_seed_decides_everything_drawn(self, name: str) -> None:
        experiment = experiment_of(name)
        assert digest(fit(experiment).state) == digest(fit(experiment).state) != digest(fit(experiment, seed=2).state)
        assert digest(fit(experiment, factor=0.5).state) != digest(fit(experiment).state)
        assert changed(fit(experiment).state, experiment) == set(build(experiment.model, inputs=1, outputs=2).players)

    def test_who_is_not_trained_sits_out(self, name: str) -> None:
        experiment = experiment_of(name)
        for player in build(experiment.model, inputs=1, outputs=2).players:
            keys = frozenset(key for key in start(experiment) if key.startswith(f"{player}."))
            assert changed(fit(experiment, rule=resting(Plain(), experiment, keys)).state, experiment) == {player}

    def test_a_killed_round_goes_on_to_the_same_bits(self, name: str, tmp_path: Path) -> None:
        experiment = experiment_of(name, steps=4)
        whole, path = fit(experiment), tmp_path / "step.safetensors"
        with pytest.raises(Stopped):
            fit(experiment, steps=StepFile(path, stopping=path.parent.exists))
        again = fit(experiment, steps=StepFile(path, every_s=1e9))
        assert (digest(again.state), again.loss, again.steps) == (digest(whole.state), pytest.approx(whole.loss, rel=1e-12), whole.steps)


def test_who_learns_maps_rests_where_there_are_none() -> None:
    experiment = experiment_of("rapnet_pipeline")
    bare = replace(records_of(), targets=None)
    assert changed(fit(experiment, records=bare).state, experiment) == {"classifier"}
    with pytest.raises(BadState, match="train_only names weights of a player"):
        keys = frozenset(key for key in start(experiment) if key.startswith("segmenter."))
        fit(experiment, records=bare, rule=resting(Plain(), experiment, keys))


def test_settings_of_training_are_heard() -> None:
    plain = digest(fit(experiment_of()).state)
    uneven = replace(records_of(), labels=np.array([0, 0, 0, 0, 0, 1]))
    noise: list[dict[str, Any]] = [{"name": "noise", "hu": 100.0}]
    heard = [fit(experiment_of(clip_norm=1e-3)), fit(experiment_of(augment=noise)), fit(experiment_of(), rule=FedProx(10.0))]
    assert all(digest(found.state) != plain for found in heard)
    weighed = [digest(fit(experiment_of(class_weights=how), records=uneven).state) for how in ("none", "balanced")]
    assert len(set(weighed)) == 2


def test_a_pull_keeps_all_players_near_the_global_model() -> None:
    experiment = experiment_of(steps=20, optimiser={"name": "sgd", "lr": 0.02})
    far, near = (fit(experiment, rule=rule).state for rule in (Plain(), FedProx(20.0)))
    for player in ("generator", "discriminator"):
        moved = [sum(float(((state[key] - value) ** 2).sum()) for key, value in start(experiment).items() if player in key) for state in (far, near)]
        assert moved[1] < moved[0]


def test_what_cannot_be_played() -> None:
    with pytest.raises(BadCohort, match="at least one patient"):
        fit(experiment_of(), records=records_of(0))
    other = experiment_of().model_copy(update={"model": Choice.model_validate({"name": "mufinet", **TINY["mufinet"]})})
    with pytest.raises(BadState, match="players"):
        fit(other)


class TestWorker:
    def experiment(self) -> Experiment:
        model = Choice.model_validate({"name": "dcgan", **TINY["dcgan"]})
        update = {"model": model, "train": experiment_of(batch=16).train, "strategy": Choice(name="fedavg")}
        return patch_experiment().model_copy(update=update)

    def test_sends_weights_and_five_numbers_and_keeps_its_report(self, tmp_path: Path) -> None:
        worker = Worker(Site.load(patch_site(tmp_path, "alpha", patches=80)))
        job = job_of(self.experiment())
        update = worker.handle(job)
        assert update.code == ""
        assert update.state.keys() == job.state.keys()
        assert not {name for name in update.metrics if name.startswith("drawn")}
        judged = worker.handle(replace(job, kind="judge", state=update.state))
        told = {name: value for name, value in judged.metrics.items() if name.startswith("drawn")}
        assert set(told) == {"drawn_mean_error_hu", "drawn_sd_error", "drawn_pair_ssim", "drawn_memory_ratio", "drawn_frechet"}
        assert judged.state == {}
        assert all(round(value, 4) == value for value in told.values())
        (report,) = (tmp_path / "alpha" / "workspace" / "generation").iterdir()
        assert report.stat().st_mode & 0o777 == 0o600
        assert read_json(report)["memory_ratio"] == pytest.approx(told["drawn_memory_ratio"], abs=1e-4)
        assert digest(worker.handle(job).state) == digest(update.state)  # judging changed nothing

    def test_a_discriminator_may_stay_at_home(self, tmp_path: Path) -> None:
        worker = Worker(Site.load(patch_site(tmp_path, "alpha", patches=80)))
        job = replace(job_of(self.experiment()), rule={"name": "personal", "keep": ["discriminator.*"], "lr_factor": 1.0})
        update = worker.handle(job)
        assert update.code == ""
        assert changed(update.state, self.experiment()) == {"generator"}

    def test_noise_for_privacy_has_no_loop_here(self, tmp_path: Path) -> None:
        worker = Worker(Site.load(patch_site(tmp_path, "alpha", patches=80)))
        document = self.experiment().model_dump(exclude_none=True) | {"privacy": {"unit": "patient", "noise_multiplier": 1.0}}
        update = worker.handle(replace(job_of(self.experiment()), experiment=Experiment.model_validate(document).to_json()))
        assert update.code
        assert update.state == {}
