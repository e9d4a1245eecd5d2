"""A release as a MONAI bundle: ``configs/metadata.json``, ``configs/inference.json``, the weights as safetensors, and what it is in words.

MONAI Bundle Specification, https://docs.monai.io/en/latest/mb_specification.html. It asks for a pickled ``model.pt``; nothing here is ever pickled,
so ``models/model.safetensors`` stands in its place and ``inference.json`` loads that. Whoever reads the bundle needs MONAI and this package.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from client.export.release import AXES, Released, Said, Written, compare, described, random_records, record_shape, refuse_speechless, released
from shared_models.bundle import NOTICE, Bundle, card_text
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic, write_json
from shared_models.experiment import Experiment
from shared_models.phases import columns_of

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
WEIGHTS = "models/model.safetensors"


def write_monai(bundle: Bundle, folder: Path) -> Written:
    """Write a release as the folder of a MONAI bundle; it appears only when it was read back and says what the release says.

    Parameters
    ----------
    bundle : Bundle
        A release with networks.
    folder : Path
        New.

    Raises
    ------
    BadInput
        No network, the folder exists, or what was read back says something else.
    """
    refuse_speechless(bundle.experiment)
    if folder.exists():
        raise BadInput("a MONAI bundle is written into a new folder", value=folder.name, remedy="choose another name")
    network = released(bundle)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        part.chmod(0o755)
        _write(bundle, network, part)
        records = random_records(bundle.experiment, 2)
        with torch.inference_mode():
            error = compare(network(records), read_monai(part)(records))
        part.rename(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(part)
        raise
    return Written(folder, error, tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())))


def read_monai(folder: Path) -> nn.Module:
    """Return the network of a bundle of ours as MONAI itself builds it from ``inference.json``, in evaluation mode.

    MONAI runs what stands in the configuration of a bundle: never read one of strangers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what MONAI itself imports
        from monai.bundle.config_parser import ConfigParser

        parser = ConfigParser()
        parser.read_config(str(folder / "configs" / "inference.json"))
        parser["bundle_root"] = str(folder)
        return parser.get_parsed_content("network")


def network_def(model: str, inputs: int, outputs: int, said: dict[str, Any], weights: list[float]) -> Released:
    """Build the network of an exported release without its weights: what ``network_def`` of ``inference.json`` names.

    Parameters
    ----------
    model : str
        JSON of name and knobs, as in ``[model]``: as text, in which MONAI looks for no expressions.
    inputs, outputs : int
        Channels or columns, and outputs.
    said : dict
        What the outputs mean: ``target``, ``intervals`` and ``horizons`` as in ``[data]``.
    weights : list of float
        Of the members of an ensemble; one for a single network.
    """
    networks = [build(Choice.model_validate_json(model), inputs=inputs, outputs=outputs) for _ in weights]
    return Released(networks, weights, Said(**said)).eval()


