"""One of five sites lies: robust strategies hold, plain averaging does not; a backdoor and what norm bounding makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.hostile import ROBUST, auroc, one, records_of, setting
from client.training.records import Records
from shared_models.core.errors import BadInput
from shared_models.experiment import Experiment
from sim.hostile import ATTACKS, CornerPatch, SignFlip, federate_with

Ground = tuple[Experiment, dict[str, Records], Records]


@pytest.fixture(scope="module")
def ground() -> Ground:
    experiment, hu, labels, _ = setting(smoke=True, rounds=4)
    site = np.arange(len(labels)) % 6  # the sixth part is held out
    return experiment, {f"site{n}": records_of(hu, labels, site == n) for n in range(5)}, records_of(hu, labels, site == 5)


@pytest.fixture(scope="module")
def honest(ground: Ground) -> float:
    experiment, parts, away = ground
    value = auroc(experiment, one(experiment, "fedavg", parts, {}), away)
    assert value > 0.85
    return value


@pytest.mark.parametrize("method", ROBUST)
def test_robust_methods_hold_under_a_turned_update(method: str, ground: Ground, honest: float) -> None:
    experiment, parts, away = ground
    assert auroc(experiment, one(experiment, method, parts, {"site0": SignFlip(10.0)}), away) >= honest - 0.03


def test_plain_averaging_does_not(ground: Ground, honest: float) -> None:
    experiment, parts, away = ground
    assert auroc(experiment, one(experiment, "fedavg", parts, {"site0": SignFlip(10.0)}), away) < honest - 0.3


def test_a_backdoor_opens_under_averaging_and_less_under_norm_bounding(ground: Ground) -> None:
    experiment, parts, away = ground
    door = CornerPatch(target=1)
    rates = {m: door.success(experiment, one(experiment, m, parts, {"site0": door}), away) for m in ("fedavg", "norm_bound")}
    print(f"success of the backdoor: {rates['fedavg']:.2f} under fedavg, {rates['norm_bound']:.2f} with norm bounding")
    assert rates["fedavg"] > 0.7
    assert rates["norm_bound"] < 0.5 * rates["fedavg"]


def test_the_square_lies_where_it_is_said_and_carries_the_target() -> None:
    records = Records(np.zeros((40, 1, 8, 8), np.float32), np.zeros(40, np.int64), tuple(map(str, range(40))))
    poisoned = CornerPatch(target=1, size=3, value=5.0, share=0.5).poison(records, seed=1)
    marked = poisoned.labels == 1
    assert 5 < marked.sum() < 35
    assert (poisoned.inputs[marked][..., :3, :3] == 5).all() and poisoned.inputs[marked].sum() == marked.sum() * 45
    assert not poisoned.inputs[~marked].any() and not records.inputs.any()


def test_attacks_on_updates_by_hand() -> None:
    trained, received = {"w": np.array([3.0]), "n": np.array([7])}, {"w": np.array([1.0]), "n": np.array([5])}
    assert SignFlip(10.0).send(trained, received)["w"] == [-19.0]
    assert CornerPatch(0, times=5.0).send(trained, received)["w"] == [11.0]
    assert SignFlip().send(trained, received)["n"] == [7]
    assert set(ATTACKS) == {"sign_flip", "corner_patch"}


def test_updates_beyond_the_agreed_norm_are_refused_and_strangers_named(ground: Ground, tmp_path: Path) -> None:
    experiment, parts, _ = ground
    tight = experiment.model_copy(update={"federation": experiment.federation.model_copy(update={"rounds": 1, "max_update_norm": 1.0})})
    assert federate_with(tight, parts, {"site0": SignFlip(1e4)}, tmp_path)[1] == 1
    with pytest.raises(BadInput, match="takes part"):
        federate_with(tight, parts, {"nobody": SignFlip()}, tmp_path)
