"""The federation over the institutions of a real trial: hazard ratios and errors of the pooled fit, small sites through the secure sum alone."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter

from client.site import Site
from client.worker import Worker
from server.runs.log import read_rounds
from shared_models.catalogue import initial_state, inputs_of
from shared_models.core.errors import BadExperiment, BadInput
from shared_models.core.files import read_json
from shared_models.experiment import Experiment
from shared_models.messages import Job
from shared_models.survival.life_table import LifeTable, kaplan_meier
from sim.check import faults
from sim.experiments import find
from sim.settings import OneTable, simulation_of
from sim.simulation import simulate
from sim.survival import spread
from tests.client.real_data import needs_real_data, real

COLUMNS = ["age", "sex", "ph.ecog"]


def settings_of(experiment: Experiment) -> OneTable:
    settings = simulation_of(experiment)
    assert isinstance(settings, OneTable)
    return settings


@needs_real_data
def test_the_institutions_of_a_trial_find_the_pooled_hazard_ratios(tmp_path: Path) -> None:
    experiment = find("ncctg_lung", ["federation.rounds=5", "evaluation.bootstrap=100"])
    report = simulate(experiment, tmp_path / "out", data=real(), quiet=True, processes=2)
    metrics = read_json(tmp_path / "out" / "metrics.json")

    frame = pd.read_csv(real("ncctg_lung", "lung.csv")).dropna(subset=[*COLUMNS, "inst"])
    theirs = CoxPHFitter().fit(frame[[*COLUMNS, "inst", "time", "status"]], "time", "status", strata=["inst"], fit_options={"precision": 1e-12})
    for arm in ("federated", "pooled"):
        found = metrics[arm]["columns"]
        np.testing.assert_allclose(found["coefficient"], theirs.params_, atol=1e-6, rtol=0)
        np.testing.assert_allclose(found["standard_error"], theirs.standard_errors_, atol=1e-6, rtol=0)
        assert metrics[arm]["scores"]["harrell_c"]["value"] == pytest.approx(theirs.concordance_index_, abs=1e-9)
    steady = [metrics[arm]["proportionality"] for arm in ("federated", "pooled")]
    for key in ("chi2", "p", "all_chi2", "all_p"):
        np.testing.assert_allclose(steady[0][key], steady[1][key], rtol=1e-6)
    life = metrics["life_table"]
    assert (life["patients"], life["at_risk"][0]) == (226, 226) and min(life["events"][0]) >= 5
    slow = KaplanMeierFitter().fit(frame["time"], frame["status"])
    curve = kaplan_meier(LifeTable(*(np.array(life[name]) for name in ("times", "at_risk", "events"))))
    np.testing.assert_allclose(curve.values, [float(slow.predict(end)) for end in life["times"]], atol=0.03)
    cohort = metrics["cohorts"]
    assert sum(line["patients"] for line in cohort.values()) == 226 and sum(line["events"][0] for line in cohort.values()) == frame["status"].sum()
    assert (metrics["sites"], metrics["smallest_site"], metrics["largest_site"]) == (18, 2, 36)
    assert metrics["federated"]["scores"]["harrell_c"]["n"] == len(frame) == 226

    for line in read_rounds(tmp_path / "out" / "federation" / "rounds.jsonl"):
        assert not line["missing"]
        assert line["total"]["num_cases"] == 226
        assert all((site["num_cases"], site["metrics"]) == (0, {}) for site in line["sites"].values())
    page = report.read_text(encoding="utf-8")
    assert "Research use only" in page
    assert "Numbers at risk" in page and "too few to tell" in page and "Median follow-up" in page
    assert "1.817" in page  # exp(0.597): hazard ratio of one ECOG grade


@needs_real_data
@pytest.mark.zoo
@pytest.mark.parametrize("name", ["ncctg_lung", "ncctg_lung_boosting", "ncctg_lung_forest"])
def test_the_recipes_of_the_trial_run_whole(name: str, tmp_path: Path) -> None:
    experiment = find(name, [])
    page = simulate(experiment, tmp_path / "out", data=real(), quiet=True, processes=2).read_text(encoding="utf-8")
    metrics = read_json(tmp_path / "out" / "metrics.json")
    scores = [metrics[arm]["scores"]["harrell_c"] for arm in ("federated", "pooled")]
    assert scores[0]["value"] > 0.5 and experiment.model.name in page
    if name == "ncctg_lung_boosting":
        assert scores[0] == scores[1]  # the same bits of the same trees
    if name != "ncctg_lung":
        assert metrics["judged"] == "validation" and "Hazard ratios" not in page
        return
    found = metrics["federated"]["columns"]
    wald = [np.array(found["coefficient"]) + side * 1.96 * np.array(found["standard_error"]) for side in (-1, 1)]
    profile = [metrics["federated"]["profile"][end] for end in ("low", "high")]
    np.testing.assert_allclose(profile, [metrics["pooled"]["profile"][end] for end in ("low", "high")], atol=1e-7)
    np.testing.assert_allclose(profile, wald, atol=0.03)  # of 165 events nearly the same, but not the same
    assert np.abs(np.array(profile) - wald).max() > 1e-4


@needs_real_data
def test_in_clear_the_small_institutions_take_no_part(tmp_path: Path) -> None:
    experiment = find("ncctg_lung", ["federation.secure_sum=false", "statistics=[]"])
    model = experiment.model
    start = initial_state(model, inputs=inputs_of(experiment), outputs=2, seed=0)
    job = Job(run="r", round=1, kind="fit", state=start, experiment=experiment.for_sites().to_json(), rule={"name": "plain"})
    codes = {}
    for toml in spread(settings_of(experiment), real(), tmp_path):
        with open(toml.parent / "table.csv", newline="", encoding="utf-8") as file:
            patients = sum(all(row[name] for name in COLUMNS) for row in csv.DictReader(file))
        codes[patients] = Worker(Site.load(toml)).handle(job).code
    assert set(codes) > {2, 4, 5, 6}
    assert codes == {patients: "E_FEW_CASES" if patients < 10 else "" for patients in codes}


def test_a_file_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    settings = settings_of(find("ncctg_lung", []))
    with pytest.raises(BadInput, match="--data"):
        spread(settings, tmp_path, tmp_path / "out")
    (tmp_path / "ncctg_lung").mkdir()
    path = tmp_path / "ncctg_lung" / "lung.csv"
    path.write_text("time,status\n1,1\n", encoding="utf-8")
    with pytest.raises(BadInput, match="names the site"):
        spread(settings, tmp_path, tmp_path / "out")
    path.write_text("inst,time,status\n3.0,1,1\n3,2,1\n11,2,1\n,5,1\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"simulation\.sites = 2"):
        spread(settings, tmp_path, tmp_path / "out")
    sites = spread(settings.model_copy(update={"sites": 2}), tmp_path, tmp_path / "out")
    assert [site.parent.name for site in sites] == ["site-03", "site-11"]
    assert (sites[0].parent / "table.csv").read_text(encoding="utf-8") == "patient_id,time,status\nrow0,1,1\nrow1,2,1\n"


def test_model_and_target_belong_together() -> None:
    experiment = find("ncctg_lung", [])
    assert not faults(experiment)
    assert any("predicts a diagnosis" in fault for fault in faults(find("ncctg_lung", ["model={name='logistic'}"])))
    assert any("predicts a survival" in fault for fault in faults(find("heart_disease", ["model={name='cox'}", "strategy={name='exact_sum'}"])))
    assert any("one_table" in fault for fault in faults(find("heart_disease", ["data.target=survival", "data.classes=['a','b']"])))
    assert any("no metric 'accuracy'" in fault for fault in faults(find("ncctg_lung", ["evaluation.headline=accuracy"])))
    private = find("ncctg_lung", ["privacy={unit='patient', noise_multiplier=1.0}"])
    assert any("no bound on what one patient changes" in fault for fault in faults(private))
    for wrong in ("data.merge={a='event'}", "data.classes=['a']", "data.target='diagnosis'"):
        with pytest.raises(BadExperiment, match="data"):
            find("ncctg_lung", [wrong])
