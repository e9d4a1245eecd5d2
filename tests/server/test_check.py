"""The update check: a table of what may come in, each with its code, and the others' model bit-equal to a run without that site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.runs.check import check_update
from server.runs.checkpoint import RoundState
from server.runs.rounds import RoundRecord, run_rounds
from server.strategies.fedavg import fedavg
from shared_models.catalogue import build
from shared_models.core.choices import Choice
from shared_models.core.errors import Refused
from shared_models.core.state import digest
from shared_models.experiment import Data, Experiment, Federation
from shared_models.messages import Job, Update
from tests.server.loop_grid import LoopGrid

CURRENT = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3), "n": np.array(4)}


def honest(job: Job, site: str = "evil") -> Update:
    shift = 1 + sum(map(ord, site)) % 7
    state = {k: v + np.asarray(shift, v.dtype) for k, v in job.state.items()}
    return Update(run=job.run, round=job.round, site=site, state=state, num_cases=10 + shift, steps=2, metrics={"val_loss": 0.5})


def weights(job: Job, **arrays: np.ndarray) -> Update:
    good = honest(job)
    return replace(good, state={**good.state, **arrays})


def one(value: float) -> np.ndarray:
    array = np.zeros((2, 3), np.float32)
    array[1, 2] = value
    return array


BAD: dict[str, tuple[str, Callable[[Job], Update]]] = {
    "one NaN": ("E_VALUES", lambda job: weights(job, w=one(np.nan))),
    "one infinity": ("E_VALUES", lambda job: weights(job, w=one(-np.inf))),
    "an infinite double": ("E_VALUES", lambda job: weights(job, b=np.full(3, np.inf))),
    "one 1e30": ("E_NORM", lambda job: weights(job, w=one(1e30))),
    "one 1e300": ("E_NORM", lambda job: weights(job, b=np.full(3, 1e300))),
    "a change just too large": ("E_NORM", lambda job: weights(job, w=job.state["w"] + one(1001.0))),
    "a shape that would be broadcast": ("E_LAYOUT", lambda job: weights(job, w=np.ones(1, np.float32))),
    "a row too few": ("E_LAYOUT", lambda job: weights(job, w=np.ones((1, 3), np.float32))),
    "another order of axes": ("E_LAYOUT", lambda job: weights(job, w=np.ones((3, 2), np.float32))),
    "doubles for floats": ("E_LAYOUT", lambda job: weights(job, w=np.ones((2, 3)))),
    "a fraction for a counter": ("E_LAYOUT", lambda job: weights(job, n=np.array(4.5))),
    "a further key": ("E_LAYOUT", lambda job: weights(job, more=np.ones(1, np.float32))),
    "a missing key": ("E_LAYOUT", lambda job: replace(honest(job), state={"w": job.state["w"]})),
    "no arrays": ("E_LAYOUT", lambda job: replace(honest(job), state={})),
    "NaN among the further arrays": ("E_VALUES", lambda job: replace(honest(job), extra={"c": np.array([np.nan])})),
    "no patients": ("E_WEIGHT", lambda job: replace(honest(job), num_cases=0)),
    "minus nine patients": ("E_WEIGHT", lambda job: replace(honest(job), num_cases=-9)),
    "a billion thousand patients": ("E_WEIGHT", lambda job: replace(honest(job), num_cases=10**12)),
    "minus one step": ("E_WEIGHT", lambda job: replace(honest(job), steps=-1)),
    "another run": ("E_ROUND", lambda job: replace(honest(job), run="0" * 16)),
    "the last round": ("E_ROUND", lambda job: replace(honest(job), round=job.round - 1)),
    "the next round": ("E_ROUND", lambda job: replace(honest(job), round=job.round + 1)),
    "another site's name": ("E_SITE", lambda job: replace(honest(job), site="alpha")),
    "no name": ("E_SITE", lambda job: replace(honest(job), site="")),
    "a refusal": ("E_POLICY_MODEL", lambda job: Update(run=job.run, round=job.round, site="evil", code="E_POLICY_MODEL")),
}
# What a hostile site may send instead of an update at all is in test_messages; here it is the site that is named.
JOB = Job(run="r1", round=3, kind="fit", state=CURRENT)


@pytest.mark.parametrize("name", [name for name in BAD if name != "a refusal"])
def test_each_kind_of_bad_update_has_its_code(name: str) -> None:
    code, make = BAD[name]
    with pytest.raises(Refused) as refused:
        check_update(make(JOB), run="r1", round=3, site="evil", current=CURRENT, model=None, max_norm=1000.0)
    assert refused.value.code == code


def test_a_good_update_passes_with_the_norm_of_its_change() -> None:
    change = check_update(
        weights(JOB, w=one(3.0), b=np.array([4.0, 0, 0]), n=np.array(99)), run="r1", round=3, site="evil", current=CURRENT, model=None, max_norm=5.0
    )
    assert change == pytest.approx(5.0)


def test_contributions_are_checked_by_their_model() -> None:
    model = build(Choice(name="logistic"), inputs=2, outputs=2)
    state = model.start(seed=0)
    sums = model.contribution(state, np.ones((3, 2)), np.zeros(3, int), seed=0)
    update = Update(run="r1", round=3, site="evil", state=sums, num_cases=3, steps=1)
    arguments = {"run": "r1", "round": 3, "site": "evil", "current": state, "model": model, "max_norm": 1.0}
    assert check_update(update, **arguments) == 0.0
    with pytest.raises(Refused) as refused:
        check_update(replace(update, state={**sums, "n": np.array([-3.0])}), **arguments)
    assert refused.value.code == "E_LAYOUT"


def run(folder: Path, sites: dict[str, Callable[[Job], Update]]) -> tuple[RoundState, list[RoundRecord]]:
    experiment = Experiment(
        name="check",
        data=Data(classes=("a", "b")),
        model=Choice(name="mil_cnn"),
        federation=Federation(rounds=2, quorum=3, deadline_s=5, max_update_norm=1000),
    )
    grid, records = LoopGrid(sites), []
    roster = dict(grid.names)
    start = RoundState("0123", 0, CURRENT, {}, experiment.digest)
    final = run_rounds(
        fedavg(None),
        grid,
        start,
        experiment=experiment,
        roster=roster,
        model=None,
        folder=folder,
        on_round=lambda r, at: records.append(r),
        durable=False,
    )
    return final, records


GOOD = {name: (lambda job, name=name: honest(job, name)) for name in ("alpha", "beta", "gamma")}


@pytest.mark.parametrize("name", BAD)
def test_the_others_get_the_model_they_would_have_without_the_bad_site(name: str, tmp_path: Path) -> None:
    code, make = BAD[name]
    without, _ = run(tmp_path / "without", GOOD)
    final, records = run(tmp_path / "with", {**GOOD, "evil": make})
    assert digest(final.state) == digest(without.state)
    for record in records:
        assert record.sites["evil"].refused == code
        assert record.missing == ["evil"]
        assert record.degraded
        assert all(record.sites[site].refused is None for site in GOOD)


def test_a_good_fourth_site_does_change_the_model(tmp_path: Path) -> None:
    without, _ = run(tmp_path / "without", GOOD)
    final, records = run(tmp_path / "with", {**GOOD, "evil": honest})
    assert digest(final.state) != digest(without.state)
    assert not any(record.degraded for record in records)
