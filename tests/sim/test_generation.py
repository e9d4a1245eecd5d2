"""What a simulation says of a generator: in its folder, in the card; and that the recipe's own draws slices that pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.runs.drawn import drawn_facts
from shared_models.core.files import read_json, write_json
from sim.experiments import find
from sim.generation import reports_of
from sim.simulation import simulate


def test_a_card_holds_the_numbers_of_drawn_slices_and_no_others() -> None:
    experiment = find("mufinet_dcgan", [])
    facts = drawn_facts(experiment, {"alpha": {"drawn_frechet": 0.1, "val_loss": 0.5}, "beta": {"val_loss": 0.4}})["drawn_slices"]
    assert {name for name in facts if name != "memory ratio"} == {"alpha frechet"}
    assert "patients are repeated" in facts["memory ratio"]


def test_a_card_says_that_nobody_has_checked() -> None:
    facts = drawn_facts(find("dcgan", []), {"alpha": {"val_loss": 0.5}})["drawn_slices"]
    assert set(facts) == {"unchecked"}
    assert drawn_facts(find("mufinet", []), {"alpha": {"drawn_frechet": 0.1}}) == {}


def test_reports_of_other_experiments_are_left_alone(tmp_path: Path) -> None:
    experiment = find("mufinet_dcgan", [])
    sites = [tmp_path / name / "site.toml" for name in ("alpha", "beta")]
    for site, digest in zip(sites, (experiment.digest[:16], "f" * 16), strict=True):
        (site.parent / "workspace" / "generation").mkdir(parents=True)
        write_json(site.parent / "workspace" / "generation" / f"{digest}.json", {"samples": 64})
    assert reports_of(experiment, sites) == {"alpha": {"samples": 64}}


@pytest.mark.zoo
@pytest.mark.timeout(900)
def test_the_recipe_draws_slices_of_the_right_level_that_vary_and_repeat_nobody(tmp_path: Path) -> None:
    simulate(find("mufinet_dcgan", []), tmp_path / "run", quiet=True)
    reports = read_json(tmp_path / "run" / "generation.json")
    assert set(reports) == {"alpha", "beta", "gamma"}
    for found in reports.values():
        assert found["mean_error_hu"] < 40
        assert found["sd_error"] < 0.3
        assert found["pair_ssim"] < 0.9
        assert found["memory_ratio"] > 0.8
        assert found["closest_hu"] > 0
    assert "drawn_slices" in read_json(tmp_path / "run" / "bundle" / "card.json")
