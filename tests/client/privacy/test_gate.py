"""The gate: everything that may not leave, with its code, and nothing in the refusal that says more."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from client.privacy.gate import RANGES, Measured, release, release_metrics
from client.privacy.policy import breaches, enforce
from client.privacy.support import support_of, supported
from client.site import Policy, PrivacyPolicy
from shared_models.core.choices import Choice
from shared_models.core.errors import Refused
from shared_models.experiment import Data, Experiment, Privacy
from shared_models.messages import Update

LAYOUT = {"w": np.zeros((2, 3), np.float32), "n": np.array(0)}
TREES = {"feature": np.zeros(0, np.int32), "value": np.zeros((0, 3), np.float32)}
GOOD = Update(
    run="r", round=2, site="alpha", state={k: v + np.asarray(1, v.dtype) for k, v in LAYOUT.items()}, num_cases=10, steps=4, metrics={"val_loss": 0.5}
)
STATE = GOOD.state


def code_of(update: Update, folder: Path, *, layout: dict = LAYOUT, **policy: Any) -> str:
    try:
        assert release(update, layout=layout, policy=Policy(**policy), record=folder / "out.jsonl") is update
    except Refused as error:
        return error.code
    return ""


REFUSED: list[tuple[str, Any]] = [
    ("E_FEW_CASES", {"num_cases": 9}),
    ("E_FEW_CASES", {"num_cases": 0}),
    ("E_KEYS", {"state": {**STATE, "patients": np.zeros(3)}}),
    ("E_KEYS", {"state": {"w": STATE["w"]}}),
    ("E_KEYS", {"state": {**STATE, "w": STATE["w"].astype(np.float64)}}),
    ("E_KEYS", {"state": {**STATE, "w": np.ones((2, 4), np.float32)}}),
    ("E_KEYS", {"state": {**STATE, "w": np.ones((1, 2, 3), np.float32)}}),
    ("E_KEYS", {"extra": {"c": np.zeros(1)}}),
    ("E_VALUES", {"state": {**STATE, "w": np.full((2, 3), np.nan, np.float32)}}),
    ("E_VALUES", {"state": {**STATE, "w": np.full((2, 3), np.inf, np.float32)}}),
]


@pytest.mark.parametrize(("code", "change"), REFUSED)
def test_each_refusal_has_its_code_and_leaves_no_line(code: str, change: dict[str, Any], tmp_path: Path) -> None:
    assert code_of(replace(GOOD, **change), tmp_path) == code
    assert not (tmp_path / "out.jsonl").exists()


def test_the_largest_payload(tmp_path: Path) -> None:
    assert code_of(GOOD, tmp_path, max_payload_mb=31e-6) == "E_PAYLOAD"
    assert code_of(GOOD, tmp_path, max_payload_mb=33e-6) == ""


def test_trees_may_have_any_number_but_not_another_kind(tmp_path: Path) -> None:
    trees = {"feature": np.zeros(7, np.int32), "value": np.zeros((7, 3), np.float32)}
    assert code_of(replace(GOOD, state=trees), tmp_path, layout=TREES) == ""
    assert code_of(replace(GOOD, state={**trees, "value": np.zeros((7, 4), np.float32)}), tmp_path, layout=TREES) == "E_KEYS"
    assert code_of(replace(GOOD, state={**trees, "feature": np.zeros((7, 1), np.int32)}), tmp_path, layout=TREES) == "E_KEYS"


def test_a_judgement_carries_no_arrays(tmp_path: Path) -> None:
    assert code_of(replace(GOOD, state={}, num_cases=0), tmp_path, layout={}) == ""
    assert code_of(GOOD, tmp_path, layout={}) == "E_KEYS"


@pytest.mark.parametrize(("code", "change"), REFUSED)
def test_a_refusal_does_not_say_how_many_patients(code: str, change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        release(replace(GOOD, **change), layout=LAYOUT, policy=Policy(), record=tmp_path / "out.jsonl")
    if code == "E_FEW_CASES":
        assert not any(character.isdigit() for character in str(refused.value))


def test_the_record_is_the_owners_alone_and_names_what_left(tmp_path: Path) -> None:
    path = tmp_path / "site" / "out.jsonl"
    for _ in range(2):
        release(GOOD, layout=LAYOUT, policy=Policy(), record=path)
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 2
    assert {key: lines[0][key] for key in ("run", "round", "bytes", "keys", "num_cases", "metrics")} == {
        "run": "r",
        "round": 2,
        "bytes": 32,
        "keys": 2,
        "num_cases": 10,
        "metrics": {"val_loss": 0.5},
    }


def test_what_cannot_be_recorded_does_not_leave(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").mkdir()
    with pytest.raises(OSError, match="directory"):
        release(GOOD, layout=LAYOUT, policy=Policy(), record=tmp_path / "out.jsonl")


@example(name="val_auroc_macro", value=0.9, cases=30, smallest=4)
@example(name="val_auroc_macro", value=0.9, cases=30, smallest=5)
@example(name="val_auroc_macro", value=0.9, cases=9, smallest=9)
@example(name="val_loss", value=19570612.0, cases=30, smallest=None)
@example(name="val_cases", value=3.0, cases=30, smallest=None)
@example(name="val_loss", value=float("nan"), cases=30, smallest=None)
@given(
    name=st.sampled_from(["val_loss", "val_auroc_macro", "val_cases"]),
    value=st.floats(allow_nan=True, allow_infinity=True) | st.none(),
    cases=st.integers(0, 30),
    smallest=st.none() | st.integers(0, 10),
)
def test_a_metric_leaves_exactly_when_every_rule_holds(name: str, value: float | None, cases: int, smallest: int | None) -> None:
    policy = Policy(metrics=("val_loss", "val_auroc_macro"), min_cases=10, min_per_class=5, decimals=2)
    allowed = name in policy.metrics and cases >= 10 and (smallest is None or smallest >= 5) and value is not None and abs(value) < 1e12
    if allowed and value is not None and not RANGES[name][0] <= value <= RANGES[name][1]:
        with pytest.raises(Refused) as refused:
            release_metrics({name: Measured(value, cases, smallest)}, policy)
        assert refused.value.code == "E_METRIC"
        return
    out = release_metrics({name: Measured(value, cases, smallest)}, policy)
    assert (name in out) == allowed
    if allowed and value is not None:
        assert out[name] == round(value, 2)


def test_a_number_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        release_metrics({"patient_age": Measured(61.0, 99)}, Policy())
    assert refused.value.code == "E_METRIC"
    assert release_metrics({"dice": Measured(61.0, 99)}, Policy(metrics=("dice",))) == {"dice": 61.0}  # a site may list its own


def test_rounding_and_support_of_single_metrics() -> None:
    policy = Policy(rounding={"val_loss": 1}, support={"val_accuracy": 40})
    measured = {"val_loss": Measured(0.1234567, 30), "train_loss": Measured(0.1234567, 30), "val_accuracy": Measured(0.5, 39)}
    assert release_metrics(measured, policy) == {"val_loss": 0.1, "train_loss": 0.1235}
    assert release_metrics({"val_accuracy": Measured(0.5, 40)}, policy) == {"val_accuracy": 0.5}
    assert release_metrics({"val_loss": Measured(0.5, 9)}, Policy(support={"val_loss": 1})) == {}  # it raises the minimum, never lowers it


SUMS = {"counts": np.zeros(3), "gram": np.zeros((2, 2))}
LABELS = np.repeat([0, 1, 2], [12, 6, 0])
PEOPLE = tuple(f"p{number}" for number in range(18))


@pytest.mark.parametrize(
    ("counts", "labels", "names", "code"),
    [
        ((12, 6, 0), LABELS, PEOPLE, ""),
        ((12, 5, 1), LABELS, PEOPLE, "E_FEW_CASES"),  # a count of a class that nobody has
        ((12, 5, 0), LABELS, PEOPLE, "E_VALUES"),  # not the true one
        ((6, 12, 0), LABELS, PEOPLE, "E_VALUES"),
        ((14, 4, 0), np.repeat([0, 1], [14, 4]), PEOPLE, "E_FEW_CASES"),
        ((12, 6, 0), LABELS, PEOPLE[:12] + ("one",) * 6, "E_FEW_CASES"),  # six records of one patient
        ((12, 6, 0), LABELS, ("one",) * 18, "E_FEW_CASES"),
    ],
)
def test_counts_inside_sums(counts: tuple[int, ...], labels: np.ndarray, names: tuple[str, ...], code: str, tmp_path: Path) -> None:
    update = replace(GOOD, state={"counts": np.array(counts, float), "gram": np.eye(2)}, num_cases=18)

    def let(**more: Any) -> Update:
        return release(update, layout=SUMS, policy=Policy(), record=tmp_path / "o", support=support_of(labels, names, 3), **more)

    if not code:
        assert let(counts={"counts": "class"}) is update
        return
    with pytest.raises(Refused) as refused:
        let(counts={"counts": "class"})
    assert refused.value.code == code


def test_more_steps_than_were_asked_for(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        release(replace(GOOD, steps=19570612), layout=LAYOUT, policy=Policy(), record=tmp_path / "o", most_steps=4)


def test_keys_that_may_leave(tmp_path: Path) -> None:
    assert code_of(GOOD, tmp_path, keys=("w",)) == "E_POLICY_KEYS"
    assert code_of(GOOD, tmp_path, keys=("w", "[n]")) == ""


def experiment(model: str = "logistic", strategy: str | None = None) -> Experiment:
    return Experiment(name="x", data=Data(classes=("a", "b")), model=Choice(name=model), strategy=Choice(name=strategy) if strategy else None)


class TestPolicy:
    @pytest.mark.parametrize(
        ("policy", "model", "strategy", "codes"),
        [
            ({}, "logistic", None, []),
            ({"models": ("forest", "logistic")}, "logistic", "fedavg", []),
            ({"models": ("forest",)}, "logistic", None, ["E_POLICY_MODEL"]),
            ({"models": ()}, "logistic", None, ["E_POLICY_MODEL"]),
            ({"strategies": ("fedavg",)}, "mil_cnn", "fedavg", []),
            ({"strategies": ("fedavg",)}, "mil_cnn", "fedprox", ["E_POLICY_STRATEGY"]),
            ({"strategies": ("fedprox",)}, "mil_cnn", None, ["E_POLICY_STRATEGY"]),  # the server would choose
            ({"models": ("forest",), "strategies": ("fedavg",)}, "mil_cnn", "fedprox", ["E_POLICY_MODEL", "E_POLICY_STRATEGY"]),
        ],
    )
    def test_every_breach_is_named(self, policy: dict[str, Any], model: str, strategy: str | None, codes: list[str]) -> None:
        assert [breach.code for breach in breaches(experiment(model, strategy), Policy(**policy))] == codes
        if codes:
            with pytest.raises(Refused) as refused:
                enforce(experiment(model, strategy), Policy(**policy))
            assert refused.value.code == codes[0]
        else:
            enforce(experiment(model, strategy), Policy(**policy))

    @pytest.mark.parametrize(
        ("policy", "privacy", "codes"),
        [
            ({}, {}, []),
            ({"required": True}, {}, ["E_POLICY_PRIVACY", "E_POLICY_NOISE"]),
            ({"epsilon_limit": 8}, {}, ["E_POLICY_PRIVACY", "E_POLICY_NOISE"]),  # a limit asks for privacy
            ({"required": True}, {"unit": "patient", "noise_multiplier": 1.0}, []),
            ({"required": True}, {"unit": "record", "noise_multiplier": 1.0}, ["E_POLICY_PRIVACY"]),
            ({"required": True}, {"unit": "site", "noise_multiplier": 1.0}, ["E_POLICY_PRIVACY"]),
            ({"required": True, "units": ("record",)}, {"unit": "record", "noise_multiplier": 1.0}, []),
            ({"least_noise": 1.1}, {"unit": "patient", "noise_multiplier": 1.0}, ["E_POLICY_NOISE"]),
            ({"required": True}, {"unit": "patient", "noise_multiplier": 1.0, "delta": 1e-4}, ["E_POLICY_PRIVACY"]),
        ],
    )
    def test_privacy(self, policy: dict[str, Any], privacy: dict[str, Any], codes: list[str]) -> None:
        asked = experiment().model_copy(update={"privacy": Privacy(**privacy)})
        assert [breach.code for breach in breaches(asked, Policy(privacy=PrivacyPolicy(**policy)))] == codes

    def test_tasks_and_secure_sum(self) -> None:
        assert [one.code for one in breaches(experiment(), Policy(tasks=("survival",), secure_sum=True))] == ["E_POLICY_TASK", "E_POLICY_SUM"]
        assert breaches(experiment(), Policy(tasks=("diagnosis",))) == []


class TestSupport:
    def test_classes_of_too_few_patients_are_left_out(self) -> None:
        labels = np.repeat([0, 1, 2], [12, 4, 6])
        kept = supported(labels, tuple(map(str, range(22))), 3, least=10, least_per_class=5, per_class=True)
        assert labels[kept].tolist() == [0] * 12 + [2] * 6

    def test_a_small_site_and_a_site_of_small_classes_are_refused_alike(self) -> None:
        said = set()
        for labels in (np.repeat([0, 1], [4, 4]), np.repeat([0, 1, 2], [4, 4, 4]), np.zeros(0, int), np.zeros(9, int)):
            with pytest.raises(Refused) as refused:
                supported(labels, tuple(map(str, range(len(labels)))), 3, least=10, least_per_class=5, per_class=True)
            said.add((refused.value.code, str(refused.value)))
        assert len(said) == 1
        assert not any(character.isdigit() for character in said.pop()[1])
