"""`fedild compare` over small tables and patches: figures equal an ordinary simulation's, cells are resumed, failures are shown."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from server.combines import COMBINES
from server.strategies import STRATEGIES
from shared_models.core.errors import BadChoice, BadInput
from shared_models.core.files import read_json, read_state
from shared_models.core.state import digest
from shared_models.experiment import Experiment
from sim.compare import compare
from sim.comparison import ground
from sim.comparison.arms import Arm, arms_of
from sim.experiments import find, shipped
from sim.hospital_tables import write_hospital
from sim.progress import Progress
from sim.settings import simulation_of
from sim.simulation import simulate
from tests.sim.test_cli import fedild
from tests.sim.test_simulation import PATCHES, write_patches

HEADER = {"kind": "tables", "header": ["x", "k", "y"], "labels": {"0": "absent", "1": "present"}, "complete": ["x", "k"]}


def tables(folder: Path, *settings: str) -> Experiment:
    """Three hospitals whose borders between the classes differ: no one model suits all."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(("a", "b", "c")):
        rows = [f"{(i * 7 + number) % 50},{i % 3},{int((i * 7 + number) % 50 > 15 + 10 * number)}" for i in range(60)]
        (folder / f"{name}.data").write_text("\n".join(rows) + "\n", encoding="utf-8")
    small = find("heart_disease", ["train.optimiser.lr=0.1", "train.steps=20", "federation.rounds=3", "evaluation.bootstrap=40", *settings])
    inputs = small.inputs.model_copy(update={"columns": ("x", "k=1", "k=2")})
    return small.model_copy(update={"simulation": {**HEADER, "files": {name: f"{name}.data" for name in "abc"}}, "inputs": inputs})


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    experiment = tables(folder / "data")
    arms = arms_of("fedavg,ditto,krum,fedavg:train.optimiser.lr=0.01", experiment)
    assert compare(experiment, arms, folder / "out", seeds=2, data=folder / "data", quiet=True, processes=1) == folder / "out" / "compare.html"
    return folder


def test_a_cell_is_an_ordinary_simulation(compared: Path, tmp_path: Path) -> None:
    experiment = tables(compared / "data")
    simulate(experiment, tmp_path / "plain", data=compared / "data", quiet=True, processes=1)
    metrics = read_json(tmp_path / "plain" / "metrics.json")["federated"]
    cell = compared / "out" / "cells" / "fedavg" / "seed-42"
    states = [read_state(path / "final.safetensors") for path in (tmp_path / "plain" / "federation", cell / "run" / "federation")]
    assert digest(states[0]) == digest(states[1])
    figures = read_json(cell / "cell.json")
    assert figures["value"] == pytest.approx(metrics["mean_of_sites"]["accuracy"])
    assert figures["homes"] == {name: pytest.approx(found["accuracy"]["value"]) for name, found in metrics["sites"].items()}
    assert figures["curve"][-1] == [3, pytest.approx(figures["value"])] and len(figures["curve"]) == 3
    assert figures["bytes"] > 0 and figures["wall_s"] > 0 and figures["cases"] == 63


def test_a_personal_strategy_is_judged_with_what_the_site_keeps(compared: Path) -> None:
    ditto = compared / "out" / "cells" / "ditto" / "seed-42"
    told = read_json(ditto / "run" / "federation" / "site_metrics.json")
    figures = read_json(ditto / "cell.json")
    assert figures["homes"] == {site: pytest.approx(found["val_accuracy"], abs=1e-4) for site, found in told.items()}


def test_the_verdict_names_differences_and_failures(compared: Path) -> None:
    found = read_json(compared / "out" / "compare.json")
    first, ditto, krum, slow = found["arms"]
    assert found["headline"] == "accuracy" and found["seeds"] == [42, 43] and slow["label"] == "fedavg lr=0.01"
    assert first["against"] is None and first["finished"] == 2
    assert krum["finished"] == 0 and all("raise the quorum" in cell["error"] for cell in krum["cells"])
    values = [[cell["value"] for cell in arm["cells"]] for arm in (first, ditto)]
    assert ditto["against"]["value"] == pytest.approx(sum(values[1]) / 2 - sum(values[0]) / 2)
    assert ditto["against"]["n"] == 2 and 0 <= ditto["against"]["p"] <= ditto["against"]["p_holm"] <= 1
    assert ditto["against"]["patients"]["low"] <= ditto["against"]["patients"]["value"] <= ditto["against"]["patients"]["high"]
    for site, home in ditto["homes"].items():
        assert home["gain"]["value"] == pytest.approx(home["value"] - first["homes"][site]["value"])
    assert all(home["gain"]["value"] == 0 for home in first["homes"].values())


