"""The schema of a prediction: shipped as generated, kept by every prediction, and broken by what it must not let through."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from client.delivered import write_outputs
from client.predict import make_ready, predict_with
from client.prediction_pdf import pdf_of, require_pdf
from client.prediction_schema import SCHEMA_FILE, check_prediction, schema, schema_text
from shared_models.bundle import load_bundle
from shared_models.core.errors import BadInput, FedILDError
from tests.client.dicom_factory import write
from tests.client.test_predict import bundle_of, calibrated_bundle, plan


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A prediction with everything that a release can say of one visit, and its folder."""
    folder = tmp_path_factory.mktemp("schema")
    write(folder / "study", plan())
    calibrated_bundle(folder / "b", far=0.0, threshold=1.0)
    found = predict_with(make_ready(load_bundle(folder / "b")), folder / "study")
    (folder / "out").mkdir()
    write_outputs(found, folder / "out", pdf=True, pictures=True)
    return folder, json.loads((folder / "out" / "prediction.json").read_text())


def test_the_shipped_schema_is_the_generated_one_and_valid() -> None:
    assert SCHEMA_FILE.read_text() == schema_text(), "run `python -m client.prediction_schema`"
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$schema"].endswith("2020-12/schema")


def test_a_prediction_keeps_it_by_an_independent_reader(told: tuple[Path, dict[str, Any]]) -> None:
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(told[1])
    check_prediction(told[1])


BREAKS = {
    "a key that nobody knows": lambda told: told | {"patient": "Doe"},
    "no key": lambda told: {name: value for name, value in told.items() if name != "notice"},
    "a probability above 1": lambda told: told["series"][0]["probabilities"].update(UIP=1.2),
    "a word for a number": lambda told: told["series"][0]["slices"][0].update(number="7"),
    "no series": lambda told: told["series"].clear(),
    "another format": lambda told: told | {"format": 1},
    "a name for a pseudonym": lambda told: told.update(headline="Doe^Jane"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_it_is_refused_by_both(told: tuple[Path, dict[str, Any]], name: str) -> None:
    broken = copy.deepcopy(told[1])
    broken = BREAKS[name](broken) or broken
    with pytest.raises(FedILDError, match="keeps its schema") as caught:
        check_prediction(broken)
    assert caught.value.code == "E_SCHEMA" and "Doe" not in str(caught.value)
    assert not jsonschema.Draft202012Validator(schema()).is_valid(broken)


def test_a_number_that_is_none_is_refused(told: tuple[Path, dict[str, Any]]) -> None:
    broken = copy.deepcopy(told[1])
    broken["series"][0]["slices"][0]["height_percent"] = float("nan")
    with pytest.raises(FedILDError, match="height_percent"):
        check_prediction(broken)


def test_the_paper_is_written_and_the_pictures_are_those_of_the_page(told: tuple[Path, dict[str, Any]]) -> None:
    out = told[0] / "out"
    pdf = (out / "prediction.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and len(pdf) > 50_000
    pictures = sorted(path.name for path in (out / "pictures").iterdir())
    series = told[1]["series"][0]
    numbers = [name.split("-")[2].removesuffix(".png") for name in pictures if "-slice-" in name]
    assert len(numbers) == 4 and {int(number) for number in numbers} <= {one["number"] for one in series["slices"]}
    assert sum("-explanation-" in name for name in pictures) == 4 and all(name.startswith(series["series"][:8]) for name in pictures)


def test_the_paper_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for source in ("file:///etc/hostname", "https://example.invalid/x.png", "//example.invalid/x.css"):
        with pytest.raises(BadInput, match="holds everything that it shows"):
            pdf_of(f'<!DOCTYPE html><base href="https://example.invalid/"><img src="{source}">')
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(BadInput, match="extra `pdf`"):
        require_pdf()


def test_a_release_without_patients_keeps_it_too(told: tuple[Path, dict[str, Any]]) -> None:
    bare = bundle_of(told[0] / "bare", trained_on=None, performance_on_the_held_out_hospital={})
    found = predict_with(make_ready(load_bundle(bare)), told[0] / "study")
    jsonschema.Draft202012Validator(schema()).validate(json.loads(json.dumps(found.as_dict())))
