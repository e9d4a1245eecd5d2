"""Cross-validation by patient: everybody judged once by a model that never saw them, a finished fold not run again, figures as they are meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cases.cohort import Case, Cohort, Visit
from client.cases.identity import Pseudonyms
from server.reports.crossvalidation import write_crossvalidation
from shared_models.core.errors import BadExperiment, BadInput
from shared_models.core.files import read_json, write_json
from shared_models.experiment import Experiment
from shared_models.metrics.prognosis import score_prognosis
from sim import patient_folds
from sim.experiments import find
from sim.hospital.key import phantom_secret
from sim.hospital.plan import plan_hospital
from sim.hospital_store import key_of
from sim.patient_folds import cross_validate, figures, of_fold
from sim.settings import simulation_of
from sim.simulation import simulate

TINY = """
name = "mortality"
[data]
target = "survival"
horizons = [1, 3]
[inputs]
columns = ["whole_haa_percent"]
visits = "all"
[model]
name = "cox"
[federation]
rounds = 3
quorum = 2
[evaluation]
bootstrap = 20
headline = "harrell_c"
[simulation]
held_out = ["away"]
defaults = { patients = 24 }
hospitals = [{ name = "one", scanner = "A" }, { name = "two", scanner = "E" }, { name = "away", scanner = "F" }]
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Experiment:
    (tmp_path / "mortality.toml").write_text(TINY)
    return Experiment.load(tmp_path / "mortality.toml")


@pytest.fixture
def store(tmp_path: Path, tiny: Experiment) -> Path:
    """Prepared hospitals of patients with two visits, whose one column is the planted hazard."""
    for number, preset in enumerate(simulation_of(tiny).presets()):  # type: ignore[union-attr]
        home, rng, cases, visits = tmp_path / "store" / key_of(preset, tiny), np.random.default_rng(number), [], []
        names = Pseudonyms(phantom_secret(0, preset.name))
        for patient in range(24):
            hazard, who = float(rng.normal()), f"PHANTOM-{preset.name}-{patient:04d}"
            death, last = 4 * rng.exponential(np.exp(-2 * hazard)), rng.uniform(2, 8)
            seen = []
            for visit in range(2):
                known: dict[str, float | str] = {"time_years": float(min(death, last)) * (1 - visit / 2), "event": float(death <= last)}
                seen.append(Visit(f"v{patient}.{visit}", 90 * visit, f"s{patient}.{visit}", Path("x"), {"whole_haa_percent": hazard}, known))
            cases.append(Case(names.patient(who), tuple(seen)))
            visits.append({"patient_id": who, "log_hazard": hazard})
        Cohort(tuple(cases)).save(home / "hospital" / "workspace" / "cohort.json")
        (home / "hospital" / "clinical.csv").write_text("patient_id\n")
        (home / "hospital" / "site.toml").write_text(f'[site]\nname = "{preset.name}"\n')
        write_json(home / "truth" / "truth.json", {"visits": visits})
    return tmp_path / "store"


