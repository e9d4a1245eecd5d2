"""Frozen encoders: exactly MONAI's SegResNet, the file that was named or none, and the study as the encoder was shown studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.features import FEATURES, feature_names
from client.features.encoders import Grid, on_grid, width_of
from client.prepare import check_preparation
from shared_models.blocks.segresnet import deepest_map, segres_encoder
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadChoice, BadInput
from shared_models.core.files import write_state
from shared_models.experiment import Inputs, Preparation
from shared_models.networks import NETWORKS
from shared_models.pretrained import FOLDER
from tests.client.features.chests import chest
from tests.shared_models.tiny import TINY

GRID = {"spacing_mm": [8.0, 5.0, 5.0], "axes": "SPL", "window_hu": [-1024.0, 2048.0]}
ENCODER = {"name": "segresnet", "width": 4, "blocks": [1, 1]}
RANDOM: dict[str, Any] = {"name": "embedding", "encoder": ENCODER, "weights": "random", "normalisation": GRID}


def row(settings: dict[str, Any], prepared: Prepared) -> np.ndarray:
    return np.array(list(pick(FEATURES, Choice.model_validate(settings), kind="feature family")(prepared).values()))


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings of a file as CT-FM's whole network is published: the encoder's names begin with ``encoder.``, and a decoder follows."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    torch.manual_seed(5)
    state = {f"encoder.{key}": value.numpy() for key, value in segres_encoder(4, (1, 1)).state_dict().items()}
    digest = write_state(tmp_path / "fm.safetensors", state | {"up_layers.0.head.bias": np.zeros(2, np.float32)})
    weights = {"path": "fm.safetensors", "sha256": digest, "licence": "Apache-2.0", "normalisation": GRID}
    weights |= {"rename": {"encoder.": ""}, "skip": ["up_layers."]}
    return {"name": "embedding", "encoder": ENCODER, "weights": weights}


@pytest.mark.parametrize(("planes", "blocks"), [(21, (1, 1, 1)), (16, (2, 1)), (3, (1, 2, 1))])
def test_slab_by_slab_is_the_whole_encoder(planes: int, blocks: tuple[int, ...]) -> None:
    torch.manual_seed(planes)
    encoder = segres_encoder(4, blocks).eval()
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
            torch.nn.init.normal_(layer.bias)
    volume = torch.rand(1, 1, planes, 12, 10)
    with torch.inference_mode():
        whole = encoder(volume)[-1]
        for slab in (1, 3, 100):
            torch.testing.assert_close(deepest_map(encoder, volume, slab=slab), whole, atol=1e-6, rtol=1e-5)


def test_of_a_file_it_is_what_monai_gives(published: dict[str, Any]) -> None:
    torch.manual_seed(5)
    encoder = segres_encoder(4, (1, 1)).eval()
    volume, mask = on_grid(chest(1), Grid.model_validate(GRID))
    with torch.inference_mode():
        maps = encoder(torch.from_numpy(volume)[None, None])[-1]
    np.testing.assert_allclose(row(published | {"pooling": "mean"}, chest(1)), maps.mean((2, 3, 4))[0], rtol=1e-5, atol=1e-7)
    assert mask.any() and volume.min() >= 0 and volume.max() <= 1
    assert not np.allclose(row(published, chest(1)), maps.mean((2, 3, 4))[0], rtol=1e-3)


def test_random_weights_are_of_their_seed_and_not_of_the_file(published: dict[str, Any]) -> None:
    first = row(RANDOM, chest(1))
    np.testing.assert_array_equal(first, row(RANDOM | {"seed": 0}, chest(1)))
    assert not np.allclose(first, row(RANDOM | {"seed": 1}, chest(1)))
    assert not np.allclose(first, row(published, chest(1)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256": "0" * 64}, "must have the hash"),
        ({"path": "missing.safetensors"}, "must be readable"),
        ({"skip": []}, "have no place in the network"),
        ({"licence": ""}, "licence"),
    ],
)
def test_another_file_is_refused_before_the_first_study(published: dict[str, Any], change: dict[str, Any], words: str) -> None:
    check_preparation(Preparation(features=(Choice.model_validate(published),)))
    wrong = published | {"weights": published["weights"] | change}
    with pytest.raises(BadInput, match=words) as refused:
        check_preparation(Preparation(features=(Choice.model_validate(wrong),)))
    assert refused.value.code == ("E_CHOICE" if "licence" in change else "E_WEIGHTS")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "embedding", "encoder": ENCODER}, "weights: is required"),
        (RANDOM | {"encoder": ENCODER | {"width": 8}, "normalisation": None}, "needs a normalisation"),
        (RANDOM | {"encoder": {"name": "mil_cnn"}}, r"the keys of \[inputs\]"),
        (RANDOM | {"encoder": {"name": "linear"}, "normalisation": {}}, "reads slices or a volume"),
        (RANDOM | {"encoder": {"name": "segresent"}, "normalisation": {}}, "did you mean 'segresnet'"),
        (RANDOM | {"normalisation": GRID | {"axes": "SPS"}}, "each direction once"),
        (RANDOM | {"normalisation": GRID | {"window_hu": [0, -1]}}, "low to high"),
    ],
)
def test_what_is_not_an_encoder_is_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(BadChoice, match=words):
        check_preparation(Preparation(features=(Choice.model_validate(settings),)))


def test_a_shape_that_does_not_fit_is_refused(published: dict[str, Any]) -> None:
    wrong = published | {"encoder": ENCODER | {"width": 8}}
    with pytest.raises(BadInput, match="must have shape") as refused:
        check_preparation(Preparation(features=(Choice.model_validate(wrong),)))
    assert refused.value.code == "E_WEIGHTS"


@pytest.mark.parametrize("name", [n for n, spec in NETWORKS.items() if spec.takes in ("slices", "volume") and spec.representation and n != "vit"][:2])
def test_a_network_of_the_catalogue_is_an_encoder(name: str) -> None:
    encoder = {"name": name, **TINY[name]}
    seen = Inputs(slices=2, size=max(24, NETWORKS[name].least_px), shape_zyx=(16, 16, 16)).model_dump()
    settings = RANDOM | {"encoder": encoder, "normalisation": seen}
    found = row(settings, chest(1))
    assert len(found) == width_of(Choice.model_validate(encoder).model_dump_json()) == len(feature_names([Choice.model_validate(settings)]))
    assert np.isfinite(found).all() and not np.allclose(found, row(settings, chest(2)))


@pytest.mark.parametrize(("axes", "corner"), [("SPL", (0, 0, 0)), ("RAS", (-1, -1, 0)), ("LPS", (0, 0, 0)), ("IAR", (-1, -1, -1))])
def test_axes_point_where_their_letters_say(axes: str, corner: tuple[int, int, int]) -> None:
    hu = np.full((4, 5, 6), -1000.0, np.float32)
    hu[0, 0, 0] = 0.0  # our first voxel lies farthest to the feet, the front and the right
    study = Prepared(Volume(hu, (1.0, 1.0, 1.0)), np.ones(hu.shape, np.uint8))
    volume, mask = on_grid(study, Grid(spacing_mm=(1.0, 1.0, 1.0), axes=axes, window_hu=(-1000.0, 0.0)))
    assert volume[corner] == 1.0 and volume.sum() == 1.0 and mask.all()
    assert sorted(volume.shape) == [4, 5, 6]


def test_all_columns_in_short() -> None:
    names = feature_names([Choice(name="embedding")])
    assert Inputs.model_validate({"columns": ["age", "embedding_{000..511}"]}).columns == ("age", *names)
