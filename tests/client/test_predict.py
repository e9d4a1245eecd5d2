"""A release applied to a study: the same numbers as in training, the warning on top, nobody named, and refusals that say why."""

from __future__ import annotations

import datetime
import io
import json
import math
import re
import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from highdicom.seg import segread
from PIL import Image

from client.cases.cache import load
from client.cases.cohort import Case
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.pictures import draw_slice, seen_slices
from client.predict import predict_study
from client.prepare import prepare_folder
from client.segmentation.network import Normalisation, save_weights
from client.training import PREDICTORS
from client.training.gradient import network_of
from client.training.personal_models import keep_beside
from client.training.records import records_of, slice_numbers, slices_of
from shared_models.bundle import load_bundle, write_bundle
from shared_models.catalogue import initial_state, inputs_of
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadBundle, BadInput, BadState, BadStudy
from shared_models.ensemble import Member, join
from shared_models.experiment import Data, Evaluation, Experiment, Inputs, Preparation
from shared_models.networks.segmentation import SEGMENTATION_NETWORKS
from shared_models.phases import start_of
from shared_models.taxonomy import PATTERNS
from sim.phantom.patient import make_phantom
from sim.scanner.dicom import Identity, write_series
from sim.scanner.scanner import SCANNERS, scan
from tests.client.dicom_factory import SeriesPlan, chest, write
from tests.client.real_data import needs_real_data, real

CHEST = chest(size=48, pixel_mm=6.5)
PERFORMANCE = {"auroc_macro": {"value": 0.9, "low": 0.8, "high": 0.96, "n": 40}}
PLANTED = ("Doe", "Jane", "0007", "20240531", "2024", "1950", "1.2.3.1", "ACC4711", "General Hospital", "House", "PHANTOM", "secretfolder")
ACQUISITION = ("manufacturer", "kernel_class", "thickness_mm", "kvp", "position", "contrast", "spacing_mm", "slices")
EXPERIMENT = Experiment(
    name="tiny",
    data=Data(classes=("normal", "UIP", "HP")),
    inputs=Inputs(slices=6, size=32),
    model=Choice(name="mil_cnn", widths=(4, 8), features=8),
)


def plan(**changes: Any) -> SeriesPlan:
    return SeriesPlan(CHEST, pixel_mm=(6.5, 6.5), **changes)


def bundle_of(folder: Path, experiment: Experiment = EXPERIMENT, **card: Any) -> Path:
    """A release with random weights; gradient models are made to prefer some slices and classes."""
    state = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=experiment.data.outputs, seed=3)
    state = {name: value * (8 if name.startswith(("attention", "head")) else 1) for name, value in state.items()}
    facts = {"trained_on": "phantoms", "training": {"hospitals": "<b>north</b>"}, "performance_on_the_held_out_hospital": PERFORMANCE}
    write_bundle(folder, state=state, experiment=experiment, card=facts | card)
    return folder


def outcome(study: Path, bundle: Path, out: Path) -> tuple[dict[str, Any], str]:
    page = predict_study(study, bundle, out)
    assert page == out / "prediction.html"
    return json.loads((out / "prediction.json").read_text()), page.read_text()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write(tmp_path / "secretfolder", plan())
    return tmp_path / "secretfolder"


@pytest.fixture(scope="module")
def phantom_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    scanner = SCANNERS["A"].at(5.0)
    who = Identity("PHANTOM-1", "PHANTOM^ONE", datetime.date(1950, 1, 2), "F", datetime.date(2020, 3, 4), "PHANTOM HOSPITAL")
    write_series(folder, scan(make_phantom("UIP", seed=5, grid_mm=5.0), scanner, seed=1), scanner, who, shuffled=True)
    return folder


