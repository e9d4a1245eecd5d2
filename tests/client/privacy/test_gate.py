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

from client.privacy.gate import Measured, release, release_metrics
from client.privacy.policy import breaches, enforce
from client.site import Policy
from shared_models.core.choices import Choice
from shared_models.core.errors import Refused
from shared_models.experiment import Data, Experiment
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
@example(name="age", value=61.0, cases=30, smallest=None)
@example(name="val_loss", value=float("nan"), cases=30, smallest=None)
@given(
    name=st.sampled_from(["val_loss", "val_auroc_macro", "age", "patient_count"]),
    value=st.floats(allow_nan=True, allow_infinity=True) | st.none(),
    cases=st.integers(0, 30),
    smallest=st.none() | st.integers(0, 10),
)
def test_a_metric_leaves_exactly_when_every_rule_holds(name: str, value: float | None, cases: int, smallest: int | None) -> None:
    policy = Policy(metrics=("val_loss", "val_auroc_macro"), min_cases=10, min_per_class=5, decimals=2)
    out = release_metrics({name: Measured(value, cases, smallest)}, policy)
    allowed = name in policy.metrics and cases >= 10 and (smallest is None or smallest >= 5) and value is not None and abs(value) < 1e12
    assert (name in out) == allowed
    if allowed and value is not None:
        assert out[name] == round(value, 2)


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
