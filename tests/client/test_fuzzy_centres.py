"""Centres of fuzzy c-means as a statistic of a run: summed over hospitals, equal to the pooled ones, and every mask that a model sees is theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.cases.cache import load, store
from client.cases.cohort import Case, Cohort, Visit
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.predict import known_rows, predict_series
from client.segmentation import SEGMENTERS
from client.segmentation.body import body_histogram, body_of
from client.selection import split_records
from client.site import Site
from client.statistics import grey_values, seen_records, study_seen
from client.worker import Worker
from server.app import run_experiment
from server.runs import exchange
from server.runs.log import read_rounds
from shared_models.blocks.fuzzy import LEVELS_HU, first_centres, fit_fuzzy
from shared_models.bundle import load_bundle, write_bundle
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadCohort, BadStudy
from shared_models.experiment import Data, Evaluation, Experiment, Federation, Inputs, Preparation, Train
from shared_models.phases import fit_of
from tests.client.segmentation.phantoms import dice, study
from tests.client.sites import CLASSES
from tests.server.loop_grid import LoopGrid

SITES = {"alpha": (16, 0.0), "beta": (20, 25.0), "gamma": (18, -20.0)}
"""Patients, and by how much the hospital's scanner is off, HU."""
SEGMENTER = Choice.model_validate({"name": "fuzzy_cmeans", "clusters": 3})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.001, 0.005))


def experiment_of(*, secure: bool = False, quorum: int = 3) -> Experiment:
    return Experiment(
        name="centres",
        data=Data(classes=CLASSES),
        preparation=Preparation(segmenter=SEGMENTER),
        inputs=Inputs(slices=2, size=16, mask_outside=True),
        model=Choice.model_validate({"name": "mil_cnn", "widths": [4, 4], "features": 8}),
        statistics=(Choice.model_validate({"name": "fuzzy_centres", "clusters": 3}),),
        train=Train(batch=8),
        federation=Federation.model_validate(
            {"rounds": 1, "quorum": quorum, "deadline_s": 60.0, "secure_sum": {"largest_change": 8.0} if secure else None}
        ),
        evaluation=Evaluation(validation=0.3, bootstrap=0),
    )


def patient(number: int, shift: float) -> Prepared:
    """A phantom, thinned, whose mask is a threshold's; body, scanner and noise differ."""
    whole, truth, _ = study(("normal", "UIP")[number % 2], body=1 + 3 * (number % 2), scanner="AC"[number % 2])
    noise = np.random.default_rng(number).normal(shift, 5.0 + number % 3, whole.hu[::3, ::2, ::2].shape)
    z, y, x = whole.spacing_mm
    hu = np.rint(whole.hu[::3, ::2, ::2] + noise).astype(np.float32)
    return Prepared(Volume(hu, (3 * z, 2 * y, 2 * x)), np.ascontiguousarray(np.where(hu < -750, truth[::3, ::2, ::2], 0)))


def hospital(folder: Path, name: str, patients: int, shift: float) -> Site:
    cases = []
    for number in range(patients):
        where = Path("cache") / f"{number}.safetensors"
        store(folder / name / "workspace" / where, patient(number, shift), {"features": {}, "findings": []})
        cases.append(Case(f"{name}{number:03d}", (Visit(f"v{number}", 0, f"s{number}", where, {}, {}),), CLASSES[number % 2]))
    Cohort(tuple(cases), CLASSES).save(folder / name / "workspace" / "cohort.json")
    (folder / name / "site.toml").write_text(f'[site]\nname = "{name}"\n')
    return Site.load(folder / name / "site.toml")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Site]:
    folder = Path(tmp_path_factory.mktemp("hospitals"))
    return [hospital(folder, name, *size) for name, size in SITES.items()]


def pooled(sites: list[Site]) -> np.ndarray:
    """The centres of all training patients in one place."""
    total = np.zeros(len(LEVELS_HU))
    for where in sites:
        for name in split_records(where, experiment_of())[0].names:
            one = patient(int(name[-3:]), SITES[where.site.name][1])
            assert one.mask is not None
            total += body_histogram(one.volume, one.mask)
    return fit_fuzzy([total], LEVELS_HU, first_centres(total, LEVELS_HU, 3), tolerance=1e-9, steps=5000).centres


