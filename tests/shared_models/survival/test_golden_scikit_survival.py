"""Golden values of scikit-survival 0.28.0 (GPL: never a dependency) on two small cohorts with ties and losses; where definitions differ it is said.

Both count an event before a loss of the same time. scikit-survival weighs an event by 1 / G(T), G the chance to be still observed; this project and
the papers (Uno et al. 2007 and 2011, Graf et al. 1999) weigh by 1 / G(T-): alike as long as nobody is lost at the time of an event, as in `APART`.
In `SHARED` some are; there the weighted figures differ, and ours are checked against the formula with both weights.
Its `concordance_index_ipcw` and `cumulative_dynamic_auc` are otherwise ours; horizons lie between times, since at one of them it counts who is last
seen then as not yet known, and we as alive. Its Cox coefficients have no standard errors; lifelines, which has them, knows Efron's ties alone and
checks proportionality by an approximation of the scaled Schoenfeld residuals, so `tests/shared_models/classical/test_cox.py` checks by definition.
"""

from __future__ import annotations

import numpy as np
import pytest

from shared_models.blocks.partial_likelihood import Ties
from shared_models.classical.cox import cox, hazard_table
from shared_models.metrics.horizons import auc_at, brier_at, integrated_brier, uno_rows
from shared_models.metrics.log_rank import log_rank
from shared_models.metrics.survival import harrell_rows
from shared_models.survival.life_table import kaplan_meier, life_table
from tests.shared_models.classical.test_cox import fitted

SCORES = np.array([0.9, 0.3, 0.7, 0.4, 0.8, 0.8, 0.3, 0.5, 0.6, 0.7, 0.2, 0.55, 0.35, 0.5, 0.6, 0.1, 0.75, 0.3, 0.25, 0.15, 0.45])
OTHER = np.array([1.2, -0.3, 0.4, 0.8, -0.5, 0.1, 1.1, -0.9, 0.6, 0.2, -0.4, 0.9, -0.2, 0.7, -1.0, 0.3, 0.5, -0.6, -0.1, 0.0, 0.4])
HORIZONS = np.array([1.3, 2.1, 3.7, 5.1])
RISKS = np.outer(SCORES, [0.3, 0.6, 0.8, 1.0])
ONE = np.ones((1, 21))

