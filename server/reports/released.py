"""A run judged by what its sites have released: no patient's score left them, so what is told is told with bounds. Works on a deployed run's folder.

<run>/evaluation/released.json released.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from server.reports import wording
from server.reports.evaluation import environment
from server.runs.by_site import read_by_site
from server.runs.log import last_of_training, patients_of, read_rounds
from shared_models.bundle import load_bundle
from shared_models.calibration.operating_point import OperatingPoint
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, read_state, write_atomic, write_json
from shared_models.experiment import Experiment
from shared_models.judging.released import released_sites, released_table
from shared_models.judging.standing import site_gap
from shared_models.metrics.intervals import wilson
from shared_models.phases import calibrations_of, fit_of

HISTOGRAMS = "score_histograms"


def evaluate_released(run: Path) -> Path:
    """Judge a finished run by its released statistics alone, write ``evaluation/released.json`` and its page, and return the page's path.

    Raises
    ------
    BadInput
        No finished run, or one whose target has no classes to be told apart.
    """
    found = released_figures(run)
    out = run / "evaluation"
    out.mkdir(exist_ok=True)
    write_json(out / "released.json", found)
    page = out / "released.html"
    write_atomic(page, _template().render(found=found).encode(), durable=False)
    return page


def released_figures(run: Path) -> dict[str, Any]:
    """Return what the page shows: figures with bounds where the run asked for histograms, the operating point, each site's own judgement."""
    home = run / "federation" if (run / "federation").exists() else run
    if not (run / "experiment.json").exists() or not ((home / "final.safetensors").exists() or (run / "bundle").exists()):
        raise BadInput("evaluation needs a finished run", value=run.name, remedy="`fedild server pull` brings a deployed one")
    experiment = Experiment.from_json((run / "experiment.json").read_text(encoding="utf-8"))
    if experiment.data.target != "diagnosis":
        raise BadInput("evaluation judges diagnoses", value=experiment.data.target, remedy="the run's own report judges this target")
    if experiment.data.kind == "patches":
        rule = "evaluation counts patients: slices or patches whose patients nobody knows cannot be split, ranked or compared here"
        raise BadInput(rule, value=experiment.data.kind, remedy="use a run over patients")
    # What was pulled from a server has the weights in its bundle alone.
    state = read_state(home / "final.safetensors") if (home / "final.safetensors").exists() else load_bundle(run / "bundle").state
    classes = list(experiment.data.classes)
    judged = read_json(home / "site_metrics.json") if (home / "site_metrics.json").exists() else {}
    lines = read_rounds(home / "rounds.jsonl")
    names = [choice.name for choice in experiment.calibration or ()]
    found: dict[str, Any] = {
        "experiment": experiment.name,
        "classes": classes,
        "split": experiment.evaluation.split_in_words,
        "patients_trained_on": patients_of(last) if (last := last_of_training(lines)) else None,
        "by_class": None,
        "by_site": {},
        "operating_point": _point(experiment, state),
        "sites": {site: {name.removeprefix("val_"): value for name, value in sorted(of.items())} for site, of in judged.items()},
        "site_gap": site_gap({site: {"value": of.get("val_auroc_macro")} for site, of in judged.items()}),
    }
    if HISTOGRAMS in names:
        fit = fit_of(state, HISTOGRAMS, after=True)
        found["by_class"] = released_table(fit["cells"], float(fit["patients"][0]), classes)
        found["by_site"] = released_sites(read_by_site(home, len(classes)), classes)
    return {**found, "warnings": warnings(found)}


def warnings(found: dict[str, Any]) -> list[str]:
    """Return in words what is not known from what was released."""
    said = ["No patient's score left a hospital: what follows is of held-out patients at the hospitals that trained the model."]
    if found["by_class"] is None:
        said.append("The run asked for no histograms of scores: figures by class are not known. Add [[calibration]] name = 'score_histograms'.")
    elif not found["by_site"]:
        said.append("The hospitals' counts were summed under the secure sum: figures by hospital are not known, and nobody may know them.")
    for name, row in (found["by_class"] or {}).items():
        if row["auroc"]["value"] is None:
            said.append(f"{name}: undefined, too few patients could be counted.")
        elif row["positives"] < 10:
            said.append(f"{name}: {row['positives']} patients counted; 10 are needed before models are ranked by it.")
    said.append("Subgroups, scanners alone and models at other hospitals need patients' scores: `fedild evaluate` tells them of a simulation.")
    return said


def _point(experiment: Experiment, state: State) -> dict[str, Any] | None:
    names = [choice.name for choice in experiment.calibration or ()]
    for name, fit in zip(names, calibrations_of(experiment), strict=True):
        if isinstance(fit, OperatingPoint):
            own = fit_of(state, name, after=True)
            told: dict[str, Any] = {"label": experiment.data.classes[fit.label], "threshold": float(own["threshold"][0])}
            for share, (hits, n) in fit.shares(own).items():
                low, high = wilson(hits, n) or (None, None)
                told[share] = {"value": hits / n if n else None, "low": low, "high": high, "n": n}
            return told
    return None


def _template() -> jinja2.Template:
    return environment(shown=wording.shown, coded=wording.coded).get_template("released.html.j2")
