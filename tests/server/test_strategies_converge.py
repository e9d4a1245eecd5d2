"""One battery over the gradient strategies on a federation whose optimum is known in closed form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.optimize import minimize

from server.strategies import STRATEGIES
from server.strategies.replies import Spool
from shared_models.core.choices import Choice, pick
from shared_models.core.state import digest
from tests.server.quadratics import Federation, federate

GRADIENT = sorted(name for name, spec in STRATEGIES.items() if spec.fit == "gradient")


class Case(NamedTuple):
    """How a strategy is run, and how near to the optimum its theory takes it."""

    knobs: dict[str, Any]
    steps: int | tuple[int, ...] = 1
    lr: float = 0.5
    rounds: int = 60
    within: float = 1e-6
    weighting: str = "cases"
    spread: float = 1.0
    alike: bool = False


CASES: dict[str, Case] = {
    # one local step a round is a step of gradient descent on the pooled loss
    "fedavg": Case({}),
    "fedprox": Case({"mu": 0.5}),
    "fedavgm": Case({"momentum": 0.5}, lr=0.3),
    "fedadagrad": Case({"eta": 0.5}, rounds=120, within=1e-3),
    "fedadam": Case({"eta": 0.1, "tau": 0.1}, rounds=250, within=1e-3),
    "fedyogi": Case({"eta": 0.1, "tau": 0.1}, rounds=250, within=1e-3),
    # as many steps as each site likes: the optimum up to a term of the learning rate's size
    "fednova": Case({}, steps=(1, 2, 4, 8, 16), lr=5e-3, rounds=200, within=5e-2),
    # many local steps on sites that disagree
    "scaffold": Case({}, steps=5, lr=0.2, rounds=60),
    "feddyn": Case({"alpha": 0.5}, steps=20, lr=0.5, rounds=50, weighting="equal"),
    # averaging as FedAvg does; what is personal is tested in tests/client/training/test_personal.py
    "fedbn": Case({}),
    "fedper": Case({}),
    "fedrep": Case({"head_share": 0.0}),
    "ditto": Case({}),
    "apfl": Case({}),
    "moon": Case({}),
    # sites of one optimum: whatever the centre, it is there
    "median": Case({}, steps=3, spread=0.0),
    "trimmed_mean": Case({}, steps=3, spread=0.0),
    "geometric_median": Case({}, steps=3, spread=0.0),
    "krum": Case({}, steps=3, spread=0.0),
    "norm_bound": Case({"bound": 5.0}),
    # the fair objective has its own optimum, tested below; where the sites agree, it is theirs
    "qfedavg": Case({"q": 1.0, "lr": 0.5}, spread=0.0, rounds=200),
    # everybody answers at once; with delays below
    "fedbuff": Case({}),
    # gradient descent one site at a time: the optimum up to a term of the learning rate's size
    "cyclic": Case({}, lr=1e-2, rounds=300, within=5e-2, weighting="equal"),
    # averaging as FedAvg does; what is released is tested by hand
    "snapshot": Case({"every": 7, "members": 3}),
    # one message; the members are all that there is to say
    "one_shot": Case({}, steps=80, rounds=1, spread=0.0),
}


def sites_of(case: Case, seed: int) -> Federation:
    return Federation.draw(seed, spread=case.spread, steps=case.steps, alike=case.alike)


def test_every_gradient_strategy_has_a_case() -> None:
    assert sorted(CASES) == GRADIENT


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_optimum(name: str, seed: int, tmp_path: Path) -> None:
    case = CASES[name]
    sites = sites_of(case, seed)
    found, _ = federate(name, case.knobs, sites, tmp_path, rounds=case.rounds, lr=case.lr)
    assert float(np.abs(found - sites.optimum(case.weighting)).max()) < case.within


@pytest.mark.parametrize("name", ["scaffold", "feddyn", "fednova"])
def test_what_averaging_alone_misses(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    sites = sites_of(case, 0)
    plain, _ = federate("fedavg", {"weighting": case.weighting}, sites, tmp_path, rounds=case.rounds, lr=case.lr)
    assert float(np.abs(plain - sites.optimum(case.weighting)).max()) > 2 * case.within


@pytest.mark.parametrize("name", GRADIENT)
def test_sites_that_miss_rounds_and_updates_that_are_lost(name: str, tmp_path: Path) -> None:
    case, rounds = CASES[name], CASES[name].rounds
    spare = "e" if name != "krum" else ""
    sites = sites_of(case, 3)

    def absent(number: int, site: str) -> bool:
        return site == spare and number % 3 == 1 and number < 0.8 * rounds

    def lost(number: int, site: str) -> bool:
        return site == spare and number % 3 == 2 and number < 0.8 * rounds

    found, _ = federate(name, case.knobs, sites, tmp_path, rounds=rounds, lr=case.lr, absent=absent, lost=lost)
    start, end = np.abs(sites.optimum(case.weighting)).max(), np.abs(found - sites.optimum(case.weighting)).max()
    assert end < max(10 * case.within, 0.05 * start)


@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_variates_reach_the_optimum_although_a_site_is_away_to_the_end(name: str, tmp_path: Path) -> None:
    # every round another site is away, and another one's update is lost: both ends must still mean the same variates
    case = CASES[name]
    sites = sites_of(case, 4)

    def absent(number: int, site: str) -> bool:
        return number > 1 and site == "abcde"[number % 5]

    def lost(number: int, site: str) -> bool:
        return number > 1 and site == "abcde"[(number + 2) % 5]

    found, _ = federate(name, case.knobs, sites, tmp_path, rounds=4 * case.rounds, lr=case.lr, absent=absent, lost=lost)
    assert float(np.abs(found - sites.optimum(case.weighting)).max()) < 1e-5


@pytest.mark.parametrize("name", GRADIENT)
def test_a_resumed_run_has_the_same_bits(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    runs = [federate(name, case.knobs, sites_of(case, 5), tmp_path / str(after), rounds=6, lr=case.lr, resumed_after=after) for after in (0, 3)]
    assert runs[0][0].tobytes() == runs[1][0].tobytes()
    assert digest(runs[0][1]) == digest(runs[1][1])


@pytest.mark.parametrize("adapt", [0.0, 0.01])
def test_a_mixture_goes_to_each_sites_own_optimum_and_the_global_model_is_fedavgs(adapt: float, tmp_path: Path) -> None:
    from client.training.memory import Memory
    from client.training.personal_models import own_model

    sites = Federation.draw(6, alike=True)
    found, _ = federate("apfl", {"alpha": 0.5, "adapt": adapt}, sites, tmp_path, rounds=40, lr=0.8)
    for number, site in enumerate("abcde"):
        kept = Memory(tmp_path / site, site, "run", 41).before()
        own = own_model(kept, {"w": found})
        assert own is not None
        off, globally = (float(np.abs(weights - sites.b[number]).max()) for weights in (own["w"], found))
        assert off < (0.02 if adapt == 0 else 0.7 * globally)
        assert (float(kept["alpha"]) == 0.5) == (adapt == 0)
    assert found.tobytes() == federate("fedavg", {}, sites, tmp_path / "plain", rounds=40, lr=0.8)[0].tobytes()


ROBUST = {"median": {}, "trimmed_mean": {}, "geometric_median": {}, "krum": {}, "norm_bound": {}}


@pytest.mark.parametrize("name", sorted(ROBUST))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_of_five_sites_turns_its_update_round_ten_times_over(name: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    current, change = {"w": rng.normal(size=40)}, rng.normal(size=40)
    honest = [current["w"] + change + 0.3 * rng.normal(size=40) for _ in range(5)]
    hostile = [*honest[:4], current["w"] - 10 * (honest[4] - current["w"])]

    def aggregate(which: str, updates: list[np.ndarray]) -> np.ndarray:
        spool = Spool(tmp_path / "spool")
        for number, update in enumerate(updates):
            spool.add(f"s{number}", {"w": update}, num_cases=10, steps=1)
        built = pick(STRATEGIES, Choice.model_validate({"name": which, **ROBUST.get(which, {})}), get=lambda spec: spec.build)(None)
        result = built.aggregate(current, built.start(current), spool)[0]["w"]
        spool.clear()
        return result

    centre = np.mean(honest[:4], axis=0)
    radius = max(float(np.linalg.norm(update - centre)) for update in honest[:4])
    length = float(np.median([np.linalg.norm(update - current["w"]) for update in hostile]))
    spread = float(np.linalg.norm(np.abs(np.array(honest[:4]) - centre).max(0)))
    bounds = {
        "median": spread,  # each parameter stays within the honest sites' range
        "trimmed_mean": spread,
        "geometric_median": 2 * (1 - 0.2) / (1 - 2 * 0.2) * radius,  # Pillutla et al., proposition 1, with one hostile site of five
        "krum": 1.0001 * radius,  # one of the honest sites
        "norm_bound": 2 * 0.2 * length + radius,  # its share of the mean times the bound, both ways
    }
    assert float(np.linalg.norm(aggregate(name, hostile) - centre)) < bounds[name]
    assert float(np.linalg.norm(aggregate("fedavg", hostile) - centre)) > bounds["norm_bound"]


def test_a_site_whose_memory_is_gone_says_so(tmp_path: Path) -> None:
    from client.training.memory import Memory
    from shared_models.core.errors import BadInput, BadState

    extra = {"counted/a": np.array(3)}
    with pytest.raises(BadState, match="start a new run") as caught:
        Memory(tmp_path, "a", "run", 4).counted(extra)
    assert caught.value.code == "E_STRATEGY_STATE"
    with pytest.raises(BadInput, match="a run is named"):
        Memory(tmp_path, "a", "../../up", 4).keep({})


def test_the_memory_keeps_what_can_still_be_asked_for(tmp_path: Path) -> None:
    from client.training.memory import KEPT_RUNS, Memory

    here = Memory(tmp_path, "a", "run", 1)
    for number in range(1, 7):
        replace(here, round=number).keep({"own": np.array([float(number)])}, {"counted/a": np.array(2)})
    assert sorted(path.stem for path in tmp_path.glob("*")) == ["run-000002", "run-000005", "run-000006"]
    assert replace(here, round=6).before()["own"] == [5.0]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*")} == {0o600}
    for other in range(KEPT_RUNS + 3):
        replace(here, run=f"other{other}").keep({"own": np.zeros(1)})
    assert len({path.stem.rpartition("-")[0] for path in tmp_path.glob("*")}) == KEPT_RUNS + 1


@pytest.mark.parametrize("q", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_qfedavg_minimises_its_own_objective_and_a_larger_q_helps_the_worst_site(q: float, seed: int, tmp_path: Path) -> None:
    sites = Federation.draw(seed)

    def losses(w: np.ndarray) -> np.ndarray:
        return (sites.a * (w - sites.b) ** 2).sum(1) / 2

    found, _ = federate("qfedavg", {"q": q, "lr": 0.5}, sites, tmp_path, rounds=200, lr=0.5)
    best = minimize(lambda w: (losses(w) ** (q + 1)).sum() / (q + 1), np.zeros(3), method="BFGS", options={"gtol": 1e-10})
    assert float(np.abs(found - best.x).max()) < 1e-4
    if q:
        plain, _ = federate("qfedavg", {"q": 0.0}, sites, tmp_path, rounds=200, lr=0.5)
        assert losses(found).max() < losses(plain).max()
        np.testing.assert_allclose(plain, sites.optimum("equal"), atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fedbuff_with_sites_of_unequal_speed(seed: int, tmp_path: Path) -> None:
    sites = Federation.draw(seed, spread=0.0, steps=2)
    found, _ = federate("fedbuff", {}, sites, tmp_path, rounds=300, lr=0.2, delay=lambda site: "abcde".index(site) % 4)
    assert float(np.abs(found - sites.optimum("cases")).max()) < 1e-6
    # with nobody late it is FedAvg to the bit
    pair = [federate(name, {}, Federation.draw(seed), tmp_path / name, rounds=5, lr=0.3)[0] for name in ("fedbuff", "fedavg")]
    assert pair[0].tobytes() == pair[1].tobytes()


def test_a_cycle_of_unequal_sites_comes_nearer_the_smaller_the_steps(tmp_path: Path) -> None:
    sites = Federation.draw(0)
    ends = [federate("cyclic", {}, sites, tmp_path, rounds=int(4 / lr), lr=lr)[0] for lr in (0.2, 0.05, 0.0125)]
    away = [float(np.abs(end - sites.optimum("equal")).max()) for end in ends]
    assert away[0] > 2 * away[1] > 4 * away[2]
