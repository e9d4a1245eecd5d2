"""The particle swarm on functions whose lowest point is known, and the network that it tunes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from shared_models.blocks.swarm import Swarm, gather, judged, moved, scattered
from shared_models.classical.logistic import logistic
from shared_models.classical.rbf_pso import rbf_pso
from shared_models.core.errors import BadState
from tests.shared_models.classical.tables import Site, cut, federated


def sphere(x: np.ndarray) -> np.ndarray:
    return ((x - 1.5) ** 2).sum(1)


def rosenbrock(x: np.ndarray) -> np.ndarray:
    return 100 * (x[:, 1] - x[:, 0] ** 2) ** 2 + (1 - x[:, 0]) ** 2


def searched(loss: Callable[[np.ndarray], np.ndarray], dimensions: int, *, seed: int, generations: int = 120) -> tuple[Swarm, list[float]]:
    low, high = np.full(dimensions, -4.0), np.full(dimensions, 4.0)
    swarm, best = gather(30, low, high, seed=seed), []
    for generation in range(1, generations + 1):
        swarm = judged(swarm, loss(swarm.place))
        best.append(float(swarm.reached.min()))
        swarm = moved(swarm, low, high, seed=seed, generation=generation)
        assert ((swarm.place >= low) & (swarm.place <= high)).all()
    return swarm, best


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("loss", "dimensions", "lowest"), [(sphere, 10, 1.5), (rosenbrock, 2, 1.0)])
def test_it_finds_the_lowest_point_and_never_forgets_a_better_one(
    loss: Callable[[np.ndarray], np.ndarray], dimensions: int, lowest: float, seed: int
) -> None:
    swarm, best = searched(loss, dimensions, seed=seed)
    assert best[-1] < 1e-3
    np.testing.assert_allclose(swarm.best[swarm.leader], lowest, atol=0.05)
    assert all(later <= earlier for earlier, later in pairwise(best))


@pytest.mark.parametrize(("loss", "dimensions"), [(sphere, 10), (rosenbrock, 2)])
def test_it_beats_as_many_places_drawn_at_random(loss: Callable[[np.ndarray], np.ndarray], dimensions: int) -> None:
    low, high = np.full(dimensions, -4.0), np.full(dimensions, 4.0)
    for seed in range(3):
        other = gather(30, low, high, seed=seed)
        for generation in range(1, 41):
            before = other.reached.min()
            other = scattered(judged(other, loss(other.place)), low, high, seed=seed, generation=generation)
            assert other.reached.min() <= before and ((other.place >= low) & (other.place <= high)).all()
        assert searched(loss, dimensions, seed=seed, generations=40)[1][-1] < other.reached.min()


def test_a_step_is_its_formula_and_the_same_every_time() -> None:
    low, high = np.full(3, -50.0), np.full(3, 50.0)
    random = np.random.default_rng(5)
    swarm = Swarm(*(random.normal(size=(4, 3)) for _ in range(3)), np.array([3.0, 1.0, 2.0, 1.0]))
    draws = np.random.default_rng([9, 7])
    own, shared = draws.uniform(size=(4, 3)), draws.uniform(size=(4, 3))
    pace = np.array(
        [
            [
                0.729 * swarm.pace[p, d]
                + 1.49445 * (own[p, d] * (swarm.best[p, d] - swarm.place[p, d]) + shared[p, d] * (swarm.best[1, d] - swarm.place[p, d]))
                for d in range(3)
            ]
            for p in range(4)
        ]
    )
    after = moved(swarm, low, high, seed=9, generation=7)
    np.testing.assert_allclose(after.pace, pace, rtol=1e-12)
    np.testing.assert_allclose(after.place, swarm.place + pace, rtol=1e-12)


def moons(seed: int, count: int = 240) -> Site:
    rng = np.random.default_rng(seed)
    y, angle = np.arange(count) % 2, rng.uniform(0, np.pi, count)
    x = np.column_stack([np.cos(angle), np.sin(angle)])
    return np.where(y[:, None] == 1, [1.0, 0.5] - x, x) + rng.normal(0, 0.12, (count, 2)), y


def corners(seed: int, count: int = 240) -> Site:
    """Exclusive or: two classes at opposite corners."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (count, 2))
    return bits * 2.0 + rng.normal(0, 0.25, (count, 2)), bits[:, 0] ^ bits[:, 1]


@pytest.mark.parametrize(("make", "linear_at_most"), [(moons, 0.93), (corners, 0.75)])
def test_it_parts_what_no_line_parts(make: Callable[[int], Site], linear_at_most: float) -> None:
    (x, y), (fresh, truth) = make(1), make(2)
    model = rbf_pso(2, 2, particles=8, generations=8, most_units=16, steps=2)
    state = federated(model, cut(x, y, 60, 110), model.rounds)
    assert (model.predict(state, fresh).argmax(1) == truth).mean() >= 0.95
    line = logistic(2, 2)
    assert (line.predict(federated(line, [(x, y)], 8), fresh).argmax(1) == truth).mean() <= linear_at_most


def test_it_keeps_the_columns_that_tell() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    x = np.column_stack([rng.normal(0.8 * (2 * y[:, None] - 1), 1, (300, 10)), rng.normal(size=(300, 90))])
    model = rbf_pso(100, 2, particles=20, generations=20, most_units=16, steps=2)
    state = federated(model, cut(x, y, 140), model.rounds)
    kept = model.particle(state["best/place"]).kept
    assert kept[:10].mean() >= 0.8
    assert kept[10:].mean() < kept[:10].mean()


def test_the_best_so_far_never_worsens_and_predicts() -> None:
    x, y = moons(3)
    model = rbf_pso(2, 2, particles=4, generations=5, most_units=8, steps=1)
    reached = [float(federated(model, [(x, y)], 1 + 3 * generation)["reached"].min()) for generation in range(1, 6)]
    assert all(later <= earlier for earlier, later in pairwise(reached))
    assert len(set(reached)) > 1
    early = federated(model, [(x, y)], 4)
    assert (model.predict(early, x).argmax(1) == y).mean() > 0.7
    end, more = (federated(model, [(x, y)], model.rounds + further) for further in (0, 3))
    for key, value in end.items():
        np.testing.assert_array_equal(more[key], value, err_msg=key)


def test_a_random_search_takes_the_rounds_of_a_swarm_to_other_places() -> None:
    x, y = moons(3)
    swarm, drawn = (rbf_pso(2, 2, particles=4, generations=3, most_units=8, steps=1, search=search) for search in ("swarm", "random"))
    assert swarm.rounds == drawn.rounds
    ours, theirs = (federated(model, cut(x, y, 60, 110), model.rounds) for model in (swarm, drawn))
    assert not np.array_equal(ours["place"], theirs["place"]) and np.isfinite(theirs["reached"]).all() and (theirs["pace"] == 0).all()
    assert (drawn.predict(theirs, x).argmax(1) == y).mean() > 0.7


def test_sums_that_no_patients_can_have() -> None:
    x, y = moons(4, 60)
    model = rbf_pso(2, 2, particles=3, generations=2, most_units=4, steps=1)
    for rounds, bad in (
        (1, {"members": -np.ones((3, 4))}),
        (2, {"gram": np.triu(np.ones((3, 5, 5)))}),
        (3, {"loss": np.full(3, -1.0)}),
        (3, {"loss": np.full(3, np.nan)}),
        (3, {"held": np.zeros(2)}),
    ):
        state = federated(model, [(x, y)], rounds)
        good = model.contribution(state, x, y, seed=0)
        model.check(good, state)
        with pytest.raises(BadState):
            model.check({**good, **bad}, state)
