"""Every network in every form of export: what is read back says what the release says of any number of records; the rest is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from client.export import EXPORTS
from client.export.monai_bundle import SCHEMA, read_monai
from client.export.release import described, random_records
from client.prognosis import prognosis_of
from client.training import PREDICTORS
from client.training.records import Records
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.bundle import Bundle, load_bundle, write_bundle
from shared_models.catalogue import MODELS, initial_state, inputs_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadInput
from shared_models.ensemble import Member, join
from shared_models.experiment import Data, Experiment, Inputs
from shared_models.phases import trained
from tests.shared_models.tiny import TINY, shape_of

NETS = sorted(name for name, spec in MODELS.items() if spec.fit in NETWORK_FITS and spec.task != "reconstruction")
QUICK = ("mil_cnn", "resnet18", "patch_cnn", "multimodal", "unet")
CANNOT: dict[str, str] = {}
"""Networks that ONNX cannot hold, and a word of the reason."""


def asked(name: str) -> Experiment:
    """An experiment of a tiny model whose record has the shape of `tiny`."""
    spec, shape = MODELS[name], shape_of(name)
    kind = {"target": spec.task} if spec.task != "diagnosis" else {"classes": ["a", "b", "c"]}
    if spec.task == "segmentation":
        kind |= {"annotation": "patterns", "classes": ["normal", "ggo", "reticulation"]}
    inputs: dict[str, Any] = {"slices": shape[0], "size": shape[-1]} if spec.takes == "slices" else {}
    if spec.takes == "volume":
        inputs = {"shape_zyx": shape[1:]}
    if spec.takes == "patch":
        kind, inputs = kind | {"kind": "patches"}, {"size": shape[-1]}
    if spec.takes == "table":
        inputs = {"columns": [f"c{number}" for number in range(1, shape[0] + 1)]}
    model = Choice.model_validate({"name": name, **TINY[name]})
    return Experiment(name="tiny", data=Data.model_validate(kind), inputs=Inputs.model_validate(inputs), model=model)


def release(folder: Path, experiment: Experiment, *, seeds: tuple[int, ...] = (3,)) -> Bundle:
    states = [initial_state(experiment.model, inputs=inputs_of(experiment), outputs=experiment.data.outputs, seed=seed) for seed in seeds]
    state = states[0] if len(states) == 1 else join([Member(number + 1, state) for number, state in enumerate(states)])
    write_bundle(folder, state=state, experiment=experiment, card={"trained_on": "phantoms"})
    return load_bundle(folder)


def names_of(path: Path) -> tuple[list[str], list[str], dict[str, str]]:
    model = onnx.load(path)
    return [one.name for one in model.graph.input], [one.name for one in model.graph.output], {p.key: p.value for p in model.metadata_props}


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.zoo) for name in NETS])
def test_every_network_says_the_same_in_onnx_and_monai(name: str, tmp_path: Path) -> None:
    bundle = release(tmp_path / "b", asked(name))
    assert EXPORTS["monai"](bundle, tmp_path / "m").error < 1e-6
    if name in CANNOT:
        with pytest.raises(BadInput, match=CANNOT[name]):
            EXPORTS["onnx"](bundle, tmp_path / "x.onnx")
        assert not (tmp_path / "x.onnx").exists()
        return
    assert EXPORTS["onnx"](bundle, tmp_path / "x.onnx").error < 1e-4
    read, said, told = names_of(tmp_path / "x.onnx")
    assert (read, said) == (["records"], ["said"]) and told["bundle"] == bundle.digest and told["notice"].startswith("Research use only")
    assert json.loads(told["classes"]) == list(bundle.experiment.data.classes)
    assert told["preparation_digest"] == bundle.experiment.preparation.digest


def says(path: Path, records: torch.Tensor) -> np.ndarray:
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"records": records.numpy()})[0]


def test_an_export_says_what_a_prediction_says(tmp_path: Path) -> None:
    experiment = asked("mil_cnn")
    bundle = release(tmp_path / "b", experiment, seeds=(1, 2))  # an ensemble: its members vote by weight
    EXPORTS["onnx"](bundle, tmp_path / "x.onnx")
    records = random_records(experiment, 4, seed=9)
    ours = PREDICTORS["gradient"](experiment, bundle.state, Records(records.numpy(), np.zeros(4, np.int64), ("",) * 4))
    np.testing.assert_allclose(says(tmp_path / "x.onnx", records), ours, atol=1e-5)
    each = experiment.model_copy(update={"data": Data.model_validate({"target": "findings", "classes": ["a", "b"]})})
    EXPORTS["onnx"](release(tmp_path / "f", each), tmp_path / "f.onnx")
    ours = PREDICTORS["gradient"](each, load_bundle(tmp_path / "f").state, Records(records.numpy(), np.zeros(4, np.int64), ("",) * 4))
    np.testing.assert_allclose(says(tmp_path / "f.onnx", records), ours, atol=1e-5)


def test_risks_leave_as_risks(tmp_path: Path) -> None:
    data = Data.model_validate({"target": "survival", "horizons": [1, 2.25, 5]})
    experiment = asked("mil_cnn").model_copy(update={"data": data})
    bundle = release(tmp_path / "b", experiment)
    EXPORTS["onnx"](bundle, tmp_path / "x.onnx")
    records = random_records(experiment, 3, seed=5)
    ours = prognosis_of(experiment, trained(bundle.state), Records(records.numpy(), np.zeros(3, np.int64), ("",) * 3))
    found = says(tmp_path / "x.onnx", records)
    np.testing.assert_allclose(found, ours, atol=1e-5)
    assert (np.diff(found, axis=1) > 0).all() and json.loads(names_of(tmp_path / "x.onnx")[2]["horizons"]) == [1, 2.25, 5]


REQUIRED = "version monai_version pytorch_version numpy_version optional_packages_version task description authors copyright network_data_format"
TENSOR = {"type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def"}


def test_a_monai_bundle_has_what_the_specification_asks_for_and_nothing_pickled(tmp_path: Path) -> None:
    experiment = asked("resnet18")
    bundle = release(tmp_path / "b", experiment)
    found = EXPORTS["monai"](bundle, tmp_path / "m")
    assert found.files == ("configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.safetensors")
    told = json.loads((tmp_path / "m" / "configs" / "metadata.json").read_text())
    assert not set(REQUIRED.split()) - set(told) and told["schema"] == SCHEMA and "Research use only" in told["intended_use"]
    (image,), (pred,) = (told["network_data_format"][side].values() for side in ("inputs", "outputs"))
    assert set(image) == set(pred) == TENSOR and image["spatial_shape"] == [32, 32, 32] and pred["channel_def"] == {"0": "a", "1": "b", "2": "c"}
    assert told["fedild"] == json.loads(json.dumps(described(bundle))) and str(tmp_path) not in json.dumps(told)
    with pytest.raises(BadInput, match="new folder"):
        EXPORTS["monai"](bundle, tmp_path / "m")
    weights = tmp_path / "m" / "models" / "model.safetensors"
    other = release(tmp_path / "c", asked("mil_cnn"))
    EXPORTS["monai"](other, tmp_path / "n")
    weights.write_bytes((tmp_path / "n" / "models" / "model.safetensors").read_bytes())
    with pytest.raises(RuntimeError):  # the weights of another network
        read_monai(tmp_path / "m")


def test_what_has_nothing_to_say_is_refused(tmp_path: Path) -> None:
    model = Choice.model_validate({"name": "masked_autoencoder", "encoder": {"name": "mil_cnn", **TINY["mil_cnn"]}, "cell_px": 4, "width": 4})
    data, inputs = Data.model_validate({"target": "reconstruction"}), Inputs(slices=2, size=32)
    bundle = release(tmp_path / "b", Experiment(name="tiny", data=data, inputs=inputs, model=model))
    for name, write in EXPORTS.items():
        with pytest.raises(BadInput, match="learnt without labels"):
            write(bundle, tmp_path / name)


def test_a_forest_is_refused_with_a_way_out(tmp_path: Path) -> None:
    bundle = release(tmp_path / "b", asked("forest"))
    for name, write in EXPORTS.items():
        with pytest.raises(BadInput, match=r"only a network can be exported; found 'forest'; read model\.safetensors"):
            write(bundle, tmp_path / name)
        assert not (tmp_path / name).exists()
