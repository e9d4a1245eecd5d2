"""Statistics at a site: images and rows as they leave them, in training, validation and prediction, and under differential privacy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cases.cache import store
from client.cases.cohort import Case, Cohort, Visit
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.predict import known_rows, predict_series
from client.preprocessing.standardise import standardise
from client.privacy.foresight import foreseen
from client.selection import split_records
from client.site import Site
from client.statistics import all_seen, lung_histogram, seen_records
from client.training.records import image_of
from client.worker import Worker
from server.app import run_experiment
from server.runs import exchange
from shared_models.bundle import Bundle, load_bundle, write_bundle
from shared_models.catalogue import inputs_of, spec_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort, BadInput
from shared_models.core.state import digest
from shared_models.experiment import Data, Evaluation, Experiment, Federation, Inputs, Train
from shared_models.harmonisation.landmarks import contribution, finish
from shared_models.messages import Job
from shared_models.phases import columns_of, fit_of, start_of
from tests.client.sites import CLASSES, table_experiment, table_site
from tests.server.loop_grid import LoopGrid
from tests.server.phase_sites import COLUMNS, experiment_of, knobs, site

LANDMARKS = Experiment(
    name="marks",
    data=Data(classes=CLASSES),
    inputs=Inputs(slices=2, size=16, mask_outside=True),
    model=Choice.model_validate({"name": "mil_cnn", "widths": [4, 4], "features": 8}),
    statistics=(Choice(name="landmarks"),),
    train=Train(batch=8),
    federation=Federation(rounds=1, quorum=2, deadline_s=60.0),
    evaluation=Evaluation(validation=0.3, bootstrap=0),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.001, 0.005))


def study_of(seed: int, shift: float) -> Prepared:
    """A box of lung in a box of soft tissue; each scanner shifts and stretches its values."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((4, 14, 14), np.uint8)
    mask[:, 2:12, 2:12] = 1
    hu = np.where(mask > 0, -850 + shift + (40 + shift / 4) * rng.normal(0, 1, mask.shape), 40.0)
    return Prepared(Volume(np.rint(hu).astype(np.float32), (5.0, 2.0, 2.0)), mask)


def image_site(folder: Path, name: str, shift: float, patients: int = 24) -> Site:
    """A hospital with a prepared cohort."""
    cases = []
    for number in range(patients):
        where = Path("cache") / f"{number}.safetensors"
        store(folder / name / "workspace" / where, study_of(number, shift), {"features": {}, "findings": []})
        cases.append(Case(f"{name}{number:03d}", (Visit(f"v{number}", 0, f"s{number}", where, {}, {}),), CLASSES[number % 2]))
    Cohort(tuple(cases), CLASSES).save(folder / name / "workspace" / "cohort.json")
    (folder / name / "site.toml").write_text(f'[site]\nname = "{name}"\n')
    return Site.load(folder / name / "site.toml")


def lungs(where: Site) -> list[np.ndarray]:
    """The lung of every training patient of a hospital, as it lies in the cache."""
    names = set(split_records(where, LANDMARKS)[0].names)
    studies = {f"{where.site.name}{number:03d}": study_of(number, 0.0 if where.site.name == "alpha" else 60.0) for number in range(24)}
    return [study.volume.hu[study.mask > 0] for name, study in studies.items() if name in names and study.mask is not None]


def test_landmarks_are_fitted_applied_released_and_predicted_with(tmp_path: Path) -> None:
    sites = [image_site(tmp_path, "alpha", 0.0), image_site(tmp_path, "beta", 60.0)]
    grid = LoopGrid({place.site.name: Worker(place).handle for place in sites})
    final = run_experiment(grid, LANDMARKS, tmp_path / "run", durable=False)
    marks = finish([contribution(lungs(sites[0]) + lungs(sites[1]))])
    np.testing.assert_allclose(fit_of(final.state, "landmarks")["hu"], marks, atol=1e-6)

    raw = [split_records(place, LANDMARKS)[0].inputs for place in sites]
    seen = [seen_records(place, LANDMARKS, final.state)[0].inputs for place in sites]
    apart = [abs(float(a.mean()) - float(b.mean())) for a, b in (raw, seen)]
    assert apart[1] < 0.1 * apart[0]
    assert all_seen(sites[1], LANDMARKS, final.state).inputs.shape == (24, 2, 16, 16)

    write_bundle(tmp_path / "bundle", state=final.state, experiment=LANDMARKS, card={})
    bundle = load_bundle(tmp_path / "bundle")
    case = Cohort.load(sites[1].workspace / "cohort.json").cases[3]
    said, _ = predict_series(case.visits[0], bundle, sites[1].workspace, known_rows(LANDMARKS, None))
    one = image_of(standardise(study_of(3, 60.0), standard_hu=marks), spec_of(LANDMARKS.model), LANDMARKS.inputs)
    from client.training.gradient import predict_gradient
    from client.training.records import Records

    expected = predict_gradient(LANDMARKS, bundle.state, Records(one[None], np.zeros(1, np.int64), ("x",)))[0]
    np.testing.assert_allclose(list(said.values()), expected, rtol=1e-5)