@pytest.mark.parametrize("preparation", [Preparation(), Preparation(grid_mm=(6, 5, 5), features=())])
def test_a_phantom_gets_what_training_and_preparation_compute(phantom_study: Path, tmp_path: Path, preparation: Preparation) -> None:
    experiment = EXPERIMENT.model_copy(update={"preparation": preparation})
    bundle = bundle_of(tmp_path / "b", experiment)
    found, page = outcome(phantom_study, bundle, tmp_path / "out")
    (series,) = found["series"]

    report = prepare_folder(phantom_study, tmp_path / "w", preparation.model_copy(update={"features": Preparation().features}))
    (case,) = report.cohort.cases
    records = records_of([Case(case.pseudonym, case.visits, "UIP")], experiment, tmp_path / "w")
    expected = PREDICTORS["gradient"](experiment, load_bundle(bundle).state, records)[0]
    assert list(series["probabilities"]) == ["normal", "UIP", "HP"]
    np.testing.assert_array_equal(list(series["probabilities"].values()), expected)
    assert np.ptp(expected) > 0.05  # the weights do prefer a class, so equality says something
    assert series["quantification"] == case.visits[0].features
    assert found["headline"] == series["series"] != case.visits[0].series  # a name of its own

    stored = load(tmp_path / "w" / case.visits[0].prepared).prepared
    assert stored.mask is not None
    _, looked = network_of(experiment, load_bundle(bundle).state).look(torch.from_numpy(records.inputs))
    expected_weights = {len(stored.mask) - int(z): w for z, w in zip(slice_numbers(stored.mask, 6), looked[0].tolist(), strict=True)}
    assert {one["number"]: one["attention"] for one in series["slices"]} == pytest.approx(expected_weights)
    weights = [one["attention"] for one in series["slices"]]
    assert sum(weights) == pytest.approx(1, abs=1e-6) and max(weights) > 1.2 * min(weights)
    numbers = [one["number"] for one in series["slices"]]
    assert numbers == sorted(set(numbers)) and series["slices"][0]["height_percent"] > series["slices"][-1]["height_percent"]
    assert page.count("data:image/png") == 8  # four slices, and each with the map of the explanation
    best = max(series["probabilities"], key=series["probabilities"].get)
    assert series["explanation"]["method"] == "grad_cam" and series["explanation"]["class"] == best and f"Grad-CAM for “{best}”" in page
    assert ("much the same map" in page) == (series["explanation"]["alike"] >= 0.5)
    top = max(series["slices"], key=lambda one: one["attention"])
    assert f"Slice {top['number']} of {top['of']}" in page[: page.index("</figure>")]


def test_results_for_the_pacs_lie_on_the_patients_own_slices(phantom_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_study(phantom_study, bundle_of(tmp_path / "bundle"), out, dicom=True)
    found = segread(out / "segmentation.dcm")
    assert [item.SegmentLabel for item in found.SegmentSequence] == ["right lung", "left lung"]
    images = [pydicom.dcmread(path) for path in sorted(phantom_study.rglob("*")) if path.is_file()]
    wanted = [image.SOPInstanceUID for image in images]
    labels = found.get_pixels_by_source_instance(wanted, combine_segments=True, assert_missing_frames_are_empty=True)
    hu = np.stack([image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept) for image in images])
    assert (labels > 0).sum() > 1000 and np.median(hu[labels > 0]) < -700 and (hu[labels > 0] < -400).mean() > 0.9
    column = np.arange(labels.shape[2])
    assert (column * (labels == 1).sum((0, 1))).sum() / (labels == 1).sum() < (column * (labels == 2).sum((0, 1))).sum() / (labels == 2).sum()
    report = pydicom.dcmread(out / "report.dcm")
    said = json.loads((out / "prediction.json").read_text())["series"][0]
    assert f"{said['probabilities']['UIP']:.6g}" in str(report) and report.VerificationFlag == "UNVERIFIED"
    assert report.PatientID == images[0].PatientID and stat.S_IMODE((out / "report.dcm").stat().st_mode) == 0o600
    predict_study(phantom_study, bundle_of(tmp_path / "again"), out)
    assert not (out / "report.dcm").exists()  # an old result never stays beside a new one


def test_the_warning_of_a_phantom_model_stands_on_top(study: Path, tmp_path: Path) -> None:
    found, page = outcome(study, bundle_of(tmp_path / "b"), tmp_path / "out")
    assert "synthetic phantoms" in found["warning"] and "means nothing" in found["warning"]
    assert found["notice"].startswith("Research use only. Not a medical device.")
    body = page[page.index("<body>") :]
    assert body.index('class="alarm"') < body.index("means nothing for a patient") < body.index("Research use only") < body.index("<h1>")


def test_other_kinds_of_training_data(study: Path, tmp_path: Path) -> None:
    found, page = outcome(study, bundle_of(tmp_path / "b", trained_on="patients"), tmp_path / "out")
    assert found["warning"] is None and 'class="alarm"' not in page and "Research use only" in page
    found, page = outcome(study, bundle_of(tmp_path / "c", trained_on=None), tmp_path / "out")
    assert "not recorded" in found["warning"] and 'class="alarm"' in page


