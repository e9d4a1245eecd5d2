"""ComBat from sums against one plain ComBat over all patients, and what its parts refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.core.errors import BadState
from shared_models.harmonisation.combat import CombatFit, check, contribution, finish, harmonised, site_effect


def sites(seed: int, sizes: tuple[int, ...] = (40, 25, 60), features: int = 12, covariates: int = 2) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features with effects of covariates and of sites: a shift and a factor of its own for each feature."""
    rng = np.random.default_rng(seed)
    mean, slope = rng.normal(0, 50, features), rng.normal(0, 3, (covariates, features))
    out = []
    for number, size in enumerate(sizes):
        x = rng.normal(number, 1 + number, (size, covariates))
        shift, factor = rng.normal(2 * number, 1, features), rng.gamma(20, 0.05 * (1 + 0.3 * number), features)
        out.append((mean + x @ slope + 4 * (shift + factor * rng.normal(0, 1, (size, features))), x))
    return out


def pooled(data: list[tuple[np.ndarray, np.ndarray]], shrink: bool, tolerance: float = 1e-4) -> np.ndarray:
    """Johnson's ComBat as neuroCombat writes it: one regression with a column a site over all patients."""
    y, x = (np.concatenate([part[i] for part in data]) for i in (0, 1))
    sizes = [len(part[0]) for part in data]
    batch = np.repeat(np.arange(len(data)), sizes)
    n, design = len(y), np.column_stack([np.eye(len(data))[batch], x])
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    grand = (np.array(sizes) / n) @ beta[: len(data)]
    variance = ((y - design @ beta) ** 2).mean(axis=0)
    stand = grand + x @ beta[len(data) :]
    z = (y - stand) / np.sqrt(variance)
    for i in range(len(data)):
        rows = batch == i
        gamma, delta = z[rows].mean(axis=0), z[rows].var(axis=0, ddof=1)
        if shrink:
            bar, t2 = gamma.mean(), gamma.var(ddof=1)
            m, s2 = delta.mean(), delta.var(ddof=1)
            a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
            g_old, d_old, change = gamma, delta, 1.0
            while change > tolerance:
                g_new = (t2 * rows.sum() * gamma + d_old * bar) / (t2 * rows.sum() + d_old)
                d_new = (0.5 * ((z[rows] - g_new) ** 2).sum(axis=0) + b) / (rows.sum() / 2.0 + a - 1.0)
                change = max((abs(g_new - g_old) / abs(g_old)).max(), (abs(d_new - d_old) / d_old).max())
                g_old, d_old = g_new, d_new
            gamma, delta = g_old, d_old
        z[rows] = (z[rows] - gamma) / np.sqrt(delta)
    return z * np.sqrt(variance) + stand


def federated(data: list[tuple[np.ndarray, np.ndarray]], shrink: bool) -> np.ndarray:
    fit = finish([contribution(y, x) for y, x in data])
    return np.concatenate([harmonised(fit, site_effect(fit, y, x, shrink=shrink), y, x) for y, x in data])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 99), st.sampled_from([(40, 25, 60), (7, 90), (12, 5, 9, 30)]), st.integers(0, 3), st.booleans())
def test_sums_over_sites_give_the_pooled_combat(seed: int, sizes: tuple[int, ...], covariates: int, shrink: bool) -> None:
    data = sites(seed, sizes, covariates=covariates)
    np.testing.assert_allclose(federated(data, shrink), pooled(data, shrink), rtol=1e-8, atol=1e-8)


def test_a_total_that_hides_the_sites_gives_the_same_fit() -> None:
    parts = [contribution(y, x) for y, x in sites(1)]
    total = {key: np.sum([part[key] for part in parts], axis=0) for key in parts[0]}
    one, other = finish(parts), finish([total])
    for name in ("mean", "slope", "centre", "deviation"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-10)


def test_site_effects_go_and_effects_of_covariates_stay() -> None:
    data = sites(2, (150, 150, 150))
    before, after = np.concatenate([y for y, _ in data]), federated(data, True)
    x, batch = np.concatenate([x for _, x in data]), np.repeat(np.arange(3), 150)
    design = np.column_stack([np.eye(3)[batch], x])

    def explained_by_site(y: np.ndarray) -> float:
        beta = np.linalg.lstsq(design, y, rcond=None)[0]
        return float((beta[:3].std(axis=0) / (y - design @ beta).std(axis=0)).mean())

    assert explained_by_site(after) < 0.05 < 0.5 < explained_by_site(before)
    slopes = [np.linalg.lstsq(design, y, rcond=None)[0][3:] for y in (before, after)]
    assert np.abs(slopes[0] - slopes[1]).max() < 0.5
    spread = np.array([after[batch == i].std(axis=0) for i in range(3)])
    assert np.isfinite(spread).all()


def test_a_feature_that_never_varies_and_a_site_that_shares_one_value() -> None:
    data = sites(3)
    for y, _ in data:
        y[:, 4] = 7.0
    data[1][0][:, 5] = 3.0
    after = federated(data, True)
    assert np.isfinite(after).all()
    np.testing.assert_allclose(after[:, 4], 7.0)


def test_a_fit_survives_its_file_and_a_changed_one_is_refused() -> None:
    fit = finish([contribution(y, x) for y, x in sites(4)])
    text = fit.to_json()
    again = CombatFit.from_json(text)
    for name in ("mean", "slope", "centre", "deviation"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fit, name))
    first = repr(float(fit.mean[0]))
    for bad in ("", "[]", "{}", text.replace(first, "1.5"), text[:-3]):
        with pytest.raises(BadState):
            CombatFit.from_json(bad)


@pytest.mark.parametrize("change", [("n", -1.0), ("ff", -1.0), ("cc", -9e9), ("cf", np.nan), ("features", np.inf)])
def test_sums_that_no_patients_can_have(change: tuple[str, float]) -> None:
    sums = contribution(*sites(5)[0])
    check(sums, features=12, covariates=2)
    sums[change[0]].flat[0] = change[1]
    with pytest.raises(BadState):
        finish([sums])


def test_what_does_not_fit_is_named() -> None:
    (y, x), *_ = sites(6)
    fit = finish([contribution(y, x)])
    for call in (
        lambda: contribution(y, x[:-1]),
        lambda: contribution(y * np.nan, x),
        lambda: finish([]),
        lambda: finish([contribution(y, x), contribution(y[:, :3], x)]),
        lambda: finish([contribution(y[:2], x[:2])]),
        lambda: site_effect(fit, y[:1], x[:1]),
        lambda: site_effect(fit, y[:, :3], x),
    ):
        with pytest.raises(BadState):
            call()