def test_everybody_is_judged_once_and_a_finished_fold_is_not_run_again(
    tmp_path: Path, tiny: Experiment, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = cross_validate(tiny, tmp_path / "out", folds=3, processes=1, hospitals=store, quiet=True)
    found, answers = (
        read_json(tmp_path / "out" / "crossvalidation.json"),
        [read_json(tmp_path / "out" / f"fold-{n}" / "answers.json") for n in (1, 2, 3)],
    )
    everybody = {case.pseudonym for name in ("one", "two") for case in Cohort.load(tmp_path / "out/hospitals" / name / "workspace/cohort.json").cases}
    held = [set(answer["patients"]) for answer in answers]
    assert set.union(*held) == everybody and sum(map(len, held)) == 48 == sum(found["patients"]) and sum(found["cases"]) == 96
    assert found["pooled"]["harrell_c"]["value"] > 0.75 and found["planted"]["harrell_c"]["value"] > 0.75
    assert found["spread"]["harrell_c"]["folds"] == 3 and found["pooled"]["harrell_c"]["low"] < found["pooled"]["harrell_c"]["high"]
    text = page.read_text(encoding="utf-8")
    assert "48 patients" in text and "rank within the fold" in text and "no standard error" in text and "http" not in text.replace("http-equiv", "")

    ran: list[int | None] = []
    federate = patient_folds.federate
    monkeypatch.setattr(patient_folds, "federate", lambda run, *rest: (ran.append(run.experiment.evaluation.fold), federate(run, *rest))[1])
    (tmp_path / "out" / "fold-2" / "answers.json").unlink()
    cross_validate(tiny, tmp_path / "out", folds=3, processes=1, hospitals=store, quiet=True)
    assert ran == [2] and {**read_json(tmp_path / "out" / "crossvalidation.json"), "wall_s": 0} == {**found, "wall_s": 0}
    with pytest.raises(BadInput, match="with the experiment it was started with"):
        cross_validate(tiny, tmp_path / "out", folds=4, processes=1, quiet=True)


def answer_of(scores: list[float], names: list[str], *, times: list[float] | None = None) -> dict[str, Any]:
    outcomes = [[time, 1.0, 0.0] for time in times or range(1, len(scores) + 1)]
    return {"outcomes": outcomes, "risks": [[score] for score in scores], "patients": names, "planted": [[-time] for time, _, _ in outcomes]}


def test_scores_of_two_folds_are_compared_by_rank_at_home_and_a_patient_in_two_is_refused(tiny: Experiment) -> None:
    folds = [answer_of([9.0, 5.0, 1.0], ["a", "b", "c"]), answer_of([90.0, 50.0, 10.0], ["d", "e", "f"])]
    found = figures(tiny, folds, ["one"])
    assert found["pooled"]["harrell_c"]["value"] == 1.0  # each fold orders its own rightly; raw scores would not across folds
    raw = score_prognosis(
        [*folds[0]["outcomes"], *folds[1]["outcomes"]], [*folds[0]["risks"], *folds[1]["risks"]], [1, 3], absolute=False, bootstrap=0
    )
    assert raw["harrell_c"]["value"] < 0.9
    assert found["spread"]["harrell_c"] == {"mean": 1.0, "sd": 0.0, "folds": 2}
    with pytest.raises(BadInput, match="every patient is in one fold"):
        figures(tiny, [folds[0], answer_of([1.0], ["a"])], ["one"])


def test_an_interval_counts_patients_and_not_their_scans(tiny: Experiment) -> None:
    rng = np.random.default_rng(0)
    times, scores = rng.exponential(3, 40).tolist(), rng.normal(size=40).tolist()
    times_twice, scores_twice = [t for t in times for _ in range(4)], [s for s in scores for _ in range(4)]
    many = tiny.model_copy(update={"evaluation": tiny.evaluation.model_copy(update={"bootstrap": 300})})

    def width(names: list[str]) -> float:
        cell = figures(many, [answer_of(scores_twice, names, times=times_twice)], ["one"])["pooled"]["harrell_c"]
        return cell["high"] - cell["low"]

    assert width([f"p{number // 4}" for number in range(160)]) > 1.5 * width([f"p{number}" for number in range(160)])


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("fibrosis", ["calibration=[]"], "simulated for survival over phantom hospitals"),
        ("emphysema_patches", [], "`fedild simulate`"),
        ("ssc_mortality", ["federation.stopping={patience=2}"], "would learn from it"),
        ("ssc_mortality", ["evaluation.headline=luck"], "no metric 'luck'"),
    ],
)
def test_what_is_not_cross_validated(tmp_path: Path, name: str, settings: list[str], words: str) -> None:
    with pytest.raises((BadInput, BadExperiment), match=words):
        cross_validate(find(name, settings), tmp_path / "out", processes=1, quiet=True)
    assert not (tmp_path / "out").exists()


def test_one_run_is_of_one_fold_and_sites_are_sent_no_more_than_its_number(tmp_path: Path, tiny: Experiment) -> None:
    with pytest.raises(BadInput, match=r"evaluation\.fold = 1"):
        simulate(of_fold(tiny, 3, None), tmp_path / "out", processes=1, quiet=True)
    one, two = (of_fold(tiny, 3, fold).for_sites().to_json() for fold in (1, 2))
    assert one.replace('"fold":1', '"fold":2') == two
    with pytest.raises(BadInput, match=r"crossvalidation\.json"):
        write_crossvalidation(tmp_path)


def test_a_fold_has_the_patients_of_the_recipe() -> None:
    recipe = find("ssc_mortality_radiomics", [])
    drawn, again = (
        [plan_hospital(preset, seed=0) for preset in simulation_of(experiment).presets()] for experiment in (recipe, of_fold(recipe, 5, 1))
    )
    assert drawn == again  # a mix in another order draws other patients
