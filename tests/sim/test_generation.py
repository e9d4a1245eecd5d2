"""What a simulation says of a generator: in its folder, in the card; and that the recipe's own draws slices that pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from server.runs.drawn import drawn_facts
from shared_models.core.files import read_json, write_json
from sim.experiments import find
from sim.generation import level_errors, reports_of
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


def test_the_level_of_drawn_slices_is_that_of_all_hospitals_slices_together() -> None:
    rng = np.random.default_rng(0)
    real = {site: rng.normal(level, spread, 1000) for site, level, spread in (("alpha", -880, 140), ("beta", -820, 170))}
    drawn = {site: rng.normal(-840, 150, 1000) for site in real}
    parts = {
        site: {"mean_hu": drawn[site].mean(), "real_mean_hu": real[site].mean(), "sd_hu": drawn[site].std(), "real_sd_hu": real[site].std()}
        for site in real
    }
    reports = {site: {"classes": {"UIP": part, **({"NSIP": part | {"mean_hu": 0.0}} if site == "alpha" else {})}} for site, part in parts.items()}
    whole, all_drawn = np.concatenate(list(real.values())), np.concatenate(list(drawn.values()))
    assert level_errors(reports) == pytest.approx((abs(all_drawn.mean() - whole.mean()), abs(all_drawn.std() / whole.std() - 1)))
    assert level_errors({}) == (None, None)


@pytest.mark.zoo
@pytest.mark.timeout(900)
def test_the_recipe_draws_slices_of_the_right_level_that_vary_and_repeat_nobody(tmp_path: Path) -> None:
    simulate(find("mufinet_dcgan", []), tmp_path / "run", quiet=True)
    reports = read_json(tmp_path / "run" / "generation.json")
    assert set(reports) == {"alpha", "beta", "gamma"}
    mean_hu, sd = level_errors(reports)
    assert mean_hu is not None and mean_hu < 40 and sd is not None and sd < 0.3
    for found in reports.values():
        assert found["pair_ssim"] < 0.9
        assert found["memory_ratio"] > 0.8
        assert found["closest_hu"] > 0
    assert "drawn_slices" in read_json(tmp_path / "run" / "bundle" / "card.json")
