"""`fedild privacy audit`: attacks succeed on a model that has learnt its patients by heart, fail on a private one, and the card tells."""

from __future__ import annotations

import hashlib
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.privacy.accountant import epsilon
from client.privacy.membership import Attack, attack, within_classes
from client.selection import split_records
from client.site import Site
from client.training.private_sums import fit_private_sums
from client.training.records import Records
from client.training.rules import Plain
from shared_models.bundle import load_bundle, write_bundle
from shared_models.catalogue import build, initial_state
from shared_models.core.errors import BadInput
from shared_models.core.randomness import SecretRandom
from shared_models.experiment import Experiment
from sim.cli import main
from sim.privacy_audit import Effort, audit
from sim.references import sureness_of, sureness_unseen, train_alone
from tests.client.sites import CLASSES, patch_experiment, table_experiment, table_site

KERNEL = {"name": "texture_kernel", "features": 512, "gamma": 5.0, "ridge": 1e-6}


def by_heart(folder: Path, *, patients: int = 160, draw: int = 0) -> tuple[Path, Experiment]:
    """A site whose labels are drawn by lot: what a model knows of them it has learnt by heart."""
    rng = np.random.default_rng(draw)
    folder.mkdir(parents=True)
    label = np.array(CLASSES)[rng.integers(0, 2, patients)]
    names = np.array([f"p{number:03d}" for number in range(patients)])
    np.savez(folder / "patches.npz", hu=rng.normal(-850, 60, (patients, 11, 11)).astype(np.int16), label=label, patient=names)
    (folder / "site.toml").write_text('[site]\nname = "alpha"\npatches = "patches.npz"\n')
    document = patch_experiment(rounds=2).model_dump(exclude_none=True)
    document |= {"model": KERNEL, "strategy": None, "evaluation": {"validation": 0.5, "bootstrap": 0}}
    return folder / "site.toml", Experiment.model_validate(document)


def private_model(experiment: Experiment, training: Records, *, draw: int = 0) -> tuple[Any, float]:
    """A model trained under noise, and the epsilon that it spent."""
    state, spent = initial_state(experiment.model, inputs=1, outputs=2, seed=0), []
    model = build(experiment.model, inputs=1, outputs=2)
    for number in range(2):
        secret = SecretRandom(bytes([draw, number]) * 16)
        fitted = fit_private_sums(experiment, state, training, rule=Plain(), factor=1.0, seed=0, spend=spent.append, secret=secret)
        state = model.combine(state, [fitted.state], [1.0])
    return state, epsilon([(one.sigma, one.q, one.steps) for one in spent], experiment.privacy.delta)


def attacked(experiment: Experiment, state: Any, training: Records, both: Records) -> Attack:
    member = np.arange(len(both)) < len(training)
    return attack(within_classes(sureness_of(experiment, state, both), both.labels), member)


def test_membership_shows_in_a_model_without_noise(tmp_path: Path) -> None:
    toml, experiment = by_heart(tmp_path / "alpha")
    training, validation = split_records(Site.load(toml), experiment)
    plain = attacked(experiment, train_alone(experiment, training, seed=0), training, Records.join([training, validation]))
    assert plain.low > 0.9
    assert plain.caught > 0.5


def test_membership_does_not_show_at_epsilon_8(tmp_path: Path) -> None:
    """The promise: AUROC at most .60 and at most 5 % caught at 1 % false alarms, of a model that learns nothing but its patients.

    Chance spreads the AUROC of one draw of some 80 against 80 patients by 0.045, that of the mean of eight by 0.016.
    """
    found = []
    for draw in range(8):
        toml, experiment = by_heart(tmp_path / f"alpha{draw}", draw=draw)
        training, validation = split_records(Site.load(toml), experiment)
        private = Experiment.model_validate(experiment.model_dump(exclude_none=True) | {"privacy": {"unit": "patient", "noise_multiplier": 0.905}})
        state, spent = private_model(private, training, draw=draw)
        assert 7.5 < spent <= 8
        found.append(attacked(private, state, training, Records.join([training, validation])))
    assert 0.5 < np.mean([one.auroc for one in found]) <= 0.60
    assert np.mean([one.caught for one in found]) <= 0.05


