"""A release as an ONNX file: any number of records at once, its description in the file's metadata, compared with ours before it is kept."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch

from client.export.release import Written, compare, described, random_records, released
from shared_models.bundle import Bundle
from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic

OPSET = 17
INPUT, OUTPUT = "records", "said"


def write_onnx(bundle: Bundle, path: Path) -> Written:
    """Write a release as ONNX; input ``records`` (n, ...), output ``said`` (n, classes or horizons, ...) before calibrations.

    Parameters
    ----------
    bundle : Bundle
        A release with networks.
    path : Path
        Target. It appears only when onnxruntime has said of one and of three random records what the release says of them.

    Raises
    ------
    BadInput
        No network, an operator that ONNX does not have, another result, or the extra ``onnx`` is not installed.

    Source: Open Neural Network Exchange, operator set 17.
    """
    onnx, runtime = _libraries()
    network, experiment = released(bundle), bundle.experiment
    buffer = io.BytesIO()
    axes = {INPUT: {0: "n"}, OUTPUT: {0: "n"}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # a shape that is read while tracing: the comparison below would show it
        try:
            torch.onnx.export(
                network,
                (random_records(experiment, 2),),
                buffer,  # pyright: ignore[reportArgumentType]  (this exporter writes to it)
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        except Exception as error:  # whatever the exporter meets in a network ends here, with its name
            found = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise BadInput(
                f"the network {experiment.model.name!r} must be made of what ONNX has", value=found, remedy="export it with --monai"
            ) from None
    model = onnx.load_model_from_string(buffer.getvalue())
    onnx.checker.check_model(model)
    onnx.helper.set_model_props(
        model, {name: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for name, value in described(bundle).items()}
    )
    model.doc_string = described(bundle)["notice"]
    data = model.SerializeToString(deterministic=True)
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    error = 0.0
    for count in (1, 3):
        records = random_records(experiment, count, seed=count)
        with torch.inference_mode():
            ours = network(records)
        try:
            theirs = session.run([OUTPUT], {INPUT: records.numpy()})[0]
        except Exception as failure:
            rule = f"the network {experiment.model.name!r} must take any number of records in ONNX"
            raise BadInput(rule, value=str(failure).splitlines()[0][:200], remedy="export it with --monai") from None
        error = max(error, compare(ours, torch.from_numpy(theirs)))
    write_atomic(path, data)
    return Written(path, error, (path.name,))


def _libraries() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise BadInput("ONNX needs the extra `onnx`", remedy="pip install 'fedild[onnx]'") from None
    return onnx, onnxruntime
