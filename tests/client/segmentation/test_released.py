"""A release that labels lungs becomes the segmenter of a preparation: the same network, grid and window; nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import typer.testing

from client.cases.prepared import Prepared
from client.segmentation.network import load_weights, lung_pixels
from client.segmentation.released import save_segmenter
from client.training.gradient import network_of
from client.training.records import slices_at
from shared_models.bundle import Bundle, load_bundle, write_bundle
from shared_models.catalogue import initial_state
from shared_models.core.errors import BadBundle
from shared_models.experiment import Experiment
from sim.cli import app
from tests.client.segmentation.phantoms import study


def released(folder: Path, name: str = "unet", **data: object) -> Bundle:
    settings = {
        "name": "lungs",
        "data": {"target": "segmentation", "annotation": "lung"} | data,
        "model": {"name": name, "widths": [4, 8]},
        "inputs": {"slices": 2, "size": 90, "pixel_mm": 4.4, "window_hu": [-1024.0, 600.0]},
    }
    experiment = Experiment.model_validate(settings)
    state = initial_state(experiment.model, inputs=1, outputs=len(experiment.data.classes), seed=3)
    write_bundle(folder / "bundle", state=state, experiment=experiment, card={})
    return load_bundle(folder / "bundle")


@pytest.mark.parametrize("name", ["unet", "unet_plus_plus", "hrnet"])
def test_the_segmenter_sees_what_the_release_saw(name: str, tmp_path: Path) -> None:
    bundle = released(tmp_path, name)
    volume, lung, _ = study()
    weights = load_weights(tmp_path / "w.safetensors", save_segmenter(bundle, tmp_path / "w.safetensors"))
    seen = slices_at(Prepared(volume, lung), bundle.experiment.inputs.model_copy(update={"size": 82}), np.array([20, 30]))
    with torch.inference_mode():
        wanted = network_of(bundle.experiment, bundle.state)(torch.from_numpy(seen)[None])[0].transpose(0, 1)
        torch.testing.assert_close(weights.network(torch.from_numpy(seen)[:, None]), wanted)
    assert lung_pixels(volume, weights).shape == volume.hu.shape


def test_the_command_prints_the_line_of_the_preparation(tmp_path: Path) -> None:
    bundle = released(tmp_path)
    done = typer.testing.CliRunner().invoke(app, ["segmenter", str(tmp_path / "bundle"), "--out", str(tmp_path / "w.safetensors")])
    assert done.exit_code == 0
    assert done.output.startswith('segmenter = { name = "network", weights = "')
    assert save_segmenter(bundle, tmp_path / "again.safetensors") in done.output


def test_a_release_of_patterns_is_no_segmenter(tmp_path: Path) -> None:
    bundle = released(tmp_path)
    patterns = Experiment.model_validate({"name": "p", "data": {"target": "segmentation"}, "model": {"name": "unet"}})
    with pytest.raises(BadBundle, match="whole slices"):
        save_segmenter(Bundle(bundle.state, patterns, {}, ""), tmp_path / "w.safetensors")
