"""A forest of windows at a site: records, judgement by patient, the map of a study, and what the gate lets leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.cases.cache import store
from client.cases.cohort import Case, Cohort, Visit
from client.cases.prepared import Prepared
from client.features.extents import PatternRelease, extents
from client.features.windows import window_names
from client.hrct.quantities import quantities_of
from client.pattern_maps import source_of
from client.selection import split_records
from client.site import Site
from client.training import case_pixel_tables, pixel_tables
from client.training.targets import class_map, images_and_classes, onto_study
from client.worker import Worker
from shared_models.bundle import Bundle, write_bundle
from shared_models.catalogue import initial_state, inputs_of
from shared_models.core.errors import BadBundle, BadCohort, BadInput
from shared_models.experiment import Experiment, Inputs
from shared_models.messages import Job
from shared_models.metrics.segmentation import class_dice
from sim.extents import part_agreement
from tests.client.training.test_targets import study

EXPERIMENT = Experiment.model_validate(
    {
        "name": "windows",
        "data": {"target": "segmentation", "classes": ["normal", "ggo", "reticulation"], "merge": {"honeycombing": "reticulation"}},
        "model": {"name": "texture_forest", "trees": 6, "min_leaf": 5},
        "inputs": {"slices": 3, "windows": 150, "columns": list(window_names())},
        "federation": {"rounds": 1, "quorum": 2},
        "evaluation": {"validation": 0.2, "bootstrap": 0},
    }
)
PATIENTS = 15


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose brightness tells the pattern, every second slice drawn."""
    home = tmp_path_factory.mktemp("windows") / "alpha"
    cases = []
    for number in range(PATIENTS):
        path = Path("cache") / f"{number}.safetensors"
        (home / "workspace" / "cache").mkdir(parents=True, exist_ok=True)
        store(home / "workspace" / path, study(number), {"features": {}})
        cases.append(Case(f"p{number:02d}", (Visit(f"v{number}", 0, f"s{number}", path),)))
    Cohort(tuple(cases)).save(home / "workspace" / "cohort.json")
    (home / "site.toml").write_text('[site]\nname = "alpha"\n')
    return Site.load(home / "site.toml")


@pytest.fixture(scope="module")
def update(site: Site) -> dict[str, np.ndarray]:
    state = initial_state(EXPERIMENT.model, inputs=inputs_of(EXPERIMENT), outputs=3, seed=0)
    job = Job(run="run", round=1, kind="fit", state=state, experiment=EXPERIMENT.to_json(), rule={"name": "plain", "lr_factor": 1.0})
    found = Worker(site).handle(job)
    assert (found.code, found.num_cases) == ("", len({*split_records(site, EXPERIMENT)[0].names}))
    assert {"val_loss", "val_dice", "val_cases"} >= set(found.metrics)
    return found.state


def test_windows_are_drawn_where_readers_have_drawn_and_stay_with_their_patient(site: Site) -> None:
    training, validation = split_records(site, EXPERIMENT)
    assert set(training.names) | set(validation.names) == {f"p{number:02d}" for number in range(PATIENTS)}
    assert not set(training.names) & set(validation.names) and len(training) == 150 * training.patients
    again = split_records(site, EXPERIMENT)[0]
    np.testing.assert_array_equal(training.inputs, again.inputs)
    heights = training.inputs[:, window_names().index("window_height_percent")]
    assert len(np.unique(heights.round(3))) == 3  # of the slices that were drawn, three
    assert np.median(training.inputs[training.labels == 0, window_names().index("window_mean_hu")]) < -780
    with pytest.raises(BadCohort, match="columns of windows"):
        split_records(site, EXPERIMENT.model_copy(update={"inputs": EXPERIMENT.inputs.model_copy(update={"columns": ("whole_mld_hu",)})}))


def test_the_gate_lets_trees_of_enough_patients_leave_and_no_others(site: Site, update: dict[str, np.ndarray]) -> None:
    assert len(update["first"]) == 6
    lonely = EXPERIMENT.model_copy(update={"model": EXPERIMENT.model.model_copy(update={"min_patients": 1})})
    state = initial_state(lonely.model, inputs=inputs_of(lonely), outputs=3, seed=0)
    job = Job(run="run", round=1, kind="fit", state=state, experiment=lonely.to_json(), rule={"name": "plain", "lr_factor": 1.0})
    assert Worker(site).handle(job).code == "E_POLICY_LEAF"


