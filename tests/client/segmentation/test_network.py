"""A weights file as a segmenter: what it says is done, and another file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.segmentation.network import Normalisation, load_weights, network, normalised, save_weights
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadInput, BadState
from shared_models.core.files import write_state
from tests.client.segmentation.phantoms import dice, normalisation, slices, study, trained, weights_file


def test_the_file_gives_the_network_that_was_trained(tmp_path: Path) -> None:
    import torch

    path, digest = weights_file(tmp_path)
    loaded = load_weights(path, digest)
    assert loaded.normalisation == normalisation("unet")
    x, _ = slices("C", 4)
    with torch.inference_mode():
        np.testing.assert_array_equal(loaded.network(x[:2]).numpy(), trained("unet").network(x[:2]).numpy())


def test_a_body_never_seen_is_segmented(tmp_path: Path) -> None:
    path, digest = weights_file(tmp_path)
    volume, truth, _ = study(scanner="C", body=4)
    mask = network(volume, weights=path, sha256=digest)
    assert dice(mask > 0, truth > 0) >= 0.96 and dice(mask == 1, truth == 1) >= 0.955


def test_other_files_are_refused(tmp_path: Path) -> None:
    path, digest = weights_file(tmp_path)
    with pytest.raises(BadInput, match="must be a file"):
        load_weights(tmp_path / "missing.safetensors", digest)
    with pytest.raises(BadInput, match="SHA-256"):
        load_weights(path, "0" * 64)
    bare = write_state(tmp_path / "bare.safetensors", {"w": np.zeros(3, np.float32)})
    with pytest.raises(BadInput, match="normalised"):
        load_weights(tmp_path / "bare.safetensors", bare)
    wrong = save_weights(tmp_path / "wrong.safetensors", {"w": np.zeros(3, np.float32)}, normalisation("unet"))
    with pytest.raises(BadState, match="must fit"):
        load_weights(tmp_path / "wrong.safetensors", wrong)
    unknown = Normalisation(network=Choice(name="unett"), pixel_mm=4.0)
    other = save_weights(tmp_path / "other.safetensors", {"w": np.zeros(3, np.float32)}, unknown)
    with pytest.raises(BadChoice, match="did you mean 'unet'"):
        load_weights(tmp_path / "other.safetensors", other)
    text = tmp_path / "text.safetensors"
    text.write_text("not weights")
    from shared_models.core.files import sha256_file

    with pytest.raises(BadState):
        load_weights(text, sha256_file(text))


def test_slices_are_mapped_as_the_file_says() -> None:
    hu = np.array([[[-2000, -1024, -212, 600, 900, 600]]], np.float32)
    out = normalised(hu, (5.0, 4.0, 4.0), Normalisation(network=Choice(name="unet"), pixel_mm=4.0))
    np.testing.assert_allclose(out.ravel(), [0, 0, 0.5, 1, 1, 1], atol=1e-6)
    assert normalised(hu, (5.0, 4.0, 2.0), Normalisation(network=Choice(name="unet"), pixel_mm=4.0)).shape == (1, 1, 3)