APART = np.column_stack(
    [
        [0.5, 1, 1, 1.2, 1.5, 2, 2, 2.3, 2.3, 3, 3, 3.5, 4, 4, 4.5, 5, 5.2, 5.5, 6, 6.5, 7.0],
        [1, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0],
        np.zeros(21),
    ]
)
SHARED = np.column_stack(
    [
        [0.5, 1, 1, 1.5, 2, 2, 2, 2.5, 3, 3, 3.5, 4, 4, 4.5, 5, 5, 5.5, 6, 6, 7.0, 7.5],
        [1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1],
        np.zeros(21),
    ]
)
COHORTS = {"apart": APART, "shared": SHARED}
GOLDEN = {
    "apart": {
        "harrell": 0.6701388888888888,
        "uno": {4.2: 0.6864542351993175, 5.4: 0.6361753325434372},
        "auc": [0.696078431372549, 0.7564625850340135, 0.7146636432350718, 0.623692152917505],
        "brier": [0.11492605042016805, 0.17600672268907566, 0.20592194211017736, 0.2771724245253657],
        "integrated_brier": 0.2000216046652579,
        "log_rank": [0.680343780104038, 0.4094683698262226],
        "breslow": [1.7126737596067996, 0.17900286348765607],
        "efron": [1.7395327006925845, 0.1899297177342314],
        "times": [0.5, 1.0, 1.2, 1.5, 2.0, 2.3, 3.0, 3.5, 4.0, 4.5, 5.0, 5.2, 5.5, 6.0, 6.5, 7.0],
        "survival": [
            0.9523809523809523,
            0.8571428571428571,
            0.8571428571428571,
            0.8067226890756302,
            0.7058823529411764,
            0.7058823529411764,
            0.5882352941176471,
            0.5882352941176471,
            0.4575163398692811,
            0.4575163398692811,
            0.3812636165577343,
            0.3812636165577343,
            0.2859477124183007,
            0.19063180827886714,
            0.19063180827886714,
            0.19063180827886714,
        ],
        "low": [
            0.7072067655994965,
            0.6197179552659838,
            0.6197179552659838,
            0.5631465646222333,
            0.4583034976175198,
            0.4583034976175198,
            0.3389234081946037,
            0.3389234081946037,
            0.22087323351111207,
            0.22087323351111207,
            0.15767392988920018,
            0.15767392988920018,
            0.08563926656517405,
            0.035298436286926305,
            0.035298436286926305,
            0.035298436286926305,
        ],
        "high": [
            0.9931521371913737,
            0.951551747646997,
            0.951551747646997,
            0.9228090192028804,
            0.8559950037680182,
            0.8559950037680182,
            0.7708725608754288,
            0.7708725608754288,
            0.6670576463745008,
            0.6670576463745008,
            0.6045007898205897,
            0.6045007898205897,
            0.5284741676748023,
            0.43977346104453663,
            0.43977346104453663,
            0.43977346104453663,
        ],
    },
    "shared": {
        "harrell": 0.7481751824817519,
        "uno": {4.2: 0.7421188525558495, 5.4: 0.7523780071966336},
        "auc": [0.6291291291291291, 0.7544313146233382, 0.8055585958877336, 0.7883702500297183],
        "brier": [0.08805859788359788, 0.16261832955404382, 0.1779266236409094, 0.19812496366067792],
        "integrated_brier": 0.16735338016898166,
        "log_rank": [4.179962561930762, 0.040904604313990525],
        "breslow": [4.377821602238418, -0.012375383392326718],
        "efron": [4.483533492439491, -0.01483673221298409],
        "times": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 7.5],
        "survival": [
            0.9523809523809523,
            0.9047619047619047,
            0.8544973544973544,
            0.7539682539682538,
            0.7539682539682538,
            0.6379731379731378,
            0.6379731379731378,
            0.5103785103785102,
            0.5103785103785102,
            0.43746729461015166,
            0.34997383568812135,
            0.26248037676609104,
            0.26248037676609104,
            0.0,
        ],
        "low": [
            0.7072067655994965,
            0.6700458822350336,
            0.6133378431225102,
            0.5057498918989913,
            0.5057498918989913,
            0.3837055394193051,
            0.3837055394193051,
            0.26367030240761724,
            0.26367030240761724,
            0.20004843622746826,
            0.12843468948168735,
            0.07227632145749545,
            0.07227632145749545,
            0.0,
        ],
        "high": [
            0.9931521371913737,
            0.9752941490381124,
            0.950678821621321,
            0.8895954111284863,
            0.8895954111284863,
            0.8098579032459875,
            0.8098579032459875,
            0.7122214566657946,
            0.7122214566657946,
            0.6539270828533842,
            0.5844479464951824,
            0.5061194359350676,
            0.5061194359350676,
            0.0,
        ],
    },
}
"""`concordance_index_censored`, `concordance_index_ipcw`, `cumulative_dynamic_auc`, `brier_score`, `integrated_brier_score`, `compare_survival`,
`CoxPHSurvivalAnalysis(tol=1e-15)` and `kaplan_meier_estimator(conf_type="log-log")`, the censoring estimated on the cohort itself."""


@pytest.mark.parametrize("name", list(COHORTS))
def test_what_both_define_alike(name: str) -> None:
    outcomes, golden = COHORTS[name], GOLDEN[name]
    assert harrell_rows(outcomes, SCORES, ONE)[0] == pytest.approx(golden["harrell"], abs=1e-9)
    curve = kaplan_meier(life_table(outcomes[:, 0], outcomes[:, 1]))
    place = np.searchsorted(curve.times, golden["times"], side="right") - 1
    assert curve.values[place] == pytest.approx(golden["survival"], abs=1e-9)
    assert curve.low[place] == pytest.approx(golden["low"], abs=1e-9) and curve.high[place] == pytest.approx(golden["high"], abs=1e-9)
    found = log_rank(outcomes, SCORES > 0.45)
    assert (found["chi2"], found["p"]) == pytest.approx(golden["log_rank"], abs=1e-9)