def test_patients_are_judged_and_a_release_maps_a_study(site: Site, update: dict[str, np.ndarray]) -> None:
    validation = split_records(site, EXPERIMENT)[1]
    windows = pixel_tables(EXPERIMENT, update, validation)
    assert windows.shape == (validation.patients, 3, 3) and windows.sum() == len(validation)
    cases = [case for case in Cohort.load(site.workspace / "cohort.json").cases if case.pseudonym in set(validation.names)]
    tables = case_pixel_tables(EXPERIMENT, update, cases, site.workspace)
    one = study(int(cases[0].pseudonym[1:]))
    assert one.mask is not None and one.annotation is not None
    source = source_of(Bundle(update, EXPERIMENT, {"agreement": {"ggo": {}}}, "d" * 64))
    found = source.map_of(one)
    drawn = (one.mask > 0) & (one.annotation != 255)
    truth = np.where(one.annotation == 3, 2, one.annotation)
    for row in range(3):
        assert [int((truth[drawn & (found == column)] == row).sum()) for column in range(3)] == tables[0][row].tolist()
    assert not found[one.mask == 0].any() and np.nanmean(class_dice(tables)) > 0.6
    assert source.told == ("normal", "ggo") and "ggo" in (source.agreement or {})  # the third is reticulation or honeycombing: neither is told
    agreement = part_agreement(tables, EXPERIMENT.data)
    assert set(agreement) == {"ggo"}  # the third class holds honeycombing too, and reticulation without ground glass
    with pytest.raises(BadBundle, match="labels patterns"):
        source_of(Bundle(update, replace_target(), {}, "d" * 64))


def replace_target() -> Experiment:
    return Experiment.model_validate({"name": "x", "data": {"classes": ["a", "b"]}, "model": {"name": "forest"}, "inputs": {"columns": ["c"]}})


def test_a_study_that_nobody_drew_on_teaches_nothing(site: Site, tmp_path: Path) -> None:
    from client.training.windows import window_records

    bare = replace(study(0), annotation=None)
    store(tmp_path / "x.safetensors", bare, {"features": {}})
    case = Case("p", (Visit("v", 0, "s", Path("x.safetensors")),))
    with pytest.raises(BadCohort, match="annotation"):
        window_records([case], EXPERIMENT, tmp_path)
    assert isinstance(bare, Prepared) and len(window_records([], EXPERIMENT, tmp_path)) == 0


def test_extents_as_columns_come_from_the_release_that_is_named(
    site: Site, update: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = write_bundle(tmp_path / "texture", state=update, experiment=EXPERIMENT, card={})
    monkeypatch.setenv("FEDILD_WEIGHTS", str(tmp_path))
    one = study(3)
    assert one.mask is not None
    found = extents(one, patterns=PatternRelease(path="texture", sha256=digest))
    source = source_of(Bundle(update, EXPERIMENT, {}, digest))
    expected = quantities_of(source.map_of(one), one.mask, one.volume.spacing_mm, told=source.told)["whole"]
    assert found["whole_ggo_extent_percent"] == expected["percent"]["ggo"] > 1 and found["whole_ggo_extent_ml"] == expected["ml"]["ggo"]
    assert np.isnan(found["whole_fibrosis_extent_percent"])  # its third class holds more and less than fibrosis
    with pytest.raises(BadInput, match="SHA-256"):
        extents(one, patterns=PatternRelease(path="texture", sha256="0" * 64))


@pytest.mark.parametrize("inputs", [Inputs(slices=2, size=96), Inputs(slices=2, size=64, pixel_mm=2.0), Inputs(slices=2, size=32, pixel_mm=2.0)])
def test_classes_of_pixels_go_back_to_the_voxels_that_they_came_from(inputs: Inputs) -> None:
    one = study(1)
    classes = class_map(one, EXPERIMENT.data)
    known = (classes != 255).any((1, 2))
    planes = images_and_classes(one, EXPERIMENT.data, inputs, all_of_them=True)[1]
    back, there = onto_study(planes, one, inputs), classes[known]
    seen = np.zeros(there.shape, bool)
    seen[:] = onto_study(np.ones_like(planes), one, inputs) > 0
    assert seen.mean() > (0.4 if inputs.size == 32 else 0.7)
    np.testing.assert_array_equal(back[seen], there[seen])