def test_a_histogram_needs_hounsfield_units_and_a_lung() -> None:
    study = study_of(0, 0.0)
    assert lung_histogram(study).sum() == pytest.approx(1.0)
    with pytest.raises(BadCohort, match="Hounsfield"):
        lung_histogram(replace(study, is_hu=False))
    with pytest.raises(BadCohort, match="lung"):
        lung_histogram(replace(study, mask=None))


COMBAT = experiment_of(knobs("combat", covariates=("age",)), knobs("pca", components=2))


def combat_state(place: Site) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {key: value + rng.random(value.shape) for key, value in start_of(COMBAT).items()}


def test_validation_rows_are_harmonised_by_what_training_rows_say(tmp_path: Path) -> None:
    place = Site.load(site(tmp_path, "alpha", 1, 60))
    state = combat_state(place)
    training, validation = seen_records(place, COMBAT, state)
    assert columns_of(COMBAT) == ("component 1", "component 2") and inputs_of(COMBAT) == 2
    assert training.inputs.shape == (40, 2) and validation.inputs.shape == (20, 2)
    lines = (place.folder / "table.csv").read_text().splitlines()
    kept = [line for line in lines if not line.endswith("validation") or line.startswith("alpha2,")]
    (place.folder / "table.csv").write_text("\n".join(kept))
    fewer = seen_records(place, COMBAT, state)
    np.testing.assert_allclose(fewer[0].inputs, training.inputs, rtol=1e-12)
    np.testing.assert_allclose(fewer[1].inputs, validation.inputs[:1], rtol=1e-12)
    assert not np.allclose(all_seen(place, COMBAT, state).inputs[:2], training.inputs[:2])  # a new hospital learns from all of its own


def test_a_release_with_combat_asks_for_the_hospital(tmp_path: Path) -> None:
    experiment = table_experiment().model_copy(update={"statistics": (Choice(name="combat"),)})
    with pytest.raises(BadInput, match="learns from patients of the hospital"):
        known_rows(experiment, None)
    with pytest.raises(BadInput, match="at least 10"):
        known_rows(experiment, table_site(tmp_path, "few", patients=9))
    toml = table_site(tmp_path, "alpha", patients=30)
    known = known_rows(experiment, toml)
    assert known.shape == (30, 2)
    state = start_of(experiment) | {"mean": np.zeros(2), "scale": np.ones(2), "coefficients": np.ones((2, 3)), "ready": np.ones(1)}
    store(Site.load(toml).workspace / "cache" / "x", study_of(0, 0.0), {"features": {}, "findings": []})
    visit = Cohort.load(Site.load(toml).workspace / "cohort.json").cases[0].visits[0]
    said, seen = predict_series(visit, Bundle(state, experiment, {}, ""), Site.load(toml).workspace, known)
    expected = all_seen(Site.load(toml), experiment, state).inputs[0]
    assert seen["columns"]["age"] == visit.clinical["age"]  # shown as it was measured
    np.testing.assert_allclose(sum(said.values()), 1.0)
    assert np.isfinite(expected).all()


def test_a_private_scaler_is_noisy_charged_twice_and_foreseen(tmp_path: Path) -> None:
    ranges = {"haa": (0.0, 80.0), "laa": (0.0, 3.0), "mean_hu": (-1000.0, -500.0), "vessels": (8e4, 1e5), "age": (20.0, 100.0)}
    privacy = {"unit": "patient", "noise_multiplier": 2.0, "clip": 1.5}
    experiment = experiment_of(
        Choice(name="scaler"), inputs={"columns": COLUMNS, "scale": "range", "ranges": ranges}, privacy=privacy, train={"batch": 40}
    )
    limits = "[policy.privacy]\nepsilon_per_run = {}\n"
    place = Site.load(site(tmp_path, "alpha", 0, 300, toml=limits.format(50)))
    state = start_of(experiment)
    job = Job(run="r", round=1, kind="fit", state=state, experiment=experiment.to_json(), rule={"name": "plain", "lr_factor": 1.0})
    one, other = (Worker(place).handle(job).state for _ in range(2))
    assert digest(one) != digest(other)  # nobody can foresee the noise
    rows = seen_records(place, experiment, state, fitting=0)[0]
    assert abs(one["n"][0] - 200) < 60 and len(rows) == 200
    update = Worker(place).handle(job)
    assert update.metrics == {} and update.num_cases == 200
    assert foreseen(experiment, place) == []
    (place.folder / "site.toml").write_text((place.folder / "site.toml").read_text().replace("= 50", "= 1.4"))
    tight = Site.load(place.folder / "site.toml")
    plain = experiment_of(inputs=experiment.inputs.model_dump(), privacy=privacy, train={"batch": 40})
    told: dict[str, Any] = {name: foreseen(one, tight) for name, one in (("plain", plain), ("scaled", experiment))}
    assert float(str(told["scaled"][0].value).split()[-1]) > 1.4
    assert told["plain"] == [] or float(str(told["plain"][0].value).split()[-1]) < float(str(told["scaled"][0].value).split()[-1])
