"""``[model.weights]``: start from published weights. Named by their hash, loaded whole or refused; nothing is ever left out in silence.

[model.weights]
path = "resnet50.safetensors"            in the folder that FEDILD_WEIGHTS names, or absolute; only who starts the run reads it
sha256 = "..."
licence = "BSD-3-Clause"                 goes into the model card
normalisation = { mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }
rename = { "" = "encoder.maps." }        the file's names to the network's, by their beginnings
skip = ["fc."]                           of the file: not wanted
fresh = ["encoder.neck.", "position.", "attention.", "head."]   of the network: drawn as ever
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from shared_models.core.choices import Choice, Section, faults_of
from shared_models.core.errors import BadChoice

Beginning = Annotated[str, Field(max_length=200)]


class Normalisation(Section):
    """How the values of a channel entered when the weights were trained: ``(x - mean) / std`` of x in 0..1."""

    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=3)]

    @model_validator(mode="after")
    def _lengths_agree(self) -> Normalisation:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std have one number a channel")
        return self


class WeightsFile(Section):
    """A file of weights: where it is, which one it is, under which licence, and how its names become those of a network."""

    path: Annotated[str, Field(min_length=1, max_length=500)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: Annotated[str, Field(min_length=1, max_length=200)]
    rename: dict[Beginning, Beginning] = Field(default_factory=dict)
    skip: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    fresh: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class Weights(WeightsFile):
    """A file of weights and what must be known of it.

    `normalisation` is a property of the file: ``"network"`` for weights that this project trained, which scale their inputs as ever. With
    equal numbers for all three colours the first convolution's colours are summed, which a grey slice cannot tell from the whole; with
    different ones the slice is repeated and each copy normalised on its own.
    """

    normalisation: Literal["network"] | Normalisation

    def channels(self, inputs: int) -> int:
        """Return what the first convolution reads of an image of `inputs` channels."""
        if self.normalisation == "network" or inputs != 1:
            return inputs
        return 1 if len(set(zip(self.normalisation.mean, self.normalisation.std, strict=True))) == 1 else len(self.normalisation.mean)


def parted(choice: Choice) -> tuple[Choice, Weights | None]:
    """Return a model's choice without its weights, and the weights.

    Raises
    ------
    BadChoice
        ``[model.weights]`` with faults.

    Examples
    --------
    >>> parted(Choice(name="vgg16", width=8))
    (Choice(name='vgg16', width=8), None)
    """
    if "weights" not in choice.knobs:
        return choice, None
    knobs = choice.knobs
    try:
        weights = Weights.model_validate(knobs.pop("weights"))
    except ValidationError as error:
        raise BadChoice("; ".join(faults_of(error, "model.weights"))) from None
    return Choice.model_validate({"name": choice.name, **knobs}), weights