def test_calibration_uses_models_that_never_saw_the_patient(tmp_path: Path) -> None:
    toml, experiment = by_heart(tmp_path / "alpha", patients=80)
    training, validation = split_records(Site.load(toml), experiment)
    both = Records.join([training, validation])
    unseen = sureness_unseen(experiment, both, references=2, seed=0)
    seen = sureness_of(experiment, train_alone(experiment, both, seed=0), both)
    assert unseen.shape == (80,)
    assert seen.mean() > unseen.mean() + 1  # who never saw random labels does not know them
    with pytest.raises(BadInput, match="pairs"):
        sureness_unseen(experiment, both, references=3, seed=0)


def bundle_of(folder: Path, experiment: Experiment, state: Any) -> Path:
    write_bundle(folder, state=state, experiment=experiment, card={"training": {"patients": 9}})
    return folder


def test_the_figures_stand_in_the_card_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    toml, experiment = by_heart(tmp_path / "alpha")
    training, _ = split_records(Site.load(toml), experiment)
    folder = bundle_of(tmp_path / "bundle", experiment, train_alone(experiment, training, seed=0))
    before = load_bundle(folder)
    monkeypatch.setattr(sys, "argv", ["fedild", "privacy", "audit", str(folder), "--site", str(toml)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    after = load_bundle(folder)
    found = after.card["privacy_audit"]
    assert found["command"] == "fedild privacy audit BUNDLE --site alpha --canaries 1000 --references 0 --victims 8 --seed 0"
    assert found["bundle"] == before.digest[:12] != after.digest[:12]
    assert found["membership alpha by loss: AUROC"]["low"] > 0.9
    assert found["membership alpha calibrated"] is None
    assert found["canary audit"].startswith("not applicable")
    assert after.card["training"] == {"patients": 9}
    page = (folder / "CARD.md").read_text()
    assert "- membership alpha calibrated: unknown" in page
    assert str(tmp_path) not in page
    assert "95 % interval" in capsys.readouterr().out
    assert all((after.state[key] == before.state[key]).all() for key in before.state)


def test_networks_of_tables_are_inverted_in_clear_alone(tmp_path: Path) -> None:
    toml = table_site(tmp_path, "alpha", patients=60)
    document = table_experiment().model_dump(exclude_none=True)
    experiment = Experiment.model_validate(document | {"model": {"name": "linear"}})
    folder = bundle_of(tmp_path / "bundle", experiment, initial_state(experiment.model, inputs=2, outputs=2, seed=0))
    found = audit(folder, [toml], effort=Effort(canaries=0, victims=6))
    said = {name.partition(", ")[2]: words for name, words in found.items() if name.startswith("inversion")}
    assert said["in clear"].startswith("works: recognised")
    assert said["differential privacy (sigma 1)"].startswith("fails")
    assert said["secure sum"].startswith("fails")


@pytest.mark.parametrize("noise", [2.0, 40.0])
def test_the_canary_audit_says_what_it_could_have_seen(noise: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()  # what the operating system draws, the same each time: an audit is wrong once in twenty
    monkeypatch.setattr("os.urandom", lambda size: hashlib.shake_256(b"%d" % next(numbers)).digest(size))
    toml, experiment = by_heart(tmp_path / "alpha")
    private = Experiment.model_validate(experiment.model_dump(exclude_none=True) | {"privacy": {"unit": "patient", "noise_multiplier": noise}})
    folder = bundle_of(tmp_path / "bundle", private, initial_state(private.model, inputs=1, outputs=2, seed=0))
    found = audit(folder, [toml], effort=Effort(canaries=600, victims=0))
    assert found["canary audit"] == "the trainer does what it claims"
    assert "half the noise: caught" in found["canary power"]
    assert ("a clip of thrice the length: caught" in found["canary power"]) is (noise == 2.0)  # under much noise nobody can see it: it says so


def test_nobody_is_audited_where_few_are(tmp_path: Path) -> None:
    toml = table_site(tmp_path, "alpha", patients=16)
    experiment = table_experiment()
    folder = bundle_of(tmp_path / "bundle", experiment, initial_state(experiment.model, inputs=2, outputs=2, seed=0))
    found = audit(folder, [toml])
    assert found["membership alpha"].startswith("unknown: fewer than 10")
    assert audit(folder)["membership attack"] is None
