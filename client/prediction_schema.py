"""The schema of ``prediction.json``: pydantic models that every prediction is checked against, and from which the shipped file is written.

``python -m client.prediction_schema`` writes ``prediction.schema.json`` (JSON Schema, draft 2020-12) anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from client.prediction import FORMAT
from shared_models.core.errors import FedILDError
from shared_models.core.files import write_atomic

SCHEMA_FILE = Path(__file__).with_name("prediction.schema.json")
SCHEMA_ID = f"urn:fedild:prediction:{FORMAT}"
DRAFT = "https://json-schema.org/draft/2020-12/schema"

Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Hex = Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]
Numbers = dict[str, float | None]


class Part(BaseModel):
    """A piece of the file: no key that is not named here, no NaN, no number for a word."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, protected_namespaces=())


class Finding(Part):
    """A remark of the quality check."""

    code: str
    severity: str
    text: str


class Acquisition(Part):
    """How the series was taken."""

    manufacturer: str
    kernel_class: Literal["soft", "sharp", "unknown"]
    thickness_mm: float | None
    kvp: float | None
    position: str
    contrast: bool
    spacing_mm: Annotated[list[Positive], Field(min_length=3, max_length=3, description="Between slices, rows and columns.")]
    slices: Count


class Slice(Part):
    """A slice that the model looked at, or that stands for the study; number 1 is nearest the head."""

    number: Count
    of: Count
    height_percent: float
    attention: float | None


class Explanation(Part):
    """Why the model says so; from `alike` 0.5 on the map says nothing."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, populate_by_name=True)
    method: str
    label: Annotated[str, Field(alias="class")]
    alike: float | None
    columns: Numbers


class Coverage(Part):
    """Of prediction sets, over patients: what was asked for, and the bounds that the held-out patients allow."""

    wanted: Share
    least: Share
    most: Share
    patients: float


class OperatingPoint(Part):
    """A frozen threshold, and ``[patients on the right side, all]`` among those whom it was chosen on."""

    label: str
    probability: float
    threshold: float
    exceeded: bool
    specificity: Annotated[list[float], Field(min_length=2, max_length=2)]
    sensitivity: Annotated[list[float], Field(min_length=2, max_length=2)]


class Calibration(Part):
    """What the release's calibrations say: conformal set, distance from the training patients, temperature, operating point."""

    classes: list[str] | None
    coverage: Coverage | None
    distance: float | None
    threshold: float | None
    temperature: float | None
    operating_point: OperatingPoint | None
    unfamiliar: bool | None


class Uncertainty(Part):
    """Of risks: the interval by horizon, or why there is none; of an ensemble also the lowest and the highest risk of its members."""

    interval: dict[str, Annotated[list[Share], Field(min_length=2, max_length=2)]] | None
    why_none: str | None
    members: Count
    spread: dict[str, Annotated[list[Share], Field(min_length=2, max_length=2)]] | None


class Undecided(Part):
    """A rule that hangs on what is not known."""

    rule: str
    category: str
    not_known: list[str]


class Otherwise(Part):
    """What follows if no open rule holds."""

    category: str
    rule: str


class Category(Part):
    """What the rules of the 2022 guideline suggest from a pattern map; without one, what they need."""

    category: str | None
    needs: str | None
    rule: str | None = None
    means: str | None = None
    otherwise: Otherwise | None = None
    open: list[Undecided] | None = None
    measures: Numbers | None = None
    unbounded: list[str] | None = None
    extents: dict[str, Numbers] | None = None
    network: Hex | None = None


class Region(Part):
    """Volume of a region and, by part, percent and mL of it and the bin of the extent."""

    lung_ml: Annotated[float, Field(ge=0)]
    percent: dict[str, Percent | None]
    ml: dict[str, float]
    bin: dict[str, str | None]


class Quantities(Part):
    """Extents of a pattern map."""

    told: list[str]
    regions: dict[str, Region]


class Series(Part):
    """One series: what was measured in it and what the model made of it."""

    series: Hex
    visit: Annotated[int, Field(ge=1)]
    acquisition: Acquisition
    findings: list[Finding]
    quantification: Numbers
    columns: Numbers
    probabilities: dict[str, Share]
    slices: list[Slice]
    explanation: Explanation | None
    calibration: Calibration | None
    category: Category | None
    quantities: Quantities | None
    disagreement: float | None
    risks: dict[str, Share] | None
    risk_uncertainty: Uncertainty | None
    pattern_slices: list[Slice]


class Reference(Part):
    """What healthy lungs measure."""

    low: float
    high: float
    middle: float
    of: str
    rough: bool


class LeftOut(Part):
    """Files that were not used, by reason."""

    reason: str
    meaning: str
    remedy: str
    files: Count


class Changed(Part):
    """The change of one extent, in points of the lung."""

    before: float
    after: float
    change: float
    change_ml: float
    per_year: float | None
    limit: float | None
    beyond: bool | None


class Progression(Part):
    """Progressive pulmonary fibrosis by the criteria of 2022."""

    status: Literal["met", "not met", "insufficient data", "does not apply"]
    criteria: dict[str, bool | None]
    signs: list[str]
    why: str


class Change(Part):
    """Between the best series of the last two visits."""

    series: Annotated[list[Hex], Field(min_length=2, max_length=2)]
    years: float | None
    needs: str | None = None
    lung_ml: list[float] | None = None
    limits_known: bool | None = None
    parts: dict[str, Changed] | None = None
    progression: Progression | None = None


class Score(Part):
    """A clinical score; `risk` by year is what its authors reported for groups that they followed."""

    title: str
    value: float | str | None
    stage: str | None
    risk: dict[str, float]
    missing: list[str]
    source: str
    refused: str | None = None


class Release(Part):
    """The release that was applied."""

    software: str
    bundle: Hex
    weights: Literal["global", "personal"]
    site: str | None
    experiment: str
    experiment_digest: Hex
    preparation_digest: Hex
    model: str
    source: str
    classes: list[str]
    horizons: list[float]
    target: str
    trained_on: str | None
    training: dict[str, Any]
    intended_use: str | None
    headline_metric: str
    performance: dict[str, Any]
    limits: list[str]


class PredictionFile(Part):
    """What a released model says about one patient's CT. Research use only; not a medical device."""

    format: Literal[2]
    notice: str
    warning: str | None
    cautions: list[str]
    headline: Hex
    series: Annotated[list[Series], Field(min_length=1)]
    reference: dict[str, Reference]
    left_out: list[LeftOut]
    change: Change | None
    scores: dict[str, Score] | None
    model: Release


def schema() -> dict[str, Any]:
    """Return the JSON Schema of ``prediction.json``."""
    return {"$schema": DRAFT, "$id": SCHEMA_ID, **PredictionFile.model_json_schema()}


def schema_text() -> str:
    """Return the shipped file."""
    return json.dumps(schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def check_prediction(told: dict[str, Any]) -> None:
    """Check the content of a ``prediction.json`` as its reader will see it.

    Raises
    ------
    FedILDError
        E_SCHEMA: naming the first key that breaks the schema, without its value.
    """
    try:
        PredictionFile.model_validate_json(json.dumps(told))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise FedILDError("a prediction keeps its schema", value=f"{place}: {first['msg']}", remedy="report this", code="E_SCHEMA") from None


if __name__ == "__main__":
    write_atomic(SCHEMA_FILE, schema_text().encode())
