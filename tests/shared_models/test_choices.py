"""A TOML's way into code: names, knobs, ranges, overrides, and the words of every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from shared_models.core.choices import Choice, Section, apply_overrides, load_toml, pick, validated
from shared_models.core.errors import BadChoice, BadExperiment, BadInput


def smooth(image: list[int], *, radius: Annotated[int, Field(ge=1, le=9)] = 2, mode: str = "mean") -> tuple[list[int], int, str]:
    return image, radius, mode


def need(image: list[int], *, width: int) -> int:
    return width


def bare(image: list[int]) -> list[int]:
    return image


TABLE = {"smooth": smooth, "need": need, "bare": bare}


def test_pick_binds_the_knobs_and_the_defaults() -> None:
    assert pick(TABLE, Choice.model_validate({"name": "smooth", "radius": 3}))([1]) == ([1], 3, "mean")
    assert pick(TABLE, Choice(name="smooth"))([1]) == ([1], 2, "mean")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"name": "smoth"}, "no step 'smoth'; did you mean 'smooth'? (choose from: bare, need, smooth)"),
        ({"name": "zzz"}, "no step 'zzz'; (choose from: bare, need, smooth)"),
        ({"name": "smooth", "radus": 3}, "step 'smooth' has no knob 'radus'; did you mean 'radius'?"),
        ({"name": "smooth", "zzz": 3}, "step 'smooth' has no knob 'zzz'; it takes radius, mode"),
        ({"name": "bare", "zzz": 3}, "step 'bare' has no knob 'zzz'; it takes no knobs"),
        ({"name": "smooth", "radius": 10}, "step 'smooth'.radius: input should be less than or equal to 9; found 10"),
        ({"name": "smooth", "radius": 0}, "step 'smooth'.radius: input should be greater than or equal to 1; found 0"),
        (
            {"name": "smooth", "radius": "wide"},
            "step 'smooth'.radius: input should be a valid integer, unable to parse string as an integer; found 'wide'",
        ),
        ({"name": "need"}, "step 'need'.width: is required"),
    ],
)
def test_refusals_say_the_rule_the_value_and_the_way_out(document: dict, words: str) -> None:
    with pytest.raises(BadChoice) as refused:
        pick(TABLE, Choice.model_validate(document), kind="step")
    assert str(refused.value) == words


def test_all_wrong_knobs_are_named_at_once() -> None:
    with pytest.raises(BadChoice) as refused:
        pick(TABLE, Choice.model_validate({"name": "smooth", "a": 1, "b": 2}), kind="step")
    assert "'a'" in str(refused.value)
    assert "'b'" in str(refused.value)


def test_overrides_reach_every_depth_and_leave_the_document() -> None:
    document = {"train": {"epochs": 1, "optimiser": {"name": "sgd"}}, "seed": 1}
    changed = apply_overrides(document, ["train.optimiser.lr=0.5", "seed=7", 'model.name="a b"', "title=plain words", "data.classes=['x', 'y']"])
    assert changed == {
        "train": {"epochs": 1, "optimiser": {"name": "sgd", "lr": 0.5}},
        "seed": 7,
        "model": {"name": "a b"},
        "title": "plain words",
        "data": {"classes": ["x", "y"]},
    }
    assert document == {"train": {"epochs": 1, "optimiser": {"name": "sgd"}}, "seed": 1}


def test_all_wrong_overrides_are_named_at_once() -> None:
    with pytest.raises(BadExperiment) as refused:
        apply_overrides({"seed": 1}, ["epochs", "a..b=1", "seed.x=1"])
    assert [fault.split(";")[0] for fault in refused.value.faults] == [
        "--set takes table.key=value",
        "--set takes table.key=value",
        "--set seed.x: 'seed' is a value, not a table",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "must exist"), (b"\xff\xfe", "UTF-8"), (b"a = \n", "valid TOML"), ("folder", "not its folder")],
)
def test_unreadable_tomls(tmp_path: Path, content: bytes | str | None, words: str) -> None:
    path = tmp_path / "x.toml"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(BadInput, match=words):
        load_toml(path)


class Part(Section):
    weight: float = 1.0
    inner: Choice = Choice(name="x")


def test_numbers_that_are_not_finite_are_refused_wherever_they_stand() -> None:
    with pytest.raises(BadExperiment) as refused:
        validated(Part, {"weight": float("inf"), "inner": {"name": "x", "lr": [1.0, float("nan")]}}, what="part")
    assert refused.value.faults == ["weight: input should be a finite number; found inf", "inner.lr.1: input should be a finite number; found nan"]
