"""A finished run of a recipe, what its files say, and further federations over the same hospitals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from server.runs.log import read_rounds
from shared_models.core.choices import apply_overrides, validated
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_json
from shared_models.experiment import Experiment
from sim.comparison.cell import mean_of, run_cell
from sim.comparison.ground import Fold, Test
from sim.pool import Pool
from sim.settings import Phantoms, simulation_of


@dataclass(frozen=True)
class Ran:
    """A finished run.

    Parameters
    ----------
    experiment : Experiment
        As it ran.
    folder : Path
        Run folder of `sim.simulation.simulate`.
    store : Path
        Prepared hospitals that runs share.
    processes : int
        Worker processes of further federations.
    """

    experiment: Experiment
    folder: Path
    store: Path
    processes: int = 1

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``."""
        return read_json(self.folder / "metrics.json")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """``run.json``."""
        return read_json(self.folder / "run.json")

    @property
    def headline(self) -> str:
        """Name of the metric that the recipe is judged by."""
        return str(self.metrics["headline"])

    def cell(self, metric: str, model: str = "federated") -> dict[str, Any]:
        """Return value and interval of a metric on unseen patients."""
        return self.metrics[model]["held_out"][metric]

    def value(self, metric: str, model: str = "federated") -> float | None:
        """Return a metric on unseen patients; None is undefined."""
        return self.cell(metric, model)["value"]

    def alone(self, metric: str) -> float | None:
        """Return the mean, over the hospitals that train alone, of a metric on unseen patients."""
        values = [model["held_out"][metric]["value"] for model in self.metrics["local_only"].values()]
        return None if not values or None in values else sum(values) / len(values)

    @property
    def bytes_a_round(self) -> float:
        """Bytes that all sites together send in a round, on average."""
        rounds = read_rounds(self.folder / "rounds.jsonl")
        return sum(line["bytes"] for line in rounds) / max(1, len(rounds))

    @property
    def seconds(self) -> float:
        """Wall time of federation, baselines and judgement: hospitals are made and prepared once for many systems."""
        return sum(seconds for phase, seconds in read_json(self.folder / "times.json").items() if phase not in ("hospitals", "prepare"))

    @property
    def held_out(self) -> tuple[Path, ...]:
        """Site TOMLs of the hospitals that nobody trained on."""
        return tuple(self.folder / "hospitals" / name / "site.toml" for name in self._phantoms.held_out)

    @property
    def training(self) -> tuple[Path, ...]:
        """Site TOMLs of the hospitals that train."""
        names = [preset.name for preset in self._phantoms.presets()]
        return tuple(self.folder / "hospitals" / name / "site.toml" for name in names if name not in self._phantoms.held_out)

    @property
    def _phantoms(self) -> Phantoms:
        settings = simulation_of(self.experiment)
        if not isinstance(settings, Phantoms):
            raise BadInput("this is asked of phantom hospitals", value=self.experiment.name)
        return settings

    def again(self, label: str, changes: dict[str, Any], *, settings: tuple[str, ...] = (), seed: int | None = None) -> dict[str, float | None]:
        """Federate the recipe with changes over the same hospitals; return its metrics on the held-out ones. What is finished is read again.

        Changes that change nothing are this run itself: the same seed gives the same weights.

        Parameters
        ----------
        label : str
            Names the variant's folder.
        changes : dict
            Whole sections of the experiment that take the place of its own.
        settings : tuple of str
            ``table.key=value``.
        seed : int, optional
            Of training; the hospitals stay.
        """
        return self._cell(label, changes, settings, seed, homes=False)["metrics"]

    def at_home(self, label: str, settings: tuple[str, ...], *, seed: int | None = None) -> float | None:
        """Federate the recipe with settings; return the headline of the hospitals that trained, mean over them, each with what it keeps for itself.

        Judged are each hospital's own validation patients. Arguments are those of `again`.

        Raises
        ------
        BadInput
            The recipe leaves no patients for validation.
        """
        if self.experiment.evaluation.validation == 0:
            raise BadInput("hospitals are judged at home on validation patients", value=0, remedy="set evaluation.validation")
        return mean_of(list(self._cell(label, {}, settings, seed, homes=True)["homes"].values()))

    def _cell(self, label: str, changes: dict[str, Any], settings: tuple[str, ...], seed: int | None, *, homes: bool) -> dict[str, Any]:
        document = self.experiment.model_dump(mode="json", exclude_none=True) | changes
        document |= {} if seed is None else {"seed": seed}
        chosen = validated(Experiment, apply_overrides(document, list(settings)), what=f"{self.experiment.name}, {label}")
        if not homes and chosen.digest == self.experiment.digest:
            held_out = self.metrics["federated"]["held_out"]
            return {"metrics": {name: cell["value"] for name, cell in held_out.items() if isinstance(cell, dict) and "value" in cell}}
        folder = self.folder / "variants" / f"{label}-{chosen.digest[:12]}"
        if not (folder / "cell.json").exists():
            tests = tuple(Test(site.parent.name, site, "all") for site in self.held_out)
            with Pool(self.processes, experiment=chosen.for_sites().to_json()) as pool:
                own = tuple(Test(site.parent.name, site, "validation", own=True) for site in self.training) if homes else ()
                cell = run_cell(chosen, [Fold("run", self.training, tests, own)], folder, pool, told=lambda done, of: None)
            write_json(folder / "cell.json", cell, durable=False)
        return read_json(folder / "cell.json")
