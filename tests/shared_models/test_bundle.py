"""A released model: whole and unchanged, or refused by the name of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared_models.bundle import FILES, NOTICE, load_bundle, write_bundle
from shared_models.core.choices import Choice
from shared_models.core.errors import BadBundle
from shared_models.core.files import read_json, write_json
from shared_models.core.state import digest
from shared_models.experiment import Data, Experiment

EXPERIMENT = Experiment(
    name="tiny", data=Data(classes=("normal", "UIP")), model=Choice(name="logistic"), simulation={"kind": "phantoms", "held_out": ["secret"]}
)
STATE = {"w": np.arange(5.0), "n": np.array([3])}
CARD = {"training": {"patients": 7}, "performance": {"auroc": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 40}}, "limits": ["none known"]}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "b", state=STATE, experiment=EXPERIMENT, card=CARD)
    return tmp_path / "b"


def test_a_bundle_comes_back(bundle: Path) -> None:
    read = load_bundle(bundle)
    assert digest(read.state) == digest(STATE)
    assert read.experiment.digest == EXPERIMENT.digest
    assert read.experiment.simulation is None
    assert read.card["training"] == {"patients": 7}
    assert read.card["notice"] == NOTICE
    assert NOTICE in (bundle / "CARD.md").read_text()
    assert "0.900 (95 % interval 0.800 to 0.950), n = 40" in (bundle / "CARD.md").read_text()
    assert read_json(bundle / "labels.json") == {"0": "normal", "1": "UIP"}
    assert sorted(path.name for path in bundle.iterdir()) == sorted((*FILES, "manifest.json"))


def test_equal_releases_have_equal_digests(tmp_path: Path) -> None:
    digests = [write_bundle(tmp_path / name, state=STATE, experiment=EXPERIMENT, card=CARD) for name in ("a", "b")]
    other = write_bundle(tmp_path / "c", state={**STATE, "n": np.array([4])}, experiment=EXPERIMENT, card=CARD)
    assert digests[0] == digests[1] != other


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_named_by_its_file(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    for place in {0, len(data) // 2, len(data) - 1}:
        (bundle / name).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(BadBundle) as refused:
            load_bundle(bundle)
        assert refused.value.value == [name]


def test_no_flipped_bit_of_the_manifest_passes(bundle: Path) -> None:
    path = bundle / "manifest.json"
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(BadBundle, match=r"manifest\.json|format"):
            load_bundle(bundle)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BadBundle) as refused:
        load_bundle(bundle)
    assert refused.value.value == name


@pytest.mark.parametrize(
    "manifest", [[], {}, {"format": 1}, {"format": 1, "sha256": [], "bundle": ""}, {"format": 1, "sha256": {}, "bundle": ""}, None]
)
def test_manifests_that_are_none(bundle: Path, manifest: object) -> None:
    write_json(bundle / "manifest.json", manifest)
    with pytest.raises(BadBundle):
        load_bundle(bundle)


def test_an_unknown_format_is_refused(bundle: Path) -> None:
    write_json(bundle / "manifest.json", {**read_json(bundle / "manifest.json"), "format": 2})
    with pytest.raises(BadBundle, match="format 1"):
        load_bundle(bundle)
