"""Recipes of systems on features: they say whose figures they quote and what was chosen, and each *works when* what it is for comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.features import feature_names
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.core.files import read_json
from shared_models.experiment import Experiment
from shared_models.phases import training_of
from sim.check import load_checked
from sim.experiments import find, shipped
from sim.simulation import simulate

SIZES = ["handcrafted_svm", "handcrafted_forest", "qct_forest", "radiomics_rbf", "lung_graph", "lung_graph_gnn"]
"""Recipes in two sizes."""
OTHERS = ["emphysema_patches_svm", "emphysema_patches_forest"]


@pytest.mark.parametrize("name", [*SIZES, *OTHERS])
def test_it_says_what_was_chosen_and_names_columns_that_are_measured(name: str) -> None:
    words = shipped()[name].read_text(encoding="utf-8")
    assert "Chosen" in words
    experiment = load_checked(name, [])
    assert "Reported by its authors, not by us" in experiment.source
    assert set(experiment.inputs.columns) <= set(feature_names(experiment.preparation.features))
    assert spec_of(experiment.model).takes == "table"


@pytest.mark.parametrize("name", [*SIZES, *(f"{name}_base" for name in SIZES), *OTHERS])
def test_its_rounds_are_those_that_its_model_needs(name: str) -> None:
    experiment = load_checked(name, [])
    model = build(experiment.model, inputs=inputs_of(experiment), outputs=len(experiment.data.classes))
    if (needed := getattr(model, "rounds", None)) is not None:
        assert training_of(experiment).rounds == needed


@pytest.mark.parametrize("name", SIZES)
def test_the_full_size_is_the_same_system(name: str) -> None:
    tiny, base = load_checked(name, []), load_checked(f"{name}_base", [])
    assert (base.data, base.source, base.model.name) == (tiny.data, tiny.source, tiny.model.name)
    assert base.strategy == tiny.strategy
    assert base.preparation.features == tiny.preparation.features


def figures(experiment: Experiment, out: Path) -> dict[str, float]:
    """The macro AUROC on the held-out hospital: federated, pooled, and the mean of the hospitals alone."""
    simulate(experiment, out, quiet=True)
    found: dict[str, Any] = read_json(out / "metrics.json")
    alone = [cell["held_out"]["auroc_macro"]["value"] for cell in found["local_only"].values()]
    both = {name: found[name]["held_out"]["auroc_macro"]["value"] for name in ("federated", "pooled")}
    return both | {"local": sum(alone) / len(alone)}


@pytest.mark.zoo
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("name", "least", "from_pooled"),
    [
        ("handcrafted_svm", 0.8, 0.05),
        ("handcrafted_forest", 0.8, 0.05),
        ("qct_forest", 0.95, 0.03),
        ("radiomics_rbf", 0.8, 0.05),
        ("lung_graph", 0.95, 0.05),
        ("lung_graph_gnn", 0.9, 0.05),
    ],
)
def test_it_works(name: str, least: float, from_pooled: float, tmp_path: Path) -> None:
    found = figures(find(name, []), tmp_path / "run")
    assert found["federated"] >= least
    assert found["federated"] >= found["pooled"] - from_pooled
    assert found["federated"] >= found["local"] - 0.02
