"""Every line of STATISTICS: sums over sites give the fit of all records in one place, and what no records can have is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.private_sums import clipped_sums
from client.training.records import Records
from shared_models.blocks.fuzzy import LEVELS_HU
from shared_models.blocks.spec import PrivateSums
from shared_models.core.arrays import State
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadChoice, BadState
from shared_models.core.state import is_finite, same_layout
from shared_models.harmonisation.landmarks import BINS
from shared_models.secure_sum.fixed_point import decode_exact, encode_exact, rest_bits
from shared_models.statistics import STATISTICS
from shared_models.statistics.spec import Statistic

COLUMNS = ("a", "b", "c", "d", "e")
KNOBS: dict[str, dict[str, Any]] = {"pca": {"components": 3}, "combat": {"covariates": ("e",)}, "life_table": {"causes": 2}}
NOT_POOLED = {"combat"}
"""Statistics for which it matters who is of one site: `tests/shared_models/harmonisation` has their pooled fit."""


def built(name: str, **knobs: Any) -> Statistic:
    choice = Choice.model_validate({"name": name, **KNOBS.get(name, {}), **knobs})
    return pick(STATISTICS, choice, kind="statistic", get=lambda spec: spec.build)(COLUMNS)


def rows(name: str, seed: int, count: int) -> np.ndarray:
    """Rows of a site: columns of sizes from 1e-3 to 1e6 far from 0, columns alike for components, or histograms."""
    rng = np.random.default_rng(seed)
    if STATISTICS[name].takes == "study":
        levels = len(LEVELS_HU) if name == "fuzzy_centres" else BINS
        histograms = rng.random((count, levels)) * (rng.random((count, levels)) > 0.9)
        return histograms / histograms.sum(1, keepdims=True)
    if name == "pca":
        return rng.normal(0, [1, 2, 4, 8, 16], (count, 5)) + rng.normal(20, 3, 5)
    return (rng.normal(0, 1, (count, 5)) @ rng.normal(0, 1, (5, 5)) + rng.normal(seed % 7, 3, 5)) * [1e-3, 1, 30, 1e4, 1e6] + [5, -800, 0, 1e5, 1e8]


def contributed(statistic: Statistic, state: State, x: np.ndarray) -> State:
    if "at_risk" in state:  # what became of a patient hangs on the row alone, wherever the row lies
        course = np.column_stack([np.abs(x[:, 0]) * 1e3 % 6, np.abs(x[:, 1]) * 1e3 % 3 // 1, np.zeros(len(x))])
        return statistic.contribution(state, x, course, seed=0)
    return statistic.contribution(state, x, np.zeros(len(x), np.int64), seed=0)


def fitted(name: str, sites: list[np.ndarray], *, exact: bool = False) -> State:
    """Run the rounds; with `exact` through the words of the secure sum."""
    statistic = built(name)
    state = statistic.start(seed=0)
    for _ in range(STATISTICS[name].rounds):
        sums = [contributed(statistic, state, x) for x in sites]
        for part in sums:
            statistic.check(part, state)
        if exact:
            words = {key: sum(encode_exact(part[key], sites=len(sites)) for part in sums) for key in sums[0]}
            sums = [{key: decode_exact(np.asarray(value), sites=len(sites)) for key, value in words.items()}]
            statistic.check(sums[0], state)
        state = statistic.combine(state, sums, [1.0] * len(sums))
    return state


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_a_statistic_keeps_its_layout(name: str) -> None:
    statistic, sites = built(name), [rows(name, seed, 20) for seed in range(3)]
    same_layout(fitted(name, sites), statistic.start(seed=0))
    if STATISTICS[name].takes == "table":
        fit = fitted(name, sites)
        seen = statistic.seen(fit, statistic.own(fit, sites[0]), sites[0])
        assert seen.shape == (20, len(statistic.columns_after())) and np.isfinite(seen).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999), st.sampled_from([(40, 25, 60), (3, 90), (2, 1, 7, 30)]), st.sampled_from(sorted(set(STATISTICS) - NOT_POOLED)))
def test_sums_over_sites_give_the_pooled_fit(seed: int, sizes: tuple[int, ...], name: str) -> None:
    sites = [rows(name, seed + number, size) for number, size in enumerate(sizes)]
    one, other = fitted(name, sites), fitted(name, [np.concatenate(sites)])
    for key in one:
        np.testing.assert_allclose(one[key], other[key], rtol=1e-8, atol=1e-8 * float(np.abs(other[key]).max()))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 999), st.sampled_from(sorted(STATISTICS)), st.integers(3, 6))
def test_the_secure_sum_moves_a_fit_by_its_quantisation_alone(seed: int, name: str, count: int) -> None:
    sites = [rows(name, seed + number, 20) for number in range(count)]
    statistic = built(name)
    sums = [contributed(statistic, statistic.start(seed=0), x) for x in sites]
    for key in sums[0]:
        clear = np.sum([part[key] for part in sums], axis=0)
        masked = decode_exact(np.asarray(sum(encode_exact(part[key], sites=count) for part in sums)), sites=count)
        bound = count * 2.0 ** -(rest_bits(count) + 1) + (count + 1) * 2.0**-53 * np.sum([np.abs(part[key]) for part in sums], axis=0)
        assert (np.abs(masked - clear) <= bound).all()
    one, other = fitted(name, sites, exact=True), fitted(name, sites)
    for key in one:
        np.testing.assert_allclose(one[key], other[key], rtol=1e-8, atol=1e-8 * float(np.abs(other[key]).max()))


def test_scaler_and_components_are_those_of_numpy() -> None:
    x = np.concatenate(sites := [rows("pca", seed, 30) for seed in range(3)])
    scaler, fit = built("scaler"), fitted("scaler", sites)
    np.testing.assert_allclose(fit["mean"], x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fit["scale"], x.std(0), rtol=1e-10)
    z = scaler.seen(fit, {}, x)
    np.testing.assert_allclose([z.mean(0), z.std(0)], [np.zeros(5), np.ones(5)], atol=1e-9)
    pca, components = built("pca", whiten=True), fitted("pca", [scaler.seen(fit, {}, site) for site in sites])
    singular = np.linalg.svd(z, compute_uv=False)
    np.testing.assert_allclose(components["variance"], singular[:3] ** 2 / len(z), rtol=1e-10)
    scores = pca.seen(components, {}, z)
    np.testing.assert_allclose(np.cov(scores.T, bias=True), np.eye(3), atol=1e-9)


def test_a_column_that_never_varies_is_only_centred() -> None:
    x = np.column_stack([np.full(10, 3e7), np.arange(10.0), np.zeros(10), np.arange(10.0) ** 2, np.ones(10)])
    scaler, fit = built("scaler"), fitted("scaler", [x[:4], x[4:]])
    assert fit["scale"][[0, 2, 4]].tolist() == [1, 1, 1]
    assert not scaler.seen(fit, {}, x)[:, [0, 2, 4]].any()


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_sums_that_no_records_can_have_are_refused(name: str) -> None:
    statistic, state = built(name), built(name).start(seed=0)
    true = contributed(statistic, state, rows(name, 0, 12))
    statistic.check(true, state)
    wrong = [{}, {**true, "more": np.zeros(1)}, {key: value[..., :0] for key, value in true.items()}]
    wrong += [{**true, key: np.full_like(value, np.nan)} for key, value in true.items()]
    wrong += [{**true, "n": -true["n"]}]
    if "second" in true:
        wrong.append({**true, "second": true["second"] - 1})
    for sums in wrong:
        with pytest.raises(BadState):
            statistic.check(sums, state)


@pytest.mark.parametrize("name", [name for name in sorted(STATISTICS) if isinstance(built(name), PrivateSums)])
def test_one_patient_changes_private_sums_by_the_clip_at_most(name: str) -> None:
    statistic: Any = built(name)
    x = np.random.default_rng(1).uniform(-1, 1, (30, 5))
    records = Records(x, np.zeros(30, np.int64), tuple(f"p{number // 2}" for number in range(30)))
    units = [np.array([number, number + 1]) for number in range(0, 30, 2)]
    before = state = statistic.start(seed=0)
    for _ in range(2):
        lengths, each = statistic.lengths(state, x, records.labels), [contributed(statistic, state, row[None]) for row in x]
        np.testing.assert_allclose(lengths, [np.sqrt(sum((value**2).sum() for value in part.values())) for part in each])
        before, state = state, statistic.combine(state, [contributed(statistic, state, x)], [1.0])
    assert statistic.parts(before) == ("n", "sum", "second") and statistic.parts(statistic.start(seed=0)) == ("n", "sum")
    whole: State = {}
    for clip in (0.5, 3.0):
        whole = clipped_sums(statistic, state, records, units, clip=clip)
        for unit in units[:4]:
            rest = records.take(np.setdiff1d(np.arange(30), unit))
            others = [np.array([number, number + 1]) for number in range(0, 28, 2)]
            less = clipped_sums(statistic, state, rest, others, clip=clip)
            change = np.sqrt(sum(((whole[key] - less[key]) ** 2).sum() for key in whole))
            assert change <= clip * (1 + 1e-12)
    noisy = {key: value + np.random.default_rng(2).normal(0, 9, value.shape) for key, value in whole.items()}
    statistic.check(statistic.mend(noisy), state)
    assert is_finite(statistic.combine(state, [statistic.mend(noisy)], [1.0]))


@pytest.mark.parametrize(
    ("name", "knobs", "word"),
    [
        ("pca", {"components": 6}, "at most as many"),
        ("pca", {"components": 0}, "greater than or equal"),
        ("combat", {"covariates": ["age"]}, "columns of the table"),
        ("combat", {"covariates": list(COLUMNS)}, "no covariate"),
        ("scaler", {"columns": ["a"]}, "no knob"),
        ("fuzzy_centres", {"clusters": 1}, "greater than or equal"),
        ("fuzzy_centres", {"fuzzifier": 1.0}, "greater than"),
    ],
)
def test_knobs_that_cannot_be(name: str, knobs: dict[str, Any], word: str) -> None:
    with pytest.raises(BadChoice, match=word):
        built(name, **knobs)
