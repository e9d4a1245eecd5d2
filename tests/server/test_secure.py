"""The secure sum from end to end of the protocol: right for every pattern of dropouts, and blind to single updates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.runs.secure import SecureSum
from shared_models.core.choices import Choice
from shared_models.core.errors import BadState
from shared_models.experiment import Experiment
from shared_models.messages import Job
from shared_models.secure_sum.vector import Part, step
from tests.server.secure_sites import NAMES, Line, Ward, experiment_of, weights

CURRENT = {"a.w": np.linspace(-1, 1, 3000).reshape(30, 100), "b": np.zeros(7), "seen": np.array(40)}
CASES = dict(zip(NAMES, (31, 12, 118, 57, 23), strict=True))


def wards_of(folder: Path, experiment: Experiment, names: tuple[str, ...] = NAMES) -> dict[str, Ward]:
    def part(name: str) -> Any:
        return lambda job: Part(weights(name, job.state), CASES[name], {"val_loss": (CASES[name] // 3, CASES[name] / 100)})

    return {name: Ward(folder, name, part(name), experiment) for name in names}


def plain_mean(names: list[str], equal: bool = False) -> dict[str, np.ndarray]:
    share = np.array([1.0 if equal else CASES[name] for name in names])
    found = {key: np.average([weights(name, CURRENT)[key] for name in names], axis=0, weights=share) for key in CURRENT}
    return {**found, "seen": np.rint(found["seen"])}


def fit(round: int = 1) -> Job:
    return Job(run="r", round=round, kind="fit", state=CURRENT, rule={"name": "plain"})


ONE, TWO = {"beta"}, {"alpha", "gamma"}
DROPOUTS: dict[str, dict[str, set[str]]] = {
    "nobody is lost": {},
    **{f"{len(lost)} lost in {stage}": {stage: lost} for stage in ("keys", "shares", "fit", "unmask") for lost in (ONE, TWO)},
    "1 lost in fit, 1 in agree": {"fit": {"delta"}, "agree": ONE},
    "1 lost in fit, 1 in unmask": {"fit": {"delta"}, "unmask": ONE},
    "1 lost in shares, 1 in fit": {"shares": {"delta"}, "fit": ONE},
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_the_sum_is_the_plain_one_whoever_drops_out(name: str, tmp_path: Path) -> None:
    silent = DROPOUTS[name]
    experiment = experiment_of()
    line = Line(wards_of(tmp_path, experiment), silent=silent)
    found = SecureSum(experiment, run="r").sum(fit(), line, sites=NAMES, current=CURRENT)
    left = [site for site in NAMES if not any(site in silent.get(stage, ()) for stage in ("keys", "shares", "fit"))]
    assert found.total is not None
    mean = plain_mean(left)
    bound = step(experiment, sites=len(NAMES) - len(silent.get("keys", ())), weight=sum(CASES[site] for site in left))
    for key in CURRENT:
        assert np.abs(found.total.state[key] - mean[key]).max() <= bound, key
    assert bound < 1e-5
    assert found.total.state["seen"] == mean["seen"]
    assert found.total.cases == sum(CASES[site] for site in left)
    behind = {site: CASES[site] // 3 for site in left}
    assert found.total.metrics["val_cases"] == sum(behind.values())
    assert found.total.metrics["val_loss"] == pytest.approx(sum(behind[s] * CASES[s] / 100 for s in left) / sum(behind.values()), abs=1e-12)
    assert set(found.bytes) == set(left)
    kinds = [kind for kind, _ in line.transcript]
    assert ("agree" in kinds) == ("fit" in silent)


@pytest.mark.parametrize("stage", ["keys", "shares", "fit", "agree", "unmask"])
def test_more_losses_than_the_threshold_allows_give_nothing(stage: str, tmp_path: Path) -> None:
    experiment = experiment_of()
    silent = {stage: set(NAMES[:3])} | ({"fit": {"gamma"}} if stage == "agree" else {})
    line = Line(wards_of(tmp_path, experiment), silent=silent)
    found = SecureSum(experiment, run="r").sum(fit(), line, sites=NAMES, current=CURRENT)
    assert found.total is None
    assert stage != "unmask" or set(found.refused.values()) == {"E_UNMASK"}
    assert stage == "unmask" or all(kind != "unmask" for kind, _ in line.transcript)


def test_one_exchange_of_keys_serves_several_rounds(tmp_path: Path) -> None:
    experiment = experiment_of(ahead=3)
    line = Line(wards_of(tmp_path, experiment))
    secure = SecureSum(experiment, run="r")
    for round in range(1, 5):
        found = secure.sum(fit(round), line, sites=NAMES, current=CURRENT)
        assert found.total is not None
        np.testing.assert_allclose(found.total.state["b"], plain_mean(list(NAMES))["b"], atol=1e-5)
    assert [kind for kind, _ in line.transcript[::5]] == [*("keys", "shares"), *("fit", "unmask") * 3, *("keys", "shares"), *("fit", "unmask")]
    line.silent = {"fit": {"alpha"}}
    lost = secure.sum(fit(5), line, sites=NAMES, current=CURRENT)
    line.silent = {}
    back = secure.sum(fit(6), line, sites=NAMES, current=CURRENT)
    assert lost.total is not None
    assert back.total is not None
    assert (lost.total.cases, back.total.cases) == (sum(CASES.values()) - CASES["alpha"], sum(CASES.values()))


def test_a_site_that_comes_and_one_that_lost_its_secrets_give_a_new_group(tmp_path: Path) -> None:
    experiment = experiment_of()
    wards = wards_of(tmp_path, experiment)
    line, secure = Line(wards), SecureSum(experiment, run="r")
    assert secure.sum(fit(1), line, sites=NAMES[:4], current=CURRENT).total is not None
    assert secure.sum(fit(2), line, sites=NAMES, current=CURRENT).total is not None
    assert [kind for kind, _ in line.transcript].count("keys") == 9
    for path in (tmp_path / "beta" / "secure-sum").glob("*-*.json"):
        path.unlink()
    without = secure.sum(fit(3), line, sites=NAMES, current=CURRENT)
    assert without.refused == {"beta": "E_MASK_GROUP"}
    with_all = secure.sum(fit(4), line, sites=NAMES, current=CURRENT)
    assert with_all.total is not None
    assert with_all.total.cases == sum(CASES.values())


def test_equal_votes(tmp_path: Path) -> None:
    experiment = experiment_of(Choice.model_validate({"name": "fedavg", "weighting": "equal"}))
    found = SecureSum(experiment, run="r").sum(fit(), Line(wards_of(tmp_path, experiment)), sites=NAMES, current=CURRENT)
    assert found.total is not None
    np.testing.assert_allclose(found.total.state["a.w"], plain_mean(list(NAMES), equal=True)["a.w"], rtol=0, atol=2**-27)


def test_exact_sums_are_exact(tmp_path: Path) -> None:
    experiment = experiment_of()
    rng = np.random.default_rng(0)
    sums = {
        name: {"counts": rng.integers(0, 10**6, 4).astype(float), "gram": rng.normal(0, 1, (6, 6)) * 10.0 ** rng.integers(-6, 9, (6, 6))}
        for name in NAMES
    }
    wards = {name: Ward(tmp_path, name, lambda job, name=name: Part(sums[name], CASES[name], {}), experiment, gradient=False) for name in NAMES}
    line = Line(wards, silent={"fit": {"gamma"}})
    found = SecureSum(experiment, run="r").sum(fit(), line, sites=NAMES, current=None)
    assert found.total is not None
    left = [name for name in NAMES if name != "gamma"]
    assert (found.total.state["counts"] == sum(sums[name]["counts"] for name in left)).all()
    np.testing.assert_allclose(found.total.state["gram"], sum(sums[name]["gram"] for name in left), rtol=1e-15, atol=1e-16)


def test_what_the_server_sees_tells_nothing_of_one_update(tmp_path: Path) -> None:
    experiment, current = experiment_of(), {"w": np.zeros(100_000, np.float32)}  # chance alone gives correlations of about 0.003
    line = Line(wards_of(tmp_path, experiment), silent={"fit": {"beta"}})
    assert SecureSum(experiment, run="r").sum(replace(fit(), state=current), line, sites=NAMES, current=current).total is not None
    seen = 0
    for kind, update in line.transcript:
        assert (update.num_cases, update.steps, update.metrics) == (0, 0, {})
        if kind != "fit":
            assert not update.state
            assert sum(array.nbytes for array in update.extra.values()) < 10_000
            continue
        seen += 1
        true, words = weights(update.site, current)["w"], update.state["change"]
        for view in (words.astype(float), words.view(np.int32).astype(float), (words >> 31).astype(float)):
            assert abs(np.corrcoef(view, true)[0, 1]) <= 0.05
        histogram = np.bincount(words >> 29, minlength=8)
        assert ((histogram - words.size / 8) ** 2 / (words.size / 8)).sum() < 40  # chi-square with 7 degrees of freedom
    assert seen == 4


def test_the_same_check_sees_an_update_in_clear(tmp_path: Path) -> None:
    from shared_models.secure_sum.vector import encode

    part = Part(weights("alpha", CURRENT), 31, {})
    words = encode(part, CURRENT, experiment_of(), sites=5)["change"][:3000].view(np.int32).astype(float)
    assert abs(np.corrcoef(words, (part.state["a.w"] - CURRENT["a.w"]).ravel())[0, 1]) > 0.99


def test_a_total_that_cannot_be_is_no_total(tmp_path: Path) -> None:
    experiment = experiment_of()

    def refuse(state: Any) -> Any:
        raise BadState("no")

    found = SecureSum(experiment, run="r").sum(fit(), Line(wards_of(tmp_path, experiment)), sites=NAMES, current=CURRENT, check=refuse)
    assert found.total is None
    assert set(found.refused.values()) == {"E_SUM"}


def test_wrong_shares_of_one_site_are_outvoted(tmp_path: Path) -> None:
    experiment = experiment_of()
    wards = wards_of(tmp_path, experiment)
    true = wards["alpha"].handle

    def liar(job: Job) -> Any:
        update = true(job)
        if job.kind == "unmask":
            for key, value in update.extra.items():
                update.extra[key] = value ^ 1
        return update

    wards["alpha"].handle = liar  # type: ignore[method-assign]
    found = SecureSum(experiment, run="r").sum(fit(), Line(wards, silent={"fit": {"beta"}}), sites=NAMES, current=CURRENT)
    assert found.total is not None
    np.testing.assert_allclose(found.total.state["b"], plain_mean(["alpha", "delta", "epsilon", "gamma"])["b"], atol=1e-5)


def test_a_site_with_anothers_key_or_a_bad_signature_does_not_spoil_the_group(tmp_path: Path) -> None:
    experiment = experiment_of()
    wards = wards_of(tmp_path, experiment)
    true, keys = wards["beta"].handle, wards["alpha"].handle

    def copies(job: Job) -> Any:
        return true(job) if job.kind != "keys" else replace(keys(job), site="beta")

    wards["beta"].handle = copies  # type: ignore[method-assign]
    found = SecureSum(experiment, run="r").sum(fit(), Line(wards), sites=NAMES, current=CURRENT)
    assert found.total is not None
    assert found.refused == {"beta": "E_MASK_KEYS"}
