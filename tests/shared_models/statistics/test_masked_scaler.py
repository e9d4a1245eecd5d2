"""The scaler of what is known: exact whatever is missing where, and silent about columns that few of a site's patients know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.privacy.policy import enforce
from client.site import Site
from server.phases import phase_conflicts
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.errors import BadState, Refused
from shared_models.experiment import Data, Experiment, Inputs
from shared_models.statistics.masked_scaler import MaskedScaler, masked_scaler
from tests.server.phase_sites import site

COLUMNS = ("a", "b", "c")


def table(seed: int, count: int, missing: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, [1e-3, 1, 1e4], (count, 3)) + [5, -800, 1e6]
    x[rng.random((count, 3)) < missing] = np.nan
    return x


def fitted(fit: MaskedScaler, sites: list[np.ndarray]) -> State:
    state = fit.start(seed=0)
    for _ in range(2):
        sums = [fit.contribution(state, x, np.zeros(len(x), int), seed=0) for x in sites]
        for part in sums:
            fit.check(part, state)
        state = fit.combine(state, sums, [1.0] * len(sums))
    return state


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.floats(0, 0.95), st.sampled_from([(40, 25, 60), (3, 90), (2, 1, 7, 30)]))
def test_it_is_the_moments_of_all_known_values(seed: int, missing: float, sizes: tuple[int, ...]) -> None:
    sites = [table(seed + number, size, missing) for number, size in enumerate(sizes)]
    state, x = fitted(masked_scaler(COLUMNS, least=1), sites), np.concatenate(sites)
    for column in range(3):
        known = x[~np.isnan(x[:, column]), column]
        if len(known) == 0:
            assert (state["mean"][column], state["scale"][column]) == (0, 1)
            continue
        np.testing.assert_allclose(state["mean"][column], known.mean(), rtol=1e-9)
        if known.std() > 1e-5 * abs(known.mean()):
            np.testing.assert_allclose(state["scale"][column], known.std(), rtol=1e-6)
    seen = masked_scaler(COLUMNS).seen(state, {}, x)
    assert (np.isnan(seen) == np.isnan(x)).all()


def test_a_column_that_few_know_is_left_out() -> None:
    x = table(0, 20, 0.0)
    x[4:, 0] = np.nan  # four of twenty know it
    sums = masked_scaler(COLUMNS).contribution(masked_scaler(COLUMNS).start(seed=0), x, np.zeros(20, int), seed=0)
    assert sums["known"].tolist() == [0, 20, 20] and sums["sum"][0] == 0
    other = table(1, 30, 0.0)
    np.testing.assert_allclose(fitted(masked_scaler(COLUMNS), [x, other])["mean"][0], other[:, 0].mean())


def test_impossible_counts_are_refused() -> None:
    fit = masked_scaler(COLUMNS)
    good = fit.contribution(fit.start(seed=0), table(0, 20, 0.1), np.zeros(20, int), seed=0)
    for wrong in ({"known": good["known"] + 9}, {"known": -good["known"]}, {"second": good["second"] - 1}):
        with pytest.raises(BadState):
            fit.check(good | wrong, fit.start(seed=0))


def asked(model: str, *statistics: Choice) -> Experiment:
    inputs = Inputs(columns=COLUMNS, missing="mask")
    return Experiment(name="x", data=Data(kind="table", classes=("a", "b")), inputs=inputs, model=Choice(name=model), statistics=statistics or None)


def test_gaps_go_to_models_and_statistics_that_read_them() -> None:
    assert phase_conflicts(asked("multimodal", Choice(name="masked_scaler"))) == []
    assert any("cannot sum values that are missing" in str(one) for one in phase_conflicts(asked("multimodal", Choice(name="scaler"))))
    assert any("cannot read" in str(one) for one in phase_conflicts(asked("logistic")))


def test_a_site_asks_for_columns_that_enough_know(tmp_path: object) -> None:
    from pathlib import Path

    policy = Site.load(site(Path(str(tmp_path)), "alpha", 0, 40, "[policy]\nmin_per_class = 7\n")).policy
    few = Choice.model_validate({"name": "masked_scaler", "least": 6})
    with pytest.raises(Refused, match="least = 7"):
        enforce(asked("multimodal", few), policy)
    enforce(asked("multimodal", Choice.model_validate({"name": "masked_scaler", "least": 7})), policy)