@pytest.mark.parametrize("ties", ["breslow", "efron"])
@pytest.mark.parametrize("name", list(COHORTS))
def test_coefficients_with_both_kinds_of_ties(name: str, ties: Ties) -> None:
    x = np.column_stack([SCORES, OTHER])
    table = hazard_table(fitted(cox(2, 2, ties=ties), [(x, COHORTS[name])], rounds=12))
    assert table["coefficient"] == pytest.approx(GOLDEN[name][ties], abs=1e-8)  # both stop at a gradient of about 1e-9


def test_weighted_figures_where_nobody_is_lost_at_an_event() -> None:
    golden = GOLDEN["apart"]
    for horizon, value in golden["uno"].items():
        assert uno_rows(APART, SCORES, ONE, horizon=horizon)[0] == pytest.approx(value, abs=1e-9)
    for place, horizon in enumerate(HORIZONS):
        assert auc_at(APART, SCORES, ONE, horizon=horizon)[0] == pytest.approx(golden["auc"][place], abs=1e-9)
        assert brier_at(APART, RISKS[:, place], ONE, horizon=horizon)[0] == pytest.approx(golden["brier"][place], abs=1e-9)
    assert integrated_brier(APART, RISKS, HORIZONS, ONE)[0] == pytest.approx(golden["integrated_brier"], abs=1e-9)


def observed(times: np.ndarray, events: np.ndarray, at: float, *, before: bool) -> float:
    """The chance to be still observed, read aloud; at one time events come first."""
    chance = 1.0
    for time in sorted(set(times[events == 0])):
        if time < at or (time == at and not before):
            at_risk = (times > time).sum() + ((times == time) & (events == 0)).sum()
            chance *= 1 - ((times == time) & (events == 0)).sum() / at_risk
    return chance


@pytest.mark.parametrize("before", [False, True])
def test_where_some_are_lost_at_an_event_the_weights_differ_as_said(before: bool) -> None:
    """With 1 / G(T) the formulas give scikit-survival's figures, with 1 / G(T-) ours."""
    times, events, golden = SHARED[:, 0], SHARED[:, 1], GOLDEN["shared"]
    weight = np.array([1 / max(observed(times, events, t, before=before), 1e-12) for t in times])
    for place, horizon in enumerate(HORIZONS):
        event, alive = (times <= horizon) & (events == 1), times > horizon
        risk, at = RISKS[:, place], 1 / observed(times, events, horizon, before=False)
        brier = np.where(event, weight * (1 - risk) ** 2, np.where(alive, at * risk**2, 0.0)).mean()
        won = (SCORES[event, None] > SCORES[alive]) + 0.5 * (SCORES[event, None] == SCORES[alive])
        auc = (weight[event] @ won).sum() / (weight[event].sum() * alive.sum())
        ours = brier_at(SHARED, risk, ONE, horizon=horizon)[0], auc_at(SHARED, SCORES, ONE, horizon=horizon)[0]
        assert (brier, auc) == pytest.approx(ours if before else (golden["brier"][place], golden["auc"][place]), abs=1e-9)
    for horizon, value in golden["uno"].items():
        first = (events == 1) & (times < horizon)
        later = (times[first, None] < times) | ((times[first, None] == times) & (events == 0))
        won = ((SCORES[first, None] > SCORES) + 0.5 * (SCORES[first, None] == SCORES)) * later
        uno = (weight[first] ** 2 @ won).sum() / (weight[first] ** 2 @ later).sum()
        assert uno == pytest.approx(uno_rows(SHARED, SCORES, ONE, horizon=horizon)[0] if before else value, abs=1e-9)
