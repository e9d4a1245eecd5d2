"""Prognosis in the simulation: what is asked of phantoms, what is judged, what was planted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from client.cases.cohort import Case, Cohort, Visit
from client.cases.identity import Pseudonyms
from client.predict import predict_study
from client.site import Site
from shared_models.catalogue import initial_state
from shared_models.core.errors import BadChoice, BadInput
from shared_models.core.files import read_json, write_json, write_state
from shared_models.experiment import Experiment
from sim.check import faults
from sim.compare import compare
from sim.hospital.key import phantom_secret
from sim.phantom.outcomes import LAWS, draw_course
from sim.prognosis import PLANTED, PLANTED_FIBROSIS, hazards_of, planted_risks
from sim.simulation import simulate
from sim.tasks import prognoses, train_alone
from sim.zoo.prognosis import near_planted, planted_ratio
from sim.zoo.ran import Ran

TINY = """
name = "mortality"
[data]
target = "survival"
horizons = [1, 3]
[preparation]
segmenter = { name = "threshold" }
[inputs]
columns = ["whole_haa_percent", "age"]
[model]
name = "cox"
[federation]
rounds = 6
quorum = 2
[evaluation]
validation = 0.0
bootstrap = 20
headline = "harrell_c"
[simulation]
held_out = ["away"]
defaults = { patients = 12, grid_mm = 6.0, resolution = 7.0, mix = { normal = 1, UIP = 1 } }
hospitals = [{ name = "one", scanner = "A" }, { name = "two", scanner = "E" }, { name = "away", scanner = "F" }]
"""


def experiment(folder: Path, settings: list[str] | None = None) -> Experiment:
    (folder / "mortality.toml").write_text(TINY)
    return Experiment.load(folder / "mortality.toml", settings)


def hospital(folder: Path, name: str, *, patients: int, seed: int) -> Path:
    """A prepared hospital whose first column is twice the planted fibrosis, with its truth."""
    rng, cases, visits = np.random.default_rng(seed), [], []
    names = Pseudonyms(phantom_secret(0, name))
    for number in range(patients):
        fibrosis, age = float(rng.gamma(1.6, 9)), float(rng.normal(65, 8))
        hazard = float(np.log(1.9) / 10 * (fibrosis - 14) + np.log(1.03) * (age - 65))
        death, last = rng.exponential(6 * np.exp(-hazard)), rng.uniform(0.5, 8)
        known: dict[str, float | str] = {"age": age, "time_years": float(min(death, last)), "event": float(death <= last)}
        patient = f"PHANTOM-{name}-{number:04d}"
        cases.append(Case(names.patient(patient), (Visit(f"v{number}", 0, f"s{number}", Path("x"), {"whole_haa_percent": 2 * fibrosis}, known),)))
        visits.append({"patient_id": patient, "fibrosis": fibrosis, "log_hazard": hazard})
    home = folder / "hospitals" / name
    Cohort(tuple(cases)).save(home / "workspace" / "cohort.json")
    (home / "site.toml").write_text(f'[site]\nname = "{name}"\n')
    write_json(folder / "truth" / name / "truth.json", {"visits": visits})
    return home / "site.toml"


def test_planted_ratios_are_found_again_and_records_keep_their_hospital(tmp_path: Path) -> None:
    tiny = experiment(tmp_path)
    sites = [hospital(tmp_path, name, patients=150, seed=seed) for seed, name in enumerate(("one", "two"))]
    away = hospital(tmp_path, "away", patients=60, seed=7)
    write_state(tmp_path / "start.safetensors", initial_state(tiny.model, inputs=2, outputs=2, seed=0))
    text, state = tiny.for_sites().to_json(), tmp_path / "pooled.safetensors"
    train_alone(text, [str(site) for site in sites], str(tmp_path / "start.safetensors"), str(state), "pooled")
    outcomes, found, names = cast("Any", prognoses(text, str(state), [str(site) for site in sites], "all"))
    assert np.bincount(np.array(outcomes)[:, 2].astype(int)).tolist() == [150, 150] and len(found) == len(names) == 300
    assert prognoses(text, str(state), [str(sites[0])], "all", personal=True) is None
    hazards = cast("dict[str, Any]", hazards_of(tiny, {"federated": state, "pooled": state}))
    assert hazards["columns"] == ["whole_haa_percent", "age"] and hazards["federated"] == hazards["pooled"]

    ran = cast("Ran", SimpleNamespace(experiment=tiny, folder=tmp_path, training=tuple(sites), metrics={"hazards": hazards}))
    assert (off := planted_ratio("whole_haa_percent").figure(ran)) is not None and off < 3
    assert (wrong := planted_ratio("whole_haa_percent", ratio=6.0).figure(ran)) is not None and wrong > 5
    run = cast("Any", SimpleNamespace(experiment=tiny, out=tmp_path))
    patients = [case.pseudonym for case in Cohort.load(Site.load(away).workspace / "cohort.json").cases]
    planted = {row["log_hazard"] for row in read_json(tmp_path / "truth" / "away" / "truth.json")["visits"]}
    assert {row[0] for row in planted_risks(run, [away], patients)} == planted
    truth = read_json(tmp_path / "truth" / "away" / "truth.json")["visits"]
    first = planted_risks(run, [away], patients, "fibrosis")
    assert sorted(row[0] for row in first) == sorted(visit["fibrosis"] for visit in truth)
    later = [visit | {"fibrosis": 99.0} for visit in truth]
    write_json(tmp_path / "truth" / "away" / "truth.json", {"visits": truth + later})
    assert planted_risks(run, [away], patients, "fibrosis") == first, "the first visit tells"


def test_what_survival_asks_of_an_experiment(tmp_path: Path) -> None:
    assert faults(experiment(tmp_path)) == []
    wrong = {
        "data.horizons=[]": "data.horizons: phantoms are judged at horizons",
        "evaluation.ensemble={name='mean'}": "evaluation.ensemble: of survival",
        "calibration=[{name='temperature'}]": "calibration: survival gives no probabilities",
        "evaluation.headline=auroc_macro": "no metric 'auroc_macro'",
        "simulation.defaults.survival=ipf": "no law of survival 'ipf'",
    }
    for setting, words in wrong.items():
        more = ["evaluation.validation=0.2"] if setting.startswith("calibration") else []
        assert any(words in fault for fault in faults(experiment(tmp_path, [setting, *more]))), setting
    network = experiment(tmp_path, ["model={name='mil_cnn'}", "privacy={unit='patient', noise_multiplier=1.0}"])
    assert any("a loss of its own" in fault for fault in faults(network))
    with pytest.raises(BadInput, match="classes of patients"):
        compare(experiment(tmp_path), [cast("Any", "fedavg")], tmp_path / "out", seeds=1)


def test_a_law_has_the_risks_it_was_fitted_to() -> None:
    mix = ("normal", "normal", "NSIP", "NSIP", "NSIP", "UIP")
    hazard = np.array([draw_course(mix[seed % 6], seed, law="ssc").log_hazard for seed in range(900)])
    law = LAWS["ssc"]
    for years, share in ((1, 0.085), (3, 0.153), (5, 0.201)):
        assert np.mean(1 - np.exp(-law.rate * years**law.shape * np.exp(hazard))) == pytest.approx(share, abs=0.02)
    with pytest.raises(BadChoice, match="law of survival"):
        draw_course("UIP", 0, law="none")


def test_a_criterion_compares_with_what_was_planted() -> None:
    values = {"federated": 0.7, PLANTED: 0.75, PLANTED_FIBROSIS: 0.72}
    metrics = {arm: {"held_out": {"auc_at_3": {"value": value}}} for arm, value in values.items()}
    ran = Ran(cast("Any", None), Path(), Path())
    ran.__dict__["metrics"] = metrics
    assert near_planted("auc_at_3", -0.03).figure(ran) == pytest.approx(-0.05) and near_planted("auc_at_3").says.startswith("AUC at 3 minus")
    seen = near_planted("auc_at_3", -0.03, arm=PLANTED_FIBROSIS)
    assert seen.figure(ran) == pytest.approx(-0.02) and seen.says == "AUC at 3 minus that of planted fibrosis"


@pytest.mark.zoo
@pytest.mark.parametrize("network", [False, True])
def test_a_prognosis_from_phantom_to_page(tmp_path: Path, network: bool) -> None:
    more = ["inputs={shape_zyx=[16,16,16],mask_outside=true,visits='all'}", "model={name='resnet18',width=4}", "evaluation.validation=0.2"]
    more += ["simulation.defaults.visits=2", "federation.rounds=2"]
    report = simulate(experiment(tmp_path, more if network else []), tmp_path / "run", processes=1, quiet=True)
    page, metrics = report.read_text(encoding="utf-8"), read_json(tmp_path / "run" / "metrics.json")
    assert ("Decision curves" in page) == network and ("Hazard ratios" in page) != network and "Numbers at risk" in page
    assert set(metrics[PLANTED]["held_out"]) < set(metrics["federated"]["held_out"]) or not network
    assert metrics["federated"]["held_out"]["harrell_c"]["n"] >= 12
    if network:
        study = next((tmp_path / "run" / "hospitals" / "away" / "dicom").iterdir())
        predict_study(study, tmp_path / "run" / "bundle", tmp_path / "said")
        risks = list(read_json(tmp_path / "said" / "prediction.json")["series"][0]["risks"].values())
        assert 0 < risks[0] <= risks[1] < 1