GUESSING = {"auroc_macro": {"value": 0.6, "low": 0.45, "high": 0.7, "n": 9}}


@pytest.mark.parametrize(("performance", "words"), [({}, "not recorded"), (GUESSING, "could not be told from guessing")])
def test_a_model_no_better_than_guessing_says_so(study: Path, tmp_path: Path, performance: dict[str, Any], words: str) -> None:
    found, page = outcome(study, bundle_of(tmp_path / "b", performance_on_the_held_out_hospital=performance), tmp_path / "out")
    assert words in found["cautions"][0] and found["cautions"][0] in page
    assert not outcome(study, bundle_of(tmp_path / "c"), tmp_path / "out")[0]["cautions"]


def test_nothing_identifying_is_written_and_nothing_is_left(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spare))
    bundle, out = bundle_of(tmp_path / "b"), tmp_path / "out"
    names = [outcome(study, bundle, out)[0]["headline"] for _ in range(2)]
    assert names[0] != names[1]  # the key is drawn anew
    assert not list(spare.iterdir())
    assert sorted(path.name for path in out.iterdir()) == ["prediction.html", "prediction.json"]
    for path in out.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = re.sub(r"base64,[A-Za-z0-9+/=]+|\b[0-9a-f]{16,64}\b|[0-9.e-]{15,}", "", path.read_text())
        text = text.replace(EXPERIMENT.digest, "").replace("ICML 2018", "")
        assert not [word for word in (*PLANTED, str(tmp_path)) if word in text], path.name


def test_the_page_asks_nothing_of_the_network_and_escapes_the_card(study: Path, tmp_path: Path) -> None:
    _, page = outcome(study, bundle_of(tmp_path / "b"), tmp_path / "out")
    assert "default-src 'none'" in page and "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)', page))
    assert "&lt;b&gt;north" in page and "<b>north" not in page


def test_an_altered_release_is_refused_and_leaves_no_old_result(study: Path, tmp_path: Path) -> None:
    bundle, out = bundle_of(tmp_path / "b"), tmp_path / "out"
    outcome(study, bundle, out)
    card = bundle / "card.json"
    card.write_text(card.read_text().replace('"trained_on":"phantoms"', '"trained_on":"patients"'))
    with pytest.raises(BadBundle, match=r"card\.json"):
        predict_study(study, bundle, out)
    assert not list(out.iterdir())


def test_weights_of_another_model_are_refused(study: Path, tmp_path: Path) -> None:
    other = EXPERIMENT.model_copy(update={"model": Choice(name="mil_cnn", widths=(4, 8), features=16)})
    state = initial_state(other.model, inputs=1, outputs=3, seed=0)
    write_bundle(tmp_path / "b", state=state, experiment=EXPERIMENT, card={})
    with pytest.raises(BadBundle, match="weights must fit"):
        predict_study(study, tmp_path / "b", tmp_path / "out")


def test_two_patients_are_refused_without_naming_them(study: Path, tmp_path: Path) -> None:
    write(study / "other", plan(patient="Smith-1", series="1.2.9", study="1.2.8"))
    with pytest.raises(BadInput, match="one patient; found '2 patient numbers'") as caught:
        predict_study(study, bundle_of(tmp_path / "b"), tmp_path / "out")
    assert not isinstance(caught.value, BadStudy) and "Smith" not in str(caught.value) and "Doe" not in str(caught.value)


def test_the_best_series_of_the_latest_visit_is_the_headline(study: Path, tmp_path: Path) -> None:
    early = {"date": "20230101", "study": "1.2.4"}
    write(study / "early", plan(series="1.2.4.1", patient="doe 0007", **early))  # another spelling of the same patient
    write(study / "sharp", plan(series="1.2.3.1.0", kernel="B70f"))
    found, page = outcome(study, bundle_of(tmp_path / "b"), tmp_path / "out")
    order = [(one["visit"], one["acquisition"]["kernel_class"]) for one in found["series"]]
    assert order == [(2, "soft"), (2, "sharp"), (1, "soft")]
    assert found["headline"] == found["series"][0]["series"]
    assert all(f"Series {one['series'][:8]} in full" in page for one in found["series"][1:])
    assert "a sharp kernel: not comparable" in page


