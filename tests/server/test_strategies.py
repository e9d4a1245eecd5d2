"""One battery over STRATEGIES, and for each the numbers worked by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.app import strategy_of
from server.strategies import DEFAULTS, STRATEGIES
from server.strategies.replies import Spool
from shared_models.catalogue import build
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadChoice, BadState
from shared_models.core.files import pack_state, unpack_state
from shared_models.core.state import digest
from shared_models.ensemble import members_of
from shared_models.experiment import Data, Experiment

State = dict[str, np.ndarray]
GRADIENT = sorted(name for name, spec in STRATEGIES.items() if spec.fit == "gradient")


def spool_of(folder: Path, replies: dict[str, tuple[State, int]], steps: dict[str, int] | None = None) -> Spool:
    spool = Spool(folder)
    for site, (state, cases) in replies.items():
        spool.add(site, state, num_cases=cases, steps=(steps or {}).get(site, 1), metrics={"received_loss": float(cases)})
    return spool


def strategy(name: str, **knobs: Any) -> Any:
    return pick(STRATEGIES, Choice.model_validate({"name": name, **knobs}), get=lambda spec: spec.build)


CURRENT: State = {"w": np.array([1.0, 2.0], np.float32), "n": np.array(10)}
REPLIES: dict[str, tuple[State, int]] = {
    "a": ({"w": np.array([2.0, 2.0], np.float32), "n": np.array(11)}, 30),
    "b": ({"w": np.array([4.0, 0.0], np.float32), "n": np.array(14)}, 10),
}


class TestByHand:
    def test_fedavg(self, tmp_path: Path) -> None:
        # w = (30 * 2 + 10 * 4) / 40 = 2.5; (30 * 2 + 10 * 0) / 40 = 1.5; n = (330 + 140) / 40 = 11.75 -> 12
        after, own = strategy("fedavg")(None).aggregate(CURRENT, {}, spool_of(tmp_path / "s", REPLIES))
        np.testing.assert_array_equal(after["w"], np.array([2.5, 1.5], np.float32))
        assert after["n"] == 12
        assert own == {}

    def test_fedavg_with_equal_votes(self, tmp_path: Path) -> None:
        after, _ = strategy("fedavg", weighting="equal")(None).aggregate(CURRENT, {}, spool_of(tmp_path / "s", REPLIES))
        np.testing.assert_array_equal(after["w"], np.array([3.0, 1.0], np.float32))

    def test_fedprox_averages_as_fedavg_and_tells_the_sites_its_mu(self, tmp_path: Path) -> None:
        built = strategy("fedprox", mu=0.25)(None)
        after, _ = built.aggregate(CURRENT, {}, spool_of(tmp_path / "s", REPLIES))
        np.testing.assert_array_equal(after["w"], np.array([2.5, 1.5], np.float32))
        assert built.rule == {"name": "fedprox", "mu": 0.25}

    def test_fedadam(self, tmp_path: Path) -> None:
        built = strategy("fedadam", eta=0.1, beta_1=0.9, beta_2=0.99, tau=0.001)(None)
        own = built.start(CURRENT)
        # d = (1.5, -0.5); m = 0.1 d = (0.15, -0.05); v = 0.99e-6 + 0.01 d^2 = (0.02250099, 0.00250099)
        # w = 1 + 0.1 * 0.15 / (sqrt(0.02250099) + 0.001) = 1 + 0.015 / 0.1510033 = 1.0993356
        # w = 2 - 0.1 * 0.05 / (sqrt(0.00250099) + 0.001) = 2 - 0.005 / 0.0510099 = 1.9019797
        after, own = built.aggregate(CURRENT, own, spool_of(tmp_path / "s", REPLIES))
        np.testing.assert_allclose(after["w"], [1.0993356, 1.9019797], rtol=2e-7)
        np.testing.assert_allclose(own["m/w"], [0.15, -0.05], rtol=1e-6)
        np.testing.assert_allclose(own["v/w"], [0.02250099, 0.00250099], rtol=1e-6)
        assert after["n"] == 12
        # second round, the sites stay where they are: d = (1.4006644, -0.4019797), m = 0.9 m + 0.1 d = (0.27506644, -0.08519797)
        again, own = built.aggregate(after, own, spool_of(tmp_path / "t", REPLIES))
        np.testing.assert_allclose(own["m/w"], [0.27506644, -0.08519797], rtol=1e-6)
        second = 0.99 * 0.02250099 + 0.01 * 1.4006644**2
        assert again["w"][0] == pytest.approx(1.0993356 + 0.1 * 0.27506644 / (math.sqrt(second) + 0.001), rel=1e-6)

    @pytest.mark.parametrize(
        ("name", "knobs", "first", "second"),
        [
            # v = d, w + d = (2.5, 1.5); the sites stay: d = 0, v = 0.5 (1.5, -0.5)
            ("fedavgm", {"momentum": 0.5}, [2.5, 1.5], [3.25, 1.25]),
            # v = 1e-6 + d^2 = (2.250001, 0.250001); 1 + 0.15 / 1.5010003, 2 - 0.05 / 0.501001
            ("fedadagrad", {"eta": 0.1}, [1.0999334, 1.9001998], None),
            # v = 1e-6 + 0.01 d^2 = (0.022501, 0.002501), m = 0.1 d; 1 + 0.015 / 0.1510033, 2 - 0.005 / 0.05101
            ("fedyogi", {"eta": 0.1}, [1.0993356, 1.9019800], None),
            # factors 1 and 1 / sqrt(13): 1 + 0.75 + 0.25 * 3 / sqrt(13), 2 - 0.25 * 2 / sqrt(13)
            ("norm_bound", {"bound": 1.0}, [1.9580126, 1.8613250], None),
        ],
    )
    def test_two_sites(self, name: str, knobs: dict[str, Any], first: list[float], second: list[float] | None, tmp_path: Path) -> None:
        built = strategy(name, **knobs)(None)
        after, own = built.aggregate(CURRENT, built.start(CURRENT), spool_of(tmp_path / "s", REPLIES))
        np.testing.assert_allclose(after["w"], first, rtol=1e-7)
        assert after["n"] == 12
        if second:
            np.testing.assert_allclose(built.aggregate(after, own, spool_of(tmp_path / "t", REPLIES))[0]["w"], second, rtol=1e-6)

    def test_fednova(self, tmp_path: Path) -> None:
        # one step at a, four at b: sum p d / a = 0.75 (1, 0) + 0.25 (3, -2) / 4 = (0.9375, -0.125); tau = 0.75 + 0.25 * 4 = 1.75
        after, _ = strategy("fednova")(None).aggregate(CURRENT, {}, spool_of(tmp_path / "s", REPLIES, {"a": 1, "b": 4}))
        np.testing.assert_allclose(after["w"], [2.640625, 1.78125], rtol=1e-7)
        assert after["n"] == 12

    def test_fednova_averages_what_a_normalisation_layer_measured(self, tmp_path: Path) -> None:
        key = "bn.running_var"
        replies: dict[str, tuple[State, int]] = {site: ({key: np.array([value])}, 1) for site, value in (("a", 1.0), ("b", 3.0))}
        after, _ = strategy("fednova")(None).aggregate({key: np.array([9.0])}, {}, spool_of(tmp_path / "s", replies, {"a": 1, "b": 50}))
        assert after[key] == pytest.approx([2.0])  # per step it would be negative: 9 - 25.5 (8 / 1 + 6 / 50) / 2

    def test_fednova_needs_the_learning_rate_of_a_pull(self) -> None:
        with pytest.raises(BadChoice, match="mu needs lr"):
            strategy("fednova", mu=0.1)(None)

    def test_scaffold(self, tmp_path: Path) -> None:
        built = strategy("scaffold")(None)
        own = built.start(CURRENT)
        assert built.sends(own) == {}
        # a takes one step, b two: s_a = (1, 2) - (2, 2) = (-1, 0), s_b = ((1, 2) - (4, 0)) / 2 = (-1.5, 1); (30 s_a + 10 s_b) / 40
        after, own = built.aggregate(CURRENT, own, spool_of(tmp_path / "s", REPLIES, {"a": 1, "b": 2}))
        np.testing.assert_allclose(after["w"], [2.5, 1.5])
        np.testing.assert_allclose(built.sends(own)["c/w"], [-1.125, 0.25], rtol=1e-6)
        # a alone: s_a = (-1, 0) - (-1.125, 0.25) + (2.5, 1.5) - (2.5, 2.5) = (0.125, -1.25); b keeps its own; again (30 s_a + 10 s_b) / 40
        alone: dict[str, tuple[State, int]] = {"a": ({"w": np.array([2.5, 2.5], np.float32), "n": np.array(12)}, 30)}
        after, own = built.aggregate(after, own, spool_of(tmp_path / "t", alone))
        np.testing.assert_allclose(after["w"], [2.5, 2.5])
        sent = built.sends(own)
        np.testing.assert_allclose(sent.pop("c/w"), [-0.28125, -0.6875], rtol=1e-6)
        assert {key: int(value) for key, value in sent.items()} == {"counted/a": 2, "counted/b": 1}

    def test_scaffold_undoes_the_schedule_of_the_learning_rate(self, tmp_path: Path) -> None:
        built, spool = strategy("scaffold")(None), spool_of(tmp_path / "s", REPLIES)
        spool.factor = 0.5
        _, own = built.aggregate(CURRENT, built.start(CURRENT), spool)
        np.testing.assert_allclose(built.sends(own)["c/w"], [-3.0, 1.0], rtol=1e-6)  # twice the mean of (-1, 0) and (-3, 2), thrice the first

    def test_feddyn(self, tmp_path: Path) -> None:
        built = strategy("feddyn", alpha=0.25)(None)
        # mean (3, 1); the sites moved (1, 0) + (3, -2) = (4, -2) in all, half of it is added
        after, own = built.aggregate(CURRENT, built.start(CURRENT), spool_of(tmp_path / "s", REPLIES))
        np.testing.assert_allclose(after["w"], [5.0, 0.0])
        # a alone moves (1, 0): (4, -2) + (1, 0) = (5, -2) in all; (6, 0) + (2.5, -1)
        alone: dict[str, tuple[State, int]] = {"a": ({"w": np.array([6.0, 0.0], np.float32), "n": np.array(12)}, 30)}
        after, _ = built.aggregate(after, own, spool_of(tmp_path / "t", alone))
        np.testing.assert_allclose(after["w"], [8.5, -1.0])

    @pytest.mark.parametrize(
        ("name", "knobs", "places", "expected"),
        [
            ("median", {}, [[2, 2], [4, 0], [100, 1]], [4, 1]),
            ("trimmed_mean", {"share": 0.25}, [[0, 0], [1, 5], [3, 9], [100, 7]], [2, 6]),
            # a point between four corners of a convex figure: where its diagonals meet, y = x and y = 1 - x / 2
            ("geometric_median", {}, [[0, 0], [2, 2], [2, 0], [0, 1]], [2 / 3, 2 / 3]),
            # squared distances to the two nearest: 5, 2, 5, 13, 74
            ("krum", {}, [[0, 0], [1, 0], [2, 0], [4, 0], [9, 0]], [1, 0]),
            ("krum", {"chosen": 2}, [[0, 0], [1, 0], [2, 0], [4, 0], [9, 0]], [0.5, 0]),
            # lengths 0, 3, 4: the median is 3; (0 + 3 + 3 / 4 * 4) / 3
            ("norm_bound", {}, [[0, 0], [3, 0], [0, 4]], [1, 1]),
        ],
    )
    def test_robust(self, name: str, knobs: dict[str, Any], places: list[list[float]], expected: list[float], tmp_path: Path) -> None:
        replies = {f"s{number}": ({"w": np.array(place, float)}, 1) for number, place in enumerate(places)}
        after, _ = strategy(name, **knobs)(None).aggregate({"w": np.zeros(2)}, {}, spool_of(tmp_path / "s", replies))
        np.testing.assert_allclose(after["w"], expected, atol=1e-6)

    @pytest.mark.parametrize(
        ("knobs", "expected", "count"),
        [
            # losses 2 and 1, changes (1, 0) and (3, -2) of squared lengths 1 and 13, L = 2: (2 (1, 0) + (3, -2)) / (2 + 2 + 1 + 26)
            ({"q": 1.0, "lr": 0.5}, [1 + 5 / 31, 2 - 2 / 31], 12),
            # q = 2: (4 (1, 0) + (3, -2)) / (4 + 2 * 2 * 2 * 1 + 1 + 2 * 1 * 2 * 13)
            ({"q": 2.0, "lr": 0.5}, [1 + 7 / 65, 2 - 2 / 65], 12),
            ({"q": 0.0}, [3, 1], 12),
        ],
    )
    def test_qfedavg(self, knobs: dict[str, Any], expected: list[float], count: int, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "s")
        for site, loss in (("a", 2.0), ("b", 1.0)):
            spool.add(site, REPLIES[site][0], num_cases=REPLIES[site][1], steps=1, metrics={"received_loss": loss})
        after, _ = strategy("qfedavg", **knobs)(None).aggregate(CURRENT, {}, spool)
        np.testing.assert_allclose(after["w"], expected, rtol=1e-6)
        assert after["n"] == count

    def test_qfedavg_with_losses_that_are_all_zero_or_missing(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "s")
        spool.add("a", REPLIES["a"][0], num_cases=1, steps=1, metrics={"received_loss": 0.0})
        after, _ = strategy("qfedavg")(None).aggregate(CURRENT, {}, spool)
        assert digest(after) == digest(CURRENT)
        spool.add("b", REPLIES["b"][0], num_cases=1, steps=1)
        with pytest.raises(BadState, match="received_loss"):
            strategy("qfedavg")(None).aggregate(CURRENT, {}, spool)

    def test_fedbuff(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "s")
        spool.add("a", REPLIES["a"][0], num_cases=30, steps=1)
        spool.add("b", REPLIES["b"][0], num_cases=10, steps=1, staleness=3)
        after, _ = strategy("fedbuff")(None).aggregate(CURRENT, {}, spool)
        # 3/4 (1, 0) + 1/4 (3, -2) / sqrt(1 + 3)
        np.testing.assert_allclose(after["w"], [1 + 0.75 + 0.375, 2 - 0.25], rtol=1e-6)
        assert after["n"] == 12
        after, _ = strategy("fedbuff", eta=0.5, weighting="equal")(None).aggregate(CURRENT, {}, spool)
        np.testing.assert_allclose(after["w"], [1 + 0.25 + 0.375, 2 - 0.25], rtol=1e-6)

    def test_cyclic_keeps_what_the_last_site_made(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "s")
        for place, site in enumerate("ba", 1):
            spool.add(site, REPLIES[site][0], num_cases=1, steps=1, place=place)
        after, _ = strategy("cyclic")(None).aggregate(CURRENT, {}, spool)
        assert digest(after) == digest(REPLIES["a"][0])

    def test_one_shot_releases_every_member(self, tmp_path: Path) -> None:
        built = strategy("one_shot")(None)
        after, own = built.aggregate(CURRENT, {}, spool_of(tmp_path / "s", REPLIES))
        np.testing.assert_array_equal(after["w"], np.array([2.5, 1.5], np.float32))
        released = built.release(after, own)
        assert sorted(released) == ["ensemble/0/n", "ensemble/0/w", "ensemble/1/n", "ensemble/1/w", "ensemble/weights"]
        np.testing.assert_array_equal(released["ensemble/weights"], [0.75, 0.25])
        np.testing.assert_array_equal(released["ensemble/1/w"], REPLIES["b"][0]["w"])

    def test_snapshot_releases_the_means_at_the_ends_of_the_last_cycles(self, tmp_path: Path) -> None:
        built = strategy("snapshot", every=2, members=2)(None)
        state, own, means = CURRENT, built.start(CURRENT), []
        for number in range(1, 8):
            replies = {site: ({**reply, "w": reply["w"] + number}, cases) for site, (reply, cases) in REPLIES.items()}
            state, own = built.aggregate(state, own, spool_of(tmp_path / str(number), replies))
            means.append(state["w"].copy())
            state["w"][:] = -1  # a member is a copy: what becomes of the state is its own matter
            if number < 4:
                assert built.release(state, own) is state
        released = built.release(state, own)
        members = members_of(released)
        assert [member.weight for member in members] == [0.5, 0.5]
        np.testing.assert_array_equal([member.state["w"] for member in members], [means[3], means[5]])
        plain, _ = strategy("fedavg")(None).aggregate(CURRENT, {}, spool_of(tmp_path / "plain", REPLIES))
        np.testing.assert_array_equal(means[0], plain["w"] + 1)

    def test_exact_sum_hands_every_contribution_to_the_model(self, tmp_path: Path) -> None:
        model = build(Choice(name="logistic"), inputs=1, outputs=2)
        state = model.start(seed=0)
        x = {"a": np.array([[1.0], [2.0]]), "b": np.array([[6.0]])}
        replies = {site: (model.contribution(state, x[site], np.zeros(len(x[site]), int), seed=0), len(x[site])) for site in x}
        after, _ = strategy("exact_sum")(model).aggregate(state, {}, spool_of(tmp_path / "s", replies))
        # mean (1 + 2 + 6) / 3 = 3, variance (1 + 4 + 36) / 3 - 9 = 14 / 3
        assert after["mean"][0] == pytest.approx(3.0)
        assert after["scale"][0] == pytest.approx(math.sqrt(14 / 3))

    def test_union_keeps_trees_in_proportion_to_patients(self, tmp_path: Path) -> None:
        model = build(Choice.model_validate({"name": "forest", "trees": 4, "min_leaf": 1}), inputs=1, outputs=2)
        x, y = np.arange(8.0)[:, None], np.arange(8) // 4
        grown = {site: model.contribution({}, x, y, seed=seed) for seed, site in enumerate("ab")}
        after, _ = strategy("union")(model).aggregate(
            model.start(seed=0), {}, spool_of(tmp_path / "s", {"a": (grown["a"], 30), "b": (grown["b"], 10)})
        )
        assert len(after["first"]) == 4  # three of a, one of b
        np.testing.assert_array_equal(after["value"][: after["first"][3]], grown["a"]["value"][: grown["a"]["first"][3]])
        np.testing.assert_array_equal(after["value"][after["first"][3] :], grown["b"]["value"][: grown["b"]["first"][1]])


def states(seed: int) -> State:
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(4, 3)).astype(np.float32), "b": rng.normal(size=3).astype(np.float32), "n": rng.integers(0, 9, ())}


@pytest.mark.parametrize("name", GRADIENT)
class TestEveryGradientStrategy:
    def test_order_of_arrival_does_not_matter(self, name: str, tmp_path: Path) -> None:
        replies = {site: (states(number), 5 + number) for number, site in enumerate("abcde")}
        built, seen = strategy(name)(None), set()
        for order in list(itertools.permutations(replies))[::7]:
            spool = spool_of(tmp_path / "".join(order), {site: replies[site] for site in order})
            after, own = built.aggregate(states(9), built.start(states(9)), spool)
            seen.add((digest(after), digest(own)))
        assert len(seen) == 1

    def test_its_own_state_survives_the_disk_bit_for_bit(self, name: str, tmp_path: Path) -> None:
        def run(folder: Path, through_disk: bool) -> tuple[str, str]:
            built, state = strategy(name)(None), states(9)
            own = built.start(state)
            for number in range(4):
                if through_disk:  # a resumed run: a new strategy, states read from files
                    built, state, own = strategy(name)(None), unpack_state(pack_state(state)), unpack_state(pack_state(own))
                state, own = built.aggregate(
                    state, own, spool_of(folder / str(number), {s: (states(number * 7 + i), 3 + i) for i, s in enumerate("abcde")})
                )
            return digest(state), digest(own)

        assert run(tmp_path / "a", False) == run(tmp_path / "b", True)

    def test_nothing_is_changed_in_place_and_the_layout_stays(self, name: str, tmp_path: Path) -> None:
        current = states(9)
        built = strategy(name)(None)
        own = built.start(current)
        before = digest(current), digest(own)
        after, _ = built.aggregate(current, own, spool_of(tmp_path / "s", {site: (states(1 + i), 1) for i, site in enumerate("abcde")}))
        assert (digest(current), digest(own)) == before
        assert {k: (v.shape, v.dtype) for k, v in after.items()} == {k: (v.shape, v.dtype) for k, v in current.items()}

    def test_sites_that_agree_with_the_server_change_nothing(self, name: str, tmp_path: Path) -> None:
        current = states(9)
        built = strategy(name)(None)
        after, _ = built.aggregate(current, built.start(current), spool_of(tmp_path / "s", {s: (current, 3 + i) for i, s in enumerate("abcde")}))
        for key in current:
            np.testing.assert_allclose(after[key], current[key], rtol=1e-6)

    def test_its_rule_is_known_to_the_sites(self, name: str) -> None:
        from client.training.rules import rule_of

        rule_of(strategy(name)(None).rule, {})


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_names_its_source_and_what_it_serves(name: str) -> None:
    assert STRATEGIES[name].source
    assert STRATEGIES[name].fit in DEFAULTS
    with pytest.raises(BadChoice, match="no knob 'zzz'"):
        strategy(name, zzz=1)


@pytest.mark.parametrize(("model", "name"), [("logistic", "fedavg"), ("forest", "exact_sum"), ("mil_cnn", "union")])
def test_a_strategy_that_does_not_serve_the_model(model: str, name: str) -> None:
    experiment = Experiment(name="x", data=Data(classes=("a", "b")), model=Choice(name=model), strategy=Choice(name=name))
    with pytest.raises(BadChoice, match="does not serve"):
        strategy_of(experiment, None)