@pytest.mark.parametrize("secure", [False, True])
def test_centres_of_a_run_equal_those_of_all_patients_together(sites: list[Site], secure: bool, tmp_path: Path) -> None:
    experiment = experiment_of(secure=secure)
    grid = LoopGrid({place.site.name: Worker(place).handle for place in sites})
    final = run_experiment(grid, experiment, tmp_path / "run", durable=False)
    centres = fit_of(final.state, "fuzzy_centres")["hu"]
    np.testing.assert_allclose(centres, pooled(sites), rtol=1e-8)
    assert [line["phase"] for line in read_rounds(tmp_path / "run" / "rounds.jsonl")] == ["fuzzy_centres", "training"]

    one = load(sites[1].workspace / "cache" / "4.safetensors").prepared
    known = Choice.model_validate({**SEGMENTER.model_dump(), "centres_hu": centres.tolist()})
    seen = study_seen(one, experiment, final.state)
    assert seen.mask is not None and seen.volume is one.volume and one.mask is not None
    np.testing.assert_array_equal(seen.mask, pick(SEGMENTERS, known)(one.volume))
    truth = study(body=1)[1][::3, ::2, ::2] > 0
    assert dice(seen.mask > 0, truth) > 0.95 > dice(one.mask > 0, truth) + 0.01
    assert np.abs(seen_records(sites[1], experiment, final.state)[0].inputs - split_records(sites[1], experiment)[0].inputs).max() > 0.1

    if not secure:
        write_bundle(tmp_path / "bundle", state=final.state, experiment=experiment, card={})
        case = Cohort.load(sites[1].workspace / "cohort.json").cases[4]
        said, shown = predict_series(case.visits[0], load_bundle(tmp_path / "bundle"), sites[1].workspace, known_rows(experiment, None))
        assert sum(said.values()) == pytest.approx(1.0) and shown["slices"]


def test_a_hospital_of_few_patients_is_left_out(sites: list[Site], tmp_path: Path) -> None:
    few = hospital(tmp_path, "few", 8, 0.0)
    grid = LoopGrid({place.site.name: Worker(place).handle for place in (*sites[:2], few)})
    final = run_experiment(grid, experiment_of(quorum=2), tmp_path / "run", durable=False)
    np.testing.assert_allclose(fit_of(final.state, "fuzzy_centres")["hu"], pooled(sites[:2]), rtol=1e-8)
    first = read_rounds(tmp_path / "run" / "rounds.jsonl")[0]
    assert "E_FEW_CASES" in str(first) and "few" in str(first)


def test_the_body_has_the_lung_and_no_air_around_it() -> None:
    volume, truth, _ = study()
    inside = body_of(volume.hu, truth > 0)
    assert inside[truth > 0].all() and not inside[:, 0].any() and not (volume.hu[~inside] >= -400).any()
    cut = truth[:, :, truth.any((0, 1)).argmax() + 5 :]  # a field of view that opens the lung
    assert body_of(volume.hu[:, :, -cut.shape[2] :], cut > 0)[cut > 0].all()
    apart = body_histogram(volume, truth)
    wide = np.pad(volume.hu, ((0, 0), (20, 20), (20, 20)), constant_values=-1000)
    np.testing.assert_allclose(body_histogram(Volume(wide, volume.spacing_mm), np.pad(truth, ((0, 0), (20, 20), (20, 20)))), apart, rtol=1e-12)


def test_what_has_no_grey_values_or_no_lung_is_refused() -> None:
    one = patient(0, 0.0)
    assert grey_values(one).sum() == pytest.approx(1.0)
    with pytest.raises(BadCohort, match="Hounsfield"):
        grey_values(replace(one, is_hu=False))
    with pytest.raises(BadCohort, match="lung"):
        grey_values(replace(one, mask=None))
    with pytest.raises(BadCohort, match="body"):
        body_histogram(Volume(np.full((2, 4, 4), -1000, np.float32), (5, 5, 5)), np.zeros((2, 4, 4), np.uint8))
    far = {"statistics/fuzzy_centres/hu": np.array([-1020.0, -1010.0, -990.0])}
    with pytest.raises(BadStudy, match="200 mL"):
        study_seen(one, experiment_of(), far)