def test_a_spoilt_series_is_named_and_the_other_goes_on(study: Path, tmp_path: Path) -> None:
    write(study / "gap", plan(series="1.2.5"), skip=(18, 19, 20))
    strange = CHEST.copy()
    strange[20] = 2000
    write(study / "strange", SeriesPlan(strange, pixel_mm=(6.5, 6.5), series="1.2.7"))
    (study / "notes.txt").write_text("x")
    found, page = outcome(study, bundle_of(tmp_path / "b"), tmp_path / "out")
    assert len(found["series"]) == 2
    assert set(found["series"][0]["acquisition"]) == set(ACQUISITION)
    left = {line["reason"]: line["files"] for line in found["left_out"]}
    assert left == {"GAP": 37, "CORRUPT_SLICE": 1, "NOT_DICOM": 1}
    assert "slices are missing in the middle" in page


def test_no_usable_series_says_why(tmp_path: Path) -> None:
    bundle, folder = bundle_of(tmp_path / "b"), tmp_path / "in"
    write(folder / "gap", plan(), skip=(18, 19, 20))
    write(folder / "scout", plan(series="1.2.6", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")))
    with pytest.raises(BadStudy, match=r"GAP \(slices are missing in the middle; files: 37\).*LOCALIZER") as caught:
        predict_study(folder, bundle, tmp_path / "out")
    assert caught.value.reason == "NO_SERIES"
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadStudy, match="an empty folder"):
        predict_study(tmp_path / "empty", bundle, tmp_path / "out")
    with pytest.raises(BadInput, match="must be a folder"):
        predict_study(tmp_path / "none", bundle, tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="output must be a folder"):
        predict_study(folder, bundle, tmp_path / "file")


def table_bundle(folder: Path, *columns: str) -> Path:
    experiment = EXPERIMENT.model_copy(update={"model": Choice(name="logistic"), "inputs": Inputs(columns=columns)})
    weights = np.random.default_rng(0).normal(size=(3, len(columns) + 1))
    state = {"mean": np.full(len(columns), 2.0), "scale": np.full(len(columns), 30.0), "coefficients": weights, "ready": np.ones(1)}
    write_bundle(folder, state=state, experiment=experiment, card={"trained_on": "phantoms"})
    return folder


def test_a_table_model(study: Path, tmp_path: Path) -> None:
    bundle = table_bundle(tmp_path / "b", "whole_haa_percent", "age", "male")
    found, page = outcome(study, bundle, tmp_path / "out")
    (series,) = found["series"]
    assert series["columns"] == {"whole_haa_percent": series["quantification"]["whole_haa_percent"], "age": 73.0, "male": 0.0}
    design = np.array([*((np.array(list(series["columns"].values())) - 2) / 30), 1.0])
    logits = load_bundle(bundle).state["coefficients"] @ design
    np.testing.assert_allclose(list(series["probabilities"].values()), np.exp(logits) / np.exp(logits).sum(), rtol=1e-12)
    assert [one["attention"] for one in series["slices"]] == [None] * 3
    assert "What the model read" in page and page.count("data:image/png") == 3
    assert series["explanation"]["method"] == "shapley" and set(series["explanation"]["columns"]) == set(series["columns"])
    parts, state = series["explanation"]["columns"], load_bundle(bundle).state
    label = list(series["probabilities"]).index(series["explanation"]["class"])
    absent = state["coefficients"] @ np.array([0.0, 0.0, 0.0, 1.0])
    centred = (logits - logits.mean()) - (absent - absent.mean())
    assert sum(parts.values()) == pytest.approx(centred[label]) and "Shapley values for" in page


@pytest.mark.parametrize("method", ["none", "attention"])
def test_the_explanation_is_chosen_by_name(study: Path, tmp_path: Path, method: str) -> None:
    page = predict_study(study, bundle_of(tmp_path / "b"), tmp_path / "out", explanation=method)
    (series,) = json.loads((tmp_path / "out" / "prediction.json").read_text())["series"]
    assert page.read_text().count("data:image/png") == (4 if method == "none" else 8)
    assert (series["explanation"] or {"method": "none"})["method"] == method


def test_an_explanation_for_another_kind_of_model_is_refused_first(study: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"shapley must apply to the model 'mil_cnn'; choose from: grad_cam"):
        predict_study(study, bundle_of(tmp_path / "b"), tmp_path / "out", explanation="shapley")


def calibrated_bundle(folder: Path, *, far: float, threshold: float) -> Path:
    """The tiny release with all three calibrations: temperature 2, a set threshold, and training patients at a distance."""
    names = ("temperature", "conformal", "unfamiliar")
    experiment = EXPERIMENT.model_copy(update={"calibration": tuple(Choice(name=name) for name in names)})
    state = initial_state(experiment.model, inputs=1, outputs=3, seed=3) | start_of(experiment, representation=8)
    ours = {"temperature/beta": 0.5, "conformal/threshold": threshold, "conformal/patients": 80.0, "conformal/least": 0.9, "conformal/most": 0.95}
    state |= {f"calibration/{name}": np.array([value]) for name, value in ours.items()}
    state |= {"calibration/unfamiliar/mean": np.full(8, far), "calibration/unfamiliar/threshold": np.array([1e4])}
    write_bundle(folder, state=state, experiment=experiment, card={"trained_on": "phantoms", "performance_on_the_held_out_hospital": PERFORMANCE})
    return folder


def test_a_calibrated_release_says_its_set_and_how_sure_it_may_be(study: Path, tmp_path: Path) -> None:
    found, page = outcome(study, calibrated_bundle(tmp_path / "b", far=0.0, threshold=1.0), tmp_path / "out")
    (series,) = found["series"]
    plain = load_bundle(bundle_of(tmp_path / "p"))
    said = series["calibration"]
    assert said["classes"] == ["normal", "UIP", "HP"] and said["coverage"] == {"wanted": 0.9, "least": 0.9, "most": 0.95, "patients": 80.0}
    assert said["temperature"] == 2 and said["unfamiliar"] is False and not found["cautions"]
    assert "the model can exclude none" in page and "90.0 to 95.0 %" in page and "a temperature of 2.00" in page
    assert plain.experiment.calibration is None
    narrow, page = outcome(study, calibrated_bundle(tmp_path / "c", far=1e4, threshold=0.0), tmp_path / "out")
    said = narrow["series"][0]["calibration"]
    best = max(series["probabilities"], key=series["probabilities"].get)
    assert said["classes"] == [best] and said["unfamiliar"] is True and said["distance"] > 1e4
    assert "unlike those that the model was trained on" in narrow["cautions"][0] and narrow["cautions"][0] in page
    assert max(series["probabilities"].values()) < 1


def test_a_release_without_the_fit_of_its_calibration_is_refused(study: Path, tmp_path: Path) -> None:
    experiment = EXPERIMENT.model_copy(update={"calibration": (Choice(name="conformal"),)})
    write_bundle(tmp_path / "b", state=initial_state(EXPERIMENT.model, inputs=1, outputs=3, seed=0), experiment=experiment, card={})
    with pytest.raises(BadBundle, match="weights must fit"):
        predict_study(study, tmp_path / "b", tmp_path / "out")


@pytest.mark.parametrize(("probability", "word"), [(0.0, "positive"), (1.0, "negative")])
def test_a_release_with_an_operating_point_says_on_which_side_a_patient_is(study: Path, tmp_path: Path, probability: float, word: str) -> None:
    experiment = EXPERIMENT.model_copy(update={"calibration": (Choice.model_validate({"name": "operating_point", "label": 1}),)})
    state = initial_state(experiment.model, inputs=1, outputs=3, seed=3) | start_of(experiment)
    ours = {"threshold": probability, "rest": 40.0, "rest_below": 35.0, "positives": 20.0, "positives_above": 17.0}
    state |= {f"calibration/operating_point/{name}": np.array([value]) for name, value in ours.items()}
    write_bundle(tmp_path / "b", state=state, experiment=experiment, card={"trained_on": "phantoms"})
    found, page = outcome(study, tmp_path / "b", tmp_path / "out")
    (series,) = found["series"]
    said = series["calibration"]["operating_point"]
    assert said["label"] == "UIP" and said["probability"] == pytest.approx(series["probabilities"]["UIP"])
    assert said["exceeded"] == (word == "positive") and said["specificity"] == [35, 40] and said["sensitivity"] == [17, 20]
    assert f"<b>UIP: {word}</b>" in page and "35 of 40 patients without it" in page and "17 of 20 with it" in page


def test_the_category_needs_a_pattern_map(study: Path, tmp_path: Path) -> None:
    found, page = outcome(study, bundle_of(tmp_path / "b"), tmp_path / "out")
    assert found["series"][0]["category"] == {"category": None, "needs": "a pattern map"} and "needs a pattern map" in page


def test_a_network_of_patterns_gives_extents_and_a_category(study: Path, phantom_study: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    knobs = Choice.model_validate({"name": "unet", "widths": [8, 12, 16]})
    network = pick(SEGMENTATION_NETWORKS, knobs, kind="network", get=lambda spec: spec.build)(1, 8)
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    digest = save_weights(tmp_path / "patterns.safetensors", weights, Normalisation(network=knobs, outputs=8, pixel_mm=6.5))
    out = tmp_path / "out"
    page = predict_study(phantom_study, bundle_of(tmp_path / "b"), out, patterns=tmp_path / "patterns.safetensors", dicom=True).read_text()
    found = segread(out / "patterns.dcm")
    images = [pydicom.dcmread(path).SOPInstanceUID for path in sorted(phantom_study.rglob("*")) if path.is_file()]
    marked = found.get_pixels_by_source_instance(images, combine_segments=True, assert_missing_frames_are_empty=True)
    spacing_mm = json.loads((out / "prediction.json").read_text())["series"][0]["acquisition"]["spacing_mm"]
    report, voxel_ml = str(pydicom.dcmread(out / "report.dcm").ContentSequence), math.prod(spacing_mm) / 1000
    for item in found.SegmentSequence:  # its own release's patterns, each on as many voxels of the patient's images as the report says
        assert item.SegmentLabel in {pattern.title for pattern in PATTERNS.values()} and item.RecommendedDisplayCIELabValue
        assert f"{(marked == item.SegmentNumber).sum() * voxel_ml:.6g}" in report
    assert stat.S_IMODE((out / "patterns.dcm").stat().st_mode) == 0o600
    (series,) = json.loads((tmp_path / "out" / "prediction.json").read_text())["series"]
    said = series["category"]
    assert said["needs"] is None and said["network"] == digest and set(said["extents"]) >= {"whole", "upper", "lower", "subpleural"}
    assert said["measures"]["traction_index"] is None and said["measures"]["mosaic"] is None  # a map holds neither
    measures = {name: value for name, value in said["measures"].items() if name.endswith("_percent")}
    assert {name.removesuffix("_percent"): value for name, value in measures.items()} == pytest.approx(said["extents"]["whole"], abs=1e-3)
    assert (said["category"] is None) == bool(said["open"])
    assert "HRCT category by rules" in page and (said["category"] is not None or "Insufficient data" in page)
    two = save_weights(tmp_path / "lung.safetensors", weights, Normalisation(network=knobs, outputs=2, pixel_mm=6.5))
    assert two
    with pytest.raises((BadInput, BadState)):
        predict_study(study, tmp_path / "b", tmp_path / "out", patterns=tmp_path / "lung.safetensors")
    with pytest.raises(BadInput, match="must be a file"):
        predict_study(study, tmp_path / "b", tmp_path / "out", patterns=tmp_path / "none.safetensors")


def test_an_ensemble_says_how_much_its_members_disagree(study: Path, tmp_path: Path) -> None:
    states = [load_bundle(bundle_of(tmp_path / "m")).state for _ in range(2)]
    for key in [key for key in states[1] if key.startswith("head")]:
        states[1] = {**states[1], key: -states[1][key]}
    write_bundle(tmp_path / "b", state=join([Member(1, state) for state in states]), experiment=EXPERIMENT, card={"trained_on": "phantoms"})
    found, page = outcome(study, tmp_path / "b", tmp_path / "out")
    assert 0.001 < found["series"][0]["disagreement"] <= np.log(2) and "members of this ensemble disagree" in page
    alone, page = outcome(study, tmp_path / "m", tmp_path / "out2")
    assert alone["series"][0]["disagreement"] is None and "members of this ensemble" not in page


def test_a_fusion_model_predicts_from_a_ct_alone(study: Path, tmp_path: Path) -> None:
    groups = {"ct": ["whole_mld_hu", "whole_haa_percent"], "lung_function": ["fvc_percent"]}
    model = Choice.model_validate({"name": "multimodal", "groups": groups, "width": 8, "hidden": 8})
    inputs = Inputs(columns=("whole_mld_hu", "whole_haa_percent", "fvc_percent"), missing="mask")
    experiment = EXPERIMENT.model_copy(update={"model": model, "inputs": inputs})
    found, page = outcome(study, bundle_of(tmp_path / "b", experiment), tmp_path / "out")
    (series,) = found["series"]
    assert series["columns"]["fvc_percent"] is None and series["columns"]["whole_mld_hu"] == pytest.approx(series["quantification"]["whole_mld_hu"])
    assert series["explanation"]["method"] == "shapley" and series["explanation"]["columns"]["fvc_percent"] == 0
    assert "<td>missing</td>" in page


def test_a_map_is_brightest_where_its_heat_is() -> None:
    hu, mask = np.full((2, 40, 40), -800, np.float32), np.zeros((2, 40, 40), np.uint8)
    mask[:, 4:36, 4:36] = 1
    heat = np.zeros((40, 40), np.float32)
    heat[8:14, 22:30] = 1
    study = Prepared(Volume(hu, (1, 1, 1)), mask)
    with_map, plain = (np.asarray(Image.open(io.BytesIO(draw_slice(study, 0, one))).convert("RGB")).astype(int) for one in (heat, None))
    change = np.abs(with_map - plain).sum(2)
    rows, columns = np.nonzero(change > 60)
    scale = plain.shape[0] / 40
    assert (rows.min() / scale, rows.max() / scale) == pytest.approx((8, 14), abs=1)
    assert (columns.min() / scale, columns.max() / scale) == pytest.approx((22, 30), abs=1)


def test_a_model_that_needs_more_than_a_ct(study: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fvc_percent"):
        predict_study(study, table_bundle(tmp_path / "b", "age", "fvc_percent"), tmp_path / "out")
    write(tmp_path / "ageless", plan(extra={"PatientAge": None}))
    with pytest.raises(BadStudy, match="MISSING_INPUT"):
        predict_study(tmp_path / "ageless", table_bundle(tmp_path / "c", "age"), tmp_path / "out")
    patches = EXPERIMENT.model_copy(update={"data": Data(kind="patches", classes=("normal", "UIP", "HP"))})
    with pytest.raises(BadInput, match="patches"):
        predict_study(study, bundle_of(tmp_path / "d", patches), tmp_path / "out")


def test_a_model_of_survival_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    survival = Experiment(
        name="hazards",
        data=Data.model_validate({"kind": "studies", "target": "survival", "time": "days", "event": "died"}),
        inputs=Inputs(columns=("age", "whole_haa_percent")),
        model=Choice(name="cox"),
    )
    with pytest.raises(BadInput, match=r"hazard ratios knows neither; found 'cox'.*hazard ratios stand in the report"):
        predict_study(tmp_path / "no folder", bundle_of(tmp_path / "b", survival), tmp_path / "out")


def test_a_prognosis_states_risks_at_the_horizons(study: Path, tmp_path: Path) -> None:
    data = Data.model_validate({"target": "survival", "horizons": [1, 3, 5]})
    experiment = EXPERIMENT.model_copy(update={"data": data, "evaluation": Evaluation(headline="harrell_c")})
    performance = {"harrell_c": {"value": 0.6, "low": 0.45, "high": 0.7, "n": 40}, "auc_at_3": {"value": 0.62, "low": 0.5, "high": 0.7, "n": 40}}
    bundle = bundle_of(tmp_path / "b", experiment, performance_on_the_held_out_hospital=performance)
    found, page = outcome(study, bundle, tmp_path / "out")
    (series,) = found["series"]
    assert series["probabilities"] == {} and list(series["risks"]) == ["1", "3", "5"] and found["model"]["classes"] == []
    risks = list(series["risks"].values())
    assert 0 < risks[0] <= risks[1] <= risks[2] < 1 and series["explanation"] is None
    assert "Research use only" in page and "within 5 years" in page and "Harrell" in page and "AUC at 3" in page
    assert "could not be told from guessing" in page and "which sum to 100" not in page
    with pytest.raises(BadInput, match="a prognosis has none"):
        predict_study(study, bundle, tmp_path / "again", explanation="grad_cam")


@pytest.mark.parametrize("height", [3, 9, 40])
def test_slice_numbers_are_those_that_the_model_reads(height: int) -> None:
    mask = np.zeros((height + 7, 12, 12), np.uint8)
    mask[4 : 4 + height, 3:9, 3:9] = 1
    mask[3, 5, 5] = 1  # too small to be read
    ramp = np.broadcast_to(np.arange(height + 7, dtype=np.float32)[:, None, None], mask.shape)
    inputs = Inputs(slices=7, size=8, margin_mm=0, window_hu=(0, height + 7))
    seen = slices_of(Prepared(Volume(ramp, (1, 1, 1)), mask), inputs)[:, 4, 4] * (height + 7)
    np.testing.assert_allclose(slice_numbers(mask, 7), seen, atol=1e-3)


def test_a_slice_that_comes_twice_is_one_with_both_weights() -> None:
    mask = np.ones((5, 8, 8), np.uint8)
    seen = seen_slices(Prepared(Volume(np.zeros(mask.shape, np.float32), (1, 1, 1)), mask), [0, 0, 4], [0.25, 0.5, 0.25])
    assert [(one.number, one.attention, one.height_percent) for one in seen] == [(1, 0.25, 100.0), (5, 0.75, 0.0)]


def test_a_picture_shows_the_right_lung_on_the_left_with_its_outline() -> None:
    hu = np.full((3, 40, 60), -1000, np.float32)
    hu[:, :, :30] = -200  # x grows to the patient's left
    hu[:, :2] = 150  # y grows to the back
    mask = np.zeros(hu.shape, np.uint8)
    mask[1, 12:28, 10:50] = 1
    picture = np.asarray(Image.open(io.BytesIO(draw_slice(Prepared(Volume(hu, (1, 1, 1)), mask), 1))).convert("RGB")).astype(int)
    middle = picture[picture.shape[0] // 4 :: picture.shape[0]][0]
    width = picture.shape[1]
    assert middle[width // 4].mean() > 150 > 90 > middle[3 * width // 4].mean()
    assert picture[2].min() > 200 > picture[-3, width // 4].mean()
    green = (picture[:, :, 1] - picture[:, :, 0]) > 80
    rows, columns = np.nonzero(green)
    per_voxel = width / 60  # the margin reaches the border of the image on both sides
    assert columns.min() / per_voxel == pytest.approx(10, abs=1) and columns.max() / per_voxel == pytest.approx(50, abs=1)
    assert rows.min() / per_voxel == pytest.approx(12, abs=1) and rows.max() / per_voxel == pytest.approx(28, abs=1)
    without = draw_slice(Prepared(Volume(hu * np.float32(0.001), (1, 1, 1)), None, is_hu=False), 1)
    grey = np.asarray(Image.open(io.BytesIO(without)).convert("L")).astype(int)
    assert grey[2, 5] == 255 and grey[-5, -5] == 0  # no HU: from the lowest to the highest value


@needs_real_data
def test_two_kernels_of_a_real_patient(tmp_path: Path) -> None:
    found, page = outcome(real("lung_pet_ct_dx"), bundle_of(tmp_path / "b"), tmp_path / "out")
    assert [one["acquisition"]["kernel_class"] for one in found["series"]] == ["soft", "sharp"]
    assert [one["visit"] for one in found["series"]] == [1, 1]
    volumes = [one["quantification"]["whole_volume_l"] for one in found["series"]]
    assert all(abs(volume / 2.67 - 1) < 0.04 for volume in volumes)
    remedy = "none needed; leave it out of the inbox"
    assert found["left_out"] == [{"reason": "NOT_DICOM", "meaning": "no DICOM preamble", "remedy": remedy, "files": 2}]
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page) + json.dumps(found)
    assert not [word for word in ("A0002", "Lung_Dx", "20070425", "1.3.6.1.4.1.14519", "ThoraxRoutine", "Sensation", "053Y") if word in text]


def test_a_site_may_apply_the_personal_model_that_it_keeps_beside_the_release(study: Path, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b")
    site = tmp_path / "home" / "site.toml"
    site.parent.mkdir()
    site.write_text('[site]\nname = "alpha"\n')
    with pytest.raises(BadInput, match="use the release itself"):
        predict_study(study, bundle, tmp_path / "none", personal=site)
    released = load_bundle(bundle).state
    own = {f"personal/{name}": -value for name, value in released.items() if name.startswith("head")}
    keep_beside(site.parent / "workspace", released, own)
    globally, _ = outcome(study, bundle, tmp_path / "global")
    page = predict_study(study, bundle, tmp_path / "personal", personal=site).read_text()
    found = json.loads((tmp_path / "personal" / "prediction.json").read_text())
    assert (globally["model"]["weights"], globally["model"]["site"]) == ("global", None)
    assert (found["model"]["weights"], found["model"]["site"]) == ("personal", "alpha")
    assert found["model"]["bundle"] == globally["model"]["bundle"]
    theirs, ours = (one["series"][0]["probabilities"] for one in (globally, found))
    odds = np.array(list(theirs.values())) ** -1  # logits turned round
    np.testing.assert_allclose(list(ours.values()), odds / odds.sum(), rtol=1e-4)
    assert "This is the personal model of alpha" in page and "the personal model of alpha, kept at that site" in page
    assert found["cautions"][0].startswith("This is the personal model of alpha")