def test_the_page_is_whole_and_asks_nothing_of_the_network(compared: Path) -> None:
    page = (compared / "out" / "compare.html").read_text(encoding="utf-8")
    assert "Research use only" in page and "://" not in page.replace("http://www.w3.org/", "")
    for words in ("fedavg lr=0.01", "ditto", "What failed", "raise the quorum", "Student", "paired t-test over seeds (n = 2)", "Green gains"):
        assert words in page, words
    assert page.count("plot-curve-") >= 3 and 'id="plot-forest-title"' in page


def test_finished_cells_are_not_run_again_and_arms_may_be_added(compared: Path) -> None:
    experiment, out = tables(compared / "data"), compared / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("cell.json")}
    assert len(before) == 6
    compare(experiment, arms_of("fedavg,ditto,median", experiment), out, seeds=2, data=compared / "data", quiet=True, processes=1)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("cell.json")}
    assert len(after) == 8 and all(after[path] == at for path, at in before.items())
    assert [arm["label"] for arm in read_json(out / "compare.json")["arms"]] == ["fedavg", "ditto", "median"]
    with pytest.raises(BadInput, match="started with"):
        compare(tables(compared / "data", "train.batch=5"), arms_of("fedavg", experiment), out, data=compared / "data", quiet=True)


def test_an_interrupted_cell_goes_on_to_the_same_bits(compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sim.comparison import cell

    experiment, follow = tables(compared / "data"), cell.Judge.follow

    def stopped(self: cell.Judge, number: int, *rest: object) -> None:
        follow(self, number, *rest)  # type: ignore[arg-type]
        if number == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cell.Judge, "follow", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare(experiment, [Arm("fedavg")], tmp_path / "out", seeds=1, data=compared / "data", quiet=True, processes=1)
    monkeypatch.setattr(cell.Judge, "follow", follow)
    compare(experiment, [Arm("fedavg")], tmp_path / "out", seeds=1, data=compared / "data", quiet=True, processes=1)
    cells = [read_json(out / "cells" / "fedavg" / "seed-42" / "cell.json") for out in (tmp_path / "out", compared / "out")]
    told = [{key: one[key] for key in ("value", "curve", "homes", "rounds")} for one in cells]
    assert told[0] == told[1]


def test_tuning_by_folds_never_sees_a_test_patient(tmp_path: Path) -> None:
    experiment = tables(tmp_path / "data", "evaluation.folds=3")
    folds = ground.ground_of(experiment, tmp_path / "ground", data=tmp_path / "data", processes=1, progress=Progress(quiet=True))
    settings, held = simulation_of(experiment), []

    def rows(toml: Path) -> list[dict[str, str]]:
        with open(toml.parent / "table.csv", newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    whole = rows(write_hospital(settings, "a", "a.data", tmp_path / "data", tmp_path / "whole"))  # type: ignore[arg-type]
    training = {row["patient_id"] for row in whole if row["part"] == "training"}
    for fold in folds:
        found = rows(fold.train[0])
        assert {row["patient_id"] for row in found} == training
        held.append({row["patient_id"] for row in found if row["part"] == "validation"})
        assert {row["label"] for row in found if row["part"] == "validation"} == {"absent", "present"}
    assert set.union(*held) == training and sum(map(len, held)) == len(training)


def test_patches_are_compared_fold_by_fold(tmp_path: Path) -> None:
    write_patches(tmp_path / "patches.npz")
    (tmp_path / "squares.toml").write_text(PATCHES)
    experiment = Experiment.load(tmp_path / "squares.toml", ["federation.rounds=2", "evaluation.validation=0.2"])
    compare(experiment, [Arm("fedavg"), Arm("fedper")], tmp_path / "out", seeds=1, data=tmp_path, quiet=True, processes=1)
    found = read_json(tmp_path / "out" / "compare.json")
    assert [arm["finished"] for arm in found["arms"]] == [1, 1], found["arms"]
    cell = read_json(tmp_path / "out" / "cells" / "fedavg" / "seed-0" / "cell.json")
    assert set(cell["tests"]) == {"fold 1", "fold 2"} and cell["cases"] == 240 and set(cell["homes"]) == {"site1", "site2", "site3"}
    assert "about patches, not patients" in (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")


def test_phantoms_are_tested_on_the_held_out_hospital_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name / "site.toml" for name in ("alpha", "beta", "gamma", "delta", "epsilon")]
    prepared: list[Path] = []
    monkeypatch.setattr(ground, "make_phantoms", lambda *_, **__: paths)
    monkeypatch.setattr(ground, "prepare_sites", lambda experiment, sites, **_: prepared.extend(sites))
    (fold,) = ground.ground_of(find("label_skew", []), tmp_path, data=None, processes=1, progress=Progress(quiet=True))
    assert prepared == paths and list(fold.train) == paths[:4]
    assert [(test.site, test.part, test.own) for test in fold.tests] == [(paths[4], "all", False)]
    assert [(test.site, test.part, test.own) for test in fold.homes] == [(path, "validation", True) for path in paths[:4]]


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], compared: Path) -> None:
    assert fedild(monkeypatch, "compare", "heart_disease", "--strategies", "fedawg", "--out", str(compared / "new")) == 2
    assert "did you mean 'fedavg'" in capsys.readouterr().err and not (compared / "new").exists()
    assert fedild(monkeypatch, "compare", "heart_disease", "--strategies", "fedavg", "--out", str(compared / "out")) == 2
    assert "started with" in capsys.readouterr().err
    (compared / "out" / "compare.html").unlink()
    assert fedild(monkeypatch, "report", str(compared / "out")) == 0
    assert (compared / "out" / "compare.html").exists()


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        ("", BadInput, "needs strategies"),
        ("fedavg,fedavg", BadInput, "once"),
        ("fedawg", BadChoice, "did you mean 'fedavg'"),
        ("fedavg:seed.x=1", BadInput, "same patients"),
        ("fedavg:evaluation.folds=2", BadInput, "same patients"),
        ("fedavg:simulation.test=0.5", BadInput, "same patients"),
    ],
)
def test_arms_that_cannot_be_compared(words: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        arms_of(words, find("heart_disease", []))


def test_arms_carry_their_own_knobs() -> None:
    experiment = find("heart_disease", [])
    one, two = arms_of('fedper:personal=["0.weight", "head"]:weighting=equal , fedprox:mu=0.1:train.optimiser.lr=0.5', experiment)
    chosen = one.of(experiment, seed=7)
    assert chosen.strategy is not None and chosen.strategy.knobs == {"personal": ["0.weight", "head"], "weighting": "equal"} and chosen.seed == 7
    other = two.of(experiment, seed=7)
    assert other.strategy is not None and other.strategy.knobs == {"mu": 0.1} and other.train.optimiser.knobs == {"lr": 0.5}
    assert one.folder != two.folder and "/" not in one.folder and '"' not in one.folder
    own = experiment.model_copy(update={"strategy": two.of(experiment, seed=7).strategy})
    kept = Arm("fedprox").of(own, seed=0).strategy
    assert kept is not None and kept.knobs == {"mu": 0.1}


def test_all_is_every_strategy_that_serves_the_model() -> None:
    named = {arm.strategy for arm in arms_of("all", find("heart_disease", []))}
    assert named == {name for name, spec in STRATEGIES.items() if spec.fit == "gradient"} <= set(COMBINES)


def test_the_shipped_experiments_for_comparing_name_a_held_out_hospital() -> None:
    for name in ("label_skew", "scanner_shift"):
        assert name in shipped() and getattr(simulation_of(find(name, [])), "held_out", ()) == ("epsilon",)
