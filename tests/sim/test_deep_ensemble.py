"""Deep ensembles: members vote, disagree about strangers, and are the same experiment but for the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.disagreement import disagreement_of
from client.training import FITTERS, PREDICTORS
from client.training.records import Records
from client.training.rules import Plain
from shared_models.bundle import Bundle, load_bundle, write_bundle
from shared_models.catalogue import initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import BadInput
from shared_models.ensemble import members_of
from shared_models.ensembles.disagreement import disagreement, entropy
from shared_models.experiment import Data, Experiment, Inputs, Train
from shared_models.metrics import score
from sim.deep_ensemble import united, write_ensemble

COLUMNS = ("a", "b", "c", "d")


def experiment_of(seed: int, **sections: object) -> Experiment:
    train = Train(steps=30, batch=32, optimiser=Choice.model_validate({"name": "adamw", "lr": 0.02}), schedule="constant")
    knobs = {"name": "multimodal", "width": 16, "hidden": 16, "dropout": 0.0, "modality_dropout": 0.0}
    settings = {
        "data": Data(kind="table", classes=("a", "b")),
        "inputs": Inputs(columns=COLUMNS),
        "model": Choice.model_validate(knobs),
        "train": train,
    }
    return Experiment(name="x", seed=seed, **{**settings, **sections})  # type: ignore[arg-type]


def site(seed: int, count: int, away: float = 0.0) -> Records:
    """Patients of a hospital; `away` moves the column that no label hangs on, as another scanner would."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4))
    y = (x[:, 0] * x[:, 1] + 0.5 * x[:, 2] + 0.3 * rng.normal(size=count) > 0).astype(np.int64)
    return Records(x + np.array([0, 0, 0, away]), y, tuple(f"{seed}-{number}" for number in range(count)))


def member(seed: int) -> Bundle:
    experiment = experiment_of(seed)
    state = initial_state(experiment.model, inputs=4, outputs=2, seed=seed)
    for number in range(2):
        parts = [FITTERS["gradient"](experiment, state, site(k, 150), rule=Plain(), factor=1.0, seed=10 * seed + number).state for k in (1, 2, 3)]
        state = {key: np.mean([part[key] for part in parts], axis=0).astype(state[key].dtype) for key in state}
    return Bundle(state, experiment, {"trained_on": "phantoms"}, str(seed))


def test_members_disagree_where_training_left_them_free_and_vote_better_than_most() -> None:
    members = [member(seed) for seed in range(5)]
    state, experiment = united(members), members[0].experiment
    home, away = site(9, 300), site(10, 300, away=8.0)
    each = np.concatenate([disagreement_of(experiment, state, records) for records in (home, away)])
    strangers = np.repeat([0, 1], 300)
    p = np.clip(each / each.max(), 0, 1)
    area = score(strangers, np.column_stack([1 - p, p]), ("home", "away"), metrics=("auroc_macro",), bootstrap=0)["auroc_macro"]["value"]
    assert area >= 0.7, area

    def log_loss(whole: dict[str, np.ndarray]) -> float:
        found = PREDICTORS["gradient"](experiment, whole, home)
        return float(-np.log(found[np.arange(300), home.labels]).mean())

    alone = [log_loss(one.state) for one in members]
    assert log_loss(state) <= np.mean(alone) + 1e-9 and log_loss(state) <= min(alone) + 0.005
    assert not disagreement_of(experiment, members[0].state, home).any()


def test_mutual_information_against_its_definition() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(3), size=(4, 50))
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    slow = [sum(w * p[m, n, c] * np.log(p[m, n, c] / (weights @ p[:, n, c])) for m, w in enumerate(weights) for c in range(3)) for n in range(50)]
    np.testing.assert_allclose(disagreement(p, weights), slow, atol=1e-12)
    assert (disagreement(p) <= entropy(p.mean(0)) + 1e-12).all() and (disagreement(np.stack([p[0]] * 3)) < 1e-12).all()


def test_a_bundle_of_all_members(tmp_path: Path) -> None:
    folders = []
    for seed in (0, 1):
        experiment = experiment_of(seed)
        folders.append(tmp_path / f"run{seed}")
        folders[-1].mkdir()
        state = initial_state(experiment.model, inputs=4, outputs=2, seed=seed)
        write_bundle(folders[-1], state=state, experiment=experiment, card={"trained_on": "phantoms", "limits": ["of phantoms"]})
    write_ensemble(folders, tmp_path / "all")
    whole = load_bundle(tmp_path / "all")
    assert len(members_of(whole.state)) == 2 and whole.card["trained_on"] == "phantoms" and whole.card["ensemble"]["seeds"] == [0, 1]
    assert "judged on no held-out hospital" in whole.card["limits"][-1]
    with pytest.raises(BadInput, match="new or empty"):
        write_ensemble(folders, tmp_path / "all")


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ((), "at least two"),
        ((experiment_of(0),), "different seeds"),
        ((experiment_of(1, train=Train(steps=31)),), "seeds alone"),
    ],
)
def test_what_is_no_ensemble_is_refused(others: tuple[Experiment, ...], words: str) -> None:
    bundles = [Bundle({"w": np.ones(1)}, one, {}, "x") for one in (experiment_of(0), *others)]
    with pytest.raises(BadInput, match=words):
        united(bundles)


def test_members_with_a_fit_of_their_own_are_refused() -> None:
    scaled = [experiment_of(seed, statistics=(Choice(name="scaler"),)) for seed in (0, 1)]
    with pytest.raises(BadInput, match="of their own"):
        united([Bundle({"w": np.ones(1)}, one, {}, "x") for one in scaled])
    forests = [experiment_of(seed, model=Choice(name="forest")) for seed in (0, 1)]
    with pytest.raises(BadInput, match="are networks"):
        united([Bundle({"w": np.ones(1)}, one, {}, "x") for one in forests])
