"""Whether a network takes records of the size that an experiment gives it: one pass without numbers, before any site is asked."""

from __future__ import annotations

import functools

from shared_models.blocks.spec import NETWORK_FITS
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.core.choices import Choice
from shared_models.core.errors import FedILDError
from shared_models.experiment import Experiment
from shared_models.lora import without_lora
from shared_models.weights import parted

NEEDS_NUMBERS = ("meta tensor", "does not require grad")
"""In what PyTorch says of a network that looks at the numbers themselves: such a one is not asked."""


def size_fault(experiment: Experiment) -> str | None:
    """Return why a network of images cannot take the experiment's records, or None.

    Shapes alone pass through it, so that a network of any size is asked within a second or two and with no memory. Models of tables and patches, and
    networks whose path depends on the numbers they see, are not asked.

    Examples
    --------
    >>> from sim.experiments import find
    >>> str(size_fault(find("ssc_mortality_densenet", ["inputs.shape_zyx=[16,24,24]"]))).split(" (")[1]
    "16, 24, 24) does not pass through 'densenet121'"
    """
    spec, inputs = spec_of(experiment.model), experiment.inputs
    if spec.fit not in NETWORK_FITS or spec.takes not in ("slices", "volume") or experiment.data.kind != "studies":
        return None
    name, shape = (
        ("inputs.size", (inputs.slices, inputs.size, inputs.size)) if spec.takes == "slices" else ("inputs.shape_zyx", (1, *inputs.shape_zyx))
    )
    plain = parted(without_lora(experiment.model))[0]
    try:
        said = _refusal(plain.model_dump_json(), inputs_of(experiment), experiment.data.outputs, shape)
    except FedILDError:  # a knob is wrong, and named already
        return None
    at = inputs.size if spec.takes == "slices" else inputs.shape_zyx
    return None if said is None else f"{name}: {at} does not pass through {experiment.model.name!r} ({said}); make it larger"


@functools.lru_cache(maxsize=64)
def _refusal(model: str, inputs: int, outputs: int, shape: tuple[int, ...]) -> str | None:
    import torch

    try:
        with torch.device("meta"):
            build(Choice.model_validate_json(model), inputs=inputs, outputs=outputs).eval()(torch.zeros(2, *shape))
    except (RuntimeError, ValueError) as error:
        said = str(error).split("\n")[0]
        return None if any(words in said for words in NEEDS_NUMBERS) else said[:120]
    return None
