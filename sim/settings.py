"""The experiment's ``[simulation]``: which hospitals to make. Only the simulation reads it; no site ever receives it."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from shared_models.core.choices import Section, faults_of
from shared_models.core.errors import BadExperiment, FedILDError
from shared_models.experiment import Experiment, Name
from sim.hospital.preset import HospitalPreset

_PRESET = TypeAdapter(HospitalPreset)


class Simulated(Section):
    """What all simulations have: how unequal the sites' times are on the simulated clock of strategies that do not wait (`fedbuff`)."""

    slowness: Annotated[float, Field(ge=0, le=1000)] = 1.0


class Phantoms(Simulated):
    """Phantom hospitals; those in `held_out` never train. `defaults` are knobs of every hospital that it does not set itself."""

    kind: Literal["phantoms"] = "phantoms"
    hospitals: Annotated[tuple[dict[str, Any], ...], Field(min_length=2)]
    held_out: Annotated[tuple[Name, ...], Field(min_length=1)]
    defaults: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _held_out_exist(self) -> Phantoms:
        names = [hospital.get("name") for hospital in self.hospitals]
        for number, name in enumerate(names):
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,31}", str(name)) or not isinstance(name, str):
                raise ValueError(f"hospitals.{number}.name must be a letter and up to 31 letters, digits, - or _; found {str(name)[:40]!r}")
        if missing := sorted(set(self.held_out) - set(names)):
            raise ValueError(f"held_out names no hospital: {missing}")
        if len(set(names)) != len(names):
            raise ValueError("hospitals must have different names")
        if len(names) - len(self.held_out) < 1:
            raise ValueError("at least one hospital must train")
        return self

    def presets(self) -> list[HospitalPreset]:
        """Return the hospitals, checked.

        Raises
        ------
        BadExperiment
            Every fault of every hospital.
        """
        known = {field.name for field in fields(HospitalPreset)}
        faults, presets = [], []
        for number, hospital in enumerate(self.hospitals):
            settings = {**self.defaults, **hospital}
            if unknown := sorted(set(settings) - known):
                faults += [f"hospitals.{number}.{key}: no such key; remove it or correct its spelling" for key in unknown]
                continue
            try:
                presets.append(_PRESET.validate_python(settings))
            except ValidationError as error:
                faults += faults_of(error, f"hospitals.{number}")
            except FedILDError as error:
                faults.append(f"hospitals.{number}: {error}")
        if faults:
            raise BadExperiment("simulation", faults=faults)
        return presets


class Courses(Phantoms):
    """Phantom hospitals of which no image is made: a table of their visits, the planted extents measured with an error.

    `error_percent` is the standard deviation of a measured extent, in points of the lung.
    """

    kind: Literal["courses"]  # type: ignore[assignment]
    error_percent: Annotated[float, Field(ge=0, le=20)] = 1.0


class Patches(Simulated):
    """A file of labelled patches spread over uneven sites: label shares of each site are drawn from a Dirichlet distribution."""

    kind: Literal["patches"]
    source: str
    sites: Annotated[int, Field(ge=2, le=100)] = 5
    alpha: Annotated[float, Field(gt=0, le=1000)] = 0.5
    citation: str = ""


class Tables(Simulated):
    """One table a hospital, from files of real data without a header: `header` names their columns, `labels` maps what stands there to classes.

    A share `test` of each hospital's complete rows is put aside, stratified by class, by scikit-learn's ``train_test_split`` with
    `split_seed`: the split of published benchmarks. `complete` names the columns that a row must have to count at all.
    """

    kind: Literal["tables"]
    files: Annotated[dict[Name, str], Field(min_length=2)]
    header: Annotated[tuple[str, ...], Field(min_length=2)]
    labels: dict[str, str]
    complete: tuple[str, ...] = ()
    test: Annotated[float, Field(gt=0, lt=1)] = 0.34
    split_seed: Annotated[int, Field(ge=0)] = 43
    citation: str = ""

    @property
    def sites(self) -> int:
        """Hospitals."""
        return len(self.files)


class OneTable(Section):
    """One file of real data with a header, in which the column `site` says where each patient was; rows that do not say it are left out.

    `sites` is how many there are: another number is a fault of the file. `min_cases_in_sum` goes into the policy of every site: small ones
    take part through the secure sum.
    """

    kind: Literal["one_table"]
    file: str
    site: str
    sites: Annotated[int, Field(ge=2, le=10_000)]
    min_cases_in_sum: Annotated[int, Field(ge=1)] | None = None
    citation: str = ""


def simulation_of(experiment: Experiment) -> Phantoms | Courses | Patches | Tables | OneTable:
    """Return the checked ``[simulation]`` of an experiment.

    Raises
    ------
    BadExperiment
        Without one, or with its faults.
    """
    document = experiment.simulation
    if document is None:
        raise BadExperiment(f"experiment {experiment.name}", faults=["simulation: is required to simulate"])
    kinds: dict[Any, type[Section]] = {"patches": Patches, "tables": Tables, "one_table": OneTable, "courses": Courses}
    section = kinds.get(document.get("kind"), Phantoms)
    try:
        settings = section.model_validate(document)
    except ValidationError as error:
        raise BadExperiment("simulation", faults=faults_of(error)) from None
    if isinstance(settings, Phantoms):
        settings.presets()
    return settings  # type: ignore[return-value]
