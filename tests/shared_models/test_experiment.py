"""The experiment TOML: every line of the shipped one, wrong in turn, is named with its place; all faults come at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from shared_models.core.choices import load_toml
from shared_models.core.errors import BadExperiment
from shared_models.experiment import Experiment, learning_rate_factor
from sim.check import faults, load_checked
from sim.experiments import path_of

FIBROSIS: dict[str, Any] = load_toml(path_of("fibrosis"))
Path_ = tuple[str | int, ...]


def lines(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every key of the document with its value, tables and lists of tables included."""
    if path and isinstance(path[-1], str):
        yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from lines(inner, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            yield from lines(inner, (*path, number))


LINES = list(lines(FIBROSIS))


def of_another_type(value: Any) -> Any:
    return 5 if isinstance(value, str) else "wrong"


def out_of_range(path: Path_, value: Any) -> Any:
    if path[-1] == "window_hu":
        return list(reversed(value))
    if path[-1] == "augment":
        return [{"name": "wrong"}]
    if isinstance(value, str):
        return "wrong " * 500
    if isinstance(value, bool):
        return 17
    if isinstance(value, int | float):
        return -(10**9)
    return [] if isinstance(value, list) else {"wrong": {}}


def changed(path: Path_, value: Any, key: str | None = None) -> dict[str, Any]:
    document = copy.deepcopy(FIBROSIS)
    here: Any = document
    for part in path[:-1]:
        here = here[part]
    if key is not None:
        del here[path[-1]]
    here[key or path[-1]] = value
    return document


def faults_of(document: dict[str, Any], folder: Path) -> list[str]:
    (folder / "wrong.toml").write_text(tomli_w.dumps(document))
    with pytest.raises(BadExperiment) as refused:
        load_checked(str(folder / "wrong.toml"), [])
    return refused.value.faults


def names_the_place(fault: str, path: Path_, words: tuple[str, ...]) -> bool:
    """The fault starts with the way to the place, as far as numbers and tables go, and says the key or what was found."""
    tables = path[: max((n + 1 for n, part in enumerate(path) if isinstance(part, int)), default=1)]
    return fault.startswith(".".join(map(str, tables))) and any(word in fault for word in words)


def spelt(path: Path_) -> str:
    return ".".join(map(str, path))


@pytest.mark.parametrize(("path", "value"), LINES, ids=[spelt(path) for path, _ in LINES])
def test_a_wrong_line_is_named(path: Path_, value: Any, tmp_path: Path) -> None:
    for wrong in (of_another_type(value), out_of_range(path, value)):
        found = faults_of(changed(path, wrong), tmp_path)
        assert any(names_the_place(fault, path, (str(path[-1]), repr(wrong))) for fault in found), (wrong, found)


# The keys under `merge` are a hospital's own labels: any word may stand there.
SPELT = [path for path, _ in LINES if path[-2:-1] != ("merge",)]


@pytest.mark.parametrize("path", SPELT, ids=spelt)
def test_a_misspelt_key_is_named(path: Path_, tmp_path: Path) -> None:
    value = dict(LINES)[path]
    key = f"{path[-1]}x"
    found = faults_of(changed(path, value, key=key), tmp_path)
    assert any(names_the_place(fault, path, (key, str(path[-1]))) for fault in found), found


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    document = copy.deepcopy(FIBROSIS)
    document["seed"] = "x"
    document["inputs"]["slices"] = 0
    document["federation"]["rounds"] = 0
    document["train"]["epoch"] = 1
    assert sorted(fault.split(":")[0] for fault in faults_of(document, tmp_path)) == ["federation.rounds", "inputs.slices", "seed", "train.epoch"]


def test_all_faults_of_the_tables_come_at_once(tmp_path: Path) -> None:
    document = copy.deepcopy(FIBROSIS)
    document["model"] = {"name": "forest"}
    document["strategy"]["name"] = "fedavgg"
    document["train"]["augment"][1]["hu"] = -1
    document["evaluation"]["headline"] = "auroc"
    document["simulation"]["hospitals"][2]["scanner"] = "Z"
    document["simulation"]["hospitals"][3]["patients"] = 0
    places = [fault.split(":")[0] for fault in faults_of(document, tmp_path)]
    assert sorted(places) == [
        "evaluation.headline",
        "inputs.columns",
        "simulation.hospitals.2",
        "simulation.hospitals.3",
        "strategy",
        "train.augment.1",
    ]


def test_a_quorum_that_the_training_hospitals_cannot_reach() -> None:
    document = {**FIBROSIS, "federation": {**FIBROSIS["federation"], "quorum": 5}}
    assert [fault.split(":")[0] for fault in faults(Experiment.model_validate(document))] == ["federation.quorum"]


def test_the_shipped_experiment_is_sound_and_travels() -> None:
    experiment = load_checked("fibrosis", [])
    assert Experiment.from_json(experiment.to_json()) == experiment
    received = Experiment.from_json(experiment.for_sites().to_json())
    assert received.simulation is None
    assert received.digest == experiment.digest
    assert "hospitals" not in experiment.for_sites().to_json()


@pytest.mark.parametrize(
    ("path", "value"), [(p, v) for p, v in LINES if p[0] not in ("simulation",) and isinstance(v, int | float)], ids=lambda x: str(x)
)
def test_every_number_is_in_the_digest(path: Path_, value: float) -> None:
    other = value * 2 if value and path[-1] != "validation" else 1 if not value else 0.3
    if isinstance(value, bool):
        other = not value
    base = Experiment.model_validate(FIBROSIS)
    assert Experiment.model_validate(changed(path, other)).digest != base.digest


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"name": "x"}', '{"seed": NaN}'])
def test_a_received_text_that_is_no_experiment(text: str) -> None:
    with pytest.raises(BadExperiment):
        Experiment.from_json(text)


@pytest.mark.parametrize("line", ["federation.deadline_s=inf", "inputs.window_hu=[-inf, 100.0]", "train.optimiser.lr=inf", "seed=nan"])
def test_numbers_that_are_not_finite(line: str) -> None:
    with pytest.raises(BadExperiment, match=line.split("=")[0]):
        load_checked("fibrosis", [line])


def test_learning_rate_falls_from_one_and_never_to_zero() -> None:
    train = Experiment.model_validate(FIBROSIS).train
    factors = [learning_rate_factor(train, number, 15) for number in range(1, 16)]
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(0.02)
    assert factors == sorted(factors, reverse=True)
    assert learning_rate_factor(train.model_copy(update={"schedule": "constant"}), 9, 15) == 1.0
    assert learning_rate_factor(train, 1, 1) == 1.0
