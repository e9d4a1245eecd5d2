"""Statistics and stages in a simulation: the pooled baseline sums the same, and every model is judged on what the statistics leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared_models.core.files import read_json, read_state
from sim.check import faults
from sim.experiments import find
from sim.simulation import simulate


@pytest.mark.parametrize("name", ["heart_disease_components", "fibrosis_staged"])
def test_the_shipped_examples_are_sound(name: str) -> None:
    assert faults(find(name, [])) == []


def test_a_staged_federation_over_tables_beside_its_baselines(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number, name in enumerate(("a", "b", "c")):
        rows = [f"{(i * 7 + number) % 50 + 100 * number},{i % 3},{int((i * 7 + number) % 50 > 25)}" for i in range(60)]
        (data / f"{name}.data").write_text("\n".join(rows), encoding="utf-8")
    whole = find("heart_disease_components", ["train.optimiser.lr=0.1"])
    document = whole.model_dump(mode="json", exclude_none=True) | {
        "statistics": [{"name": "combat", "covariates": ["k=1"]}, {"name": "scaler"}],
        "stages": [{"rounds": 2}, {"rounds": 1, "train_only": ["0.bias"]}],
        "simulation": {
            "kind": "tables",
            "header": ["x", "k", "y"],
            "labels": {"0": "absent", "1": "present"},
            "complete": ["x", "k"],
            "files": {name: f"{name}.data" for name in ("a", "b", "c")},
        },
    }
    document["inputs"]["columns"] = ["x", "k=1"]
    del document["federation"]["rounds"]
    simulate(type(whole).model_validate(document), tmp_path / "out", data=data, quiet=True, processes=1)
    states = {
        "federated": read_state(tmp_path / "out" / "federation" / "final.safetensors"),
        "pooled": read_state(tmp_path / "out" / "baselines" / "pooled.safetensors"),
    }
    fits = [key for key in states["pooled"] if key.startswith("statistics/")]
    assert len(fits) == 7
    for key in fits:
        np.testing.assert_allclose(states["federated"][key], states["pooled"][key], rtol=1e-8, atol=1e-12)
    metrics = read_json(tmp_path / "out" / "metrics.json")
    # Each hospital's values lie a hundred apart: without ComBat no line through the columns parts the classes of all three.
    assert metrics["federated"]["mean_of_sites"]["accuracy"] > 0.85
    assert read_json(tmp_path / "out" / "run.json")["strategy"] == "combat, then scaler, then fedavg, then fedavg of 0.bias"