def load_weights(network: nn.Module, path: str) -> nn.Module:
    """Load a safetensors file into a network, every array of both matched, and return it in evaluation mode."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(path), strict=True)
    return network.eval()


def metadata(bundle: Bundle) -> dict[str, Any]:
    """Return ``metadata.json``: the keys that the specification demands, and under ``fedild`` everything that we say of a release."""
    experiment = bundle.experiment
    packages = {"fedild": version("fedild"), "safetensors": version("safetensors")}
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"release {bundle.digest}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch"),
        "numpy_version": version("numpy"),
        "required_packages_version": packages,
        "optional_packages_version": packages,
        "name": experiment.name,
        "task": f"Research use only: {experiment.data.target} of interstitial lung disease on chest CT",
        "description": f"{experiment.model.name}, trained federated. {NOTICE}",
        "authors": "the federation that trained it; see the model card",
        "copyright": "of the federation that trained it",
        "intended_use": NOTICE,
        "data_type": str(bundle.card.get("trained_on") or "not recorded"),
        "references": [spec_of(experiment.model).source],
        "network_data_format": {"inputs": {"image": _read_format(experiment)}, "outputs": {"pred": _said_format(experiment)}},
        "fedild": described(bundle),
    }


def refuse_expressions(value: Any) -> None:
    """Refuse a word of a release that MONAI would take for an expression, a reference or a file, and run or read.

    Raises
    ------
    BadInput
        A class, a column or another word begins with ``$``, ``@`` or ``%``.

    Examples
    --------
    >>> refuse_expressions({"classes": ["UIP", "HP"], "costs": "5 $"})
    >>> refuse_expressions({"classes": ["$print(1)"]})
    Traceback (most recent call last):
    shared_models.core.errors.BadInput: a word in a MONAI bundle does not begin with $, @ or %; found '$print(1)'; rename it in the experiment
    """
    if isinstance(value, str) and value.lstrip().startswith(("$", "@", "%")):
        raise BadInput("a word in a MONAI bundle does not begin with $, @ or %", value=value, remedy="rename it in the experiment")
    for part in (*value.keys(), *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        refuse_expressions(part)


def _read_format(experiment: Experiment) -> dict[str, Any]:
    spec, shape = spec_of(experiment.model), record_shape(experiment)
    table = spec.takes == "table"
    names = list(columns_of(experiment)) if table else [f"{AXES[spec.takes][0]} {number}" for number in range(shape[0])]
    return {
        "type": "tuples" if table else "image",
        "format": "hounsfield" if spec.units == "hu" and not table else "magnitude",
        "modality": "n/a" if table else "CT",
        "num_channels": shape[0],
        "spatial_shape": list(shape[1:]),
        "dtype": "float32",
        "value_range": [] if table else list(experiment.inputs.window_hu) if spec.units == "hu" else [0, 1],
        "is_patch_data": spec.takes == "patch",
        "channel_def": {str(number): name for number, name in enumerate(names)},
    }


def _said_format(experiment: Experiment) -> dict[str, Any]:
    data = experiment.data
    names = [f"risk of the event by {horizon:g}" for horizon in data.horizons] if data.target == "survival" else list(data.classes)
    pixels = data.target == "segmentation"
    return {
        "type": "image" if pixels else "probabilities",
        "format": "labels" if pixels else "classes",
        "modality": "n/a",
        "num_channels": len(names),
        "spatial_shape": list(record_shape(experiment)) if pixels else [],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {str(number): name for number, name in enumerate(names)},
    }


def _write(bundle: Bundle, network: Released, folder: Path) -> None:
    from safetensors.torch import save

    experiment = bundle.experiment
    arrays = {name: value.detach().clone().contiguous() for name, value in network.state_dict().items()}
    write_atomic(folder / WEIGHTS, save(arrays, {"format": "pt", "bundle": bundle.digest}))
    told = metadata(bundle)
    refuse_expressions(told)
    write_json(folder / "configs" / "metadata.json", told)
    write_json(folder / "configs" / "inference.json", _inference(experiment, network.weights))
    words = f"# {experiment.name}\n\n**{NOTICE}**\n\nWeights: `{WEIGHTS}` (safetensors; nothing in this bundle is pickled).\n\n"
    write_atomic(folder / "docs" / "README.md", (words + card_text(bundle.card)).encode())


def _inference(experiment: Experiment, weights: list[float]) -> dict[str, Any]:
    data = experiment.data
    return {
        "bundle_root": ".",
        "network_def": {
            "_target_": "client.export.monai_bundle.network_def",
            "model": experiment.model.model_dump_json(),
            "inputs": inputs_of(experiment),
            "outputs": data.outputs,
            "said": {"target": data.target, "intervals": list(data.intervals), "horizons": list(data.horizons)},
            "weights": weights,
        },
        "network": {
            "_target_": "client.export.monai_bundle.load_weights",
            "network": "@network_def",
            "path": f"$@bundle_root + '/{WEIGHTS}'",
        },
    }
