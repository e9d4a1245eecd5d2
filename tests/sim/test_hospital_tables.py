"""Hospitals that are tables: the published split of the real ones, and a whole small federation."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from shared_models.core.errors import BadInput
from shared_models.core.files import read_json
from sim.experiments import find
from sim.hospital_tables import write_hospital
from sim.settings import Tables, simulation_of
from sim.simulation import simulate
from tests.client.real_data import needs_real_data, real

SIZES = {"cleveland": (199, 104), "hungarian": (172, 89), "switzerland": (30, 16), "va": (85, 45)}
"""Training and test patients of each hospital in FLamby's Fed-Heart-Disease (Ogier du Terrail et al. 2022, table 1)."""


@needs_real_data
@pytest.mark.parametrize("name", SIZES)
def test_the_split_is_the_published_one(name: str, tmp_path: Path) -> None:
    settings = simulation_of(find("heart_disease", []))
    assert isinstance(settings, Tables)
    write_hospital(settings, name, settings.files[name], real(), tmp_path)
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        parts = [row["part"] for row in csv.DictReader(file)]
    assert (parts.count("training"), parts.count("validation")) == SIZES[name]


def test_a_whole_federation_over_tables(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number, name in enumerate(("a", "b", "c")):
        rows = [f"{(i * 7 + number) % 50},{i % 3},{int((i * 7 + number) % 50 > 25)}" for i in range(60)]
        (data / f"{name}.data").write_text("\n".join([*rows, "1,?,0"]) + "\n", encoding="utf-8")
    simulation = {"kind": "tables", "header": ["x", "k", "y"], "labels": {"0": "absent", "1": "present"}, "complete": ["x", "k"]}
    files = {name: f"{name}.data" for name in ("a", "b", "c")}
    small = find("heart_disease", ["train.optimiser.lr=0.1", "train.steps=60", "federation.rounds=4"]).model_copy(
        update={"simulation": {**simulation, "files": files}}
    )
    small = small.model_copy(update={"inputs": small.inputs.model_copy(update={"columns": ("x", "k=1", "k=2")})})
    report = simulate(small, tmp_path / "out", data=data, quiet=True, processes=1)
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert metrics["federated"]["mean_of_sites"]["accuracy"] > 0.9
    assert set(metrics["federated"]["sites"]) == {"a", "b", "c"} == set(metrics["local_only"])
    page = report.read_text(encoding="utf-8")
    assert "Research use only" in page
    assert "the hospitals themselves, put aside before training" in page
    assert "of a hospital that took no part" not in page
    assert [site["cases"] for site in read_json(tmp_path / "out" / "run.json")["sites"]] == [39, 39, 39]


def test_missing_data_say_how_to_name_them(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--data"):
        simulate(find("heart_disease", []), tmp_path / "out", data=tmp_path, quiet=True, processes=1)
