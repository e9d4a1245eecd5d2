"""TRIPOD+AI and CLAIM filled in from a run, and a data sheet of each site. What the run does not know is said to be unknown, never guessed.

Items after Collins et al., TRIPOD+AI, BMJ 2024;385:e078378 (table 1) and Tejani et al., CLAIM 2024 update, Radiol Artif Intell 2024;6:e240300,
in words of our own. A filled item says what the program recorded; whether that suffices is for the authors of a study to judge.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from server.reports import wording
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_atomic, write_json
from shared_models.experiment import Experiment

UNKNOWN = "unknown to the program: for the authors to say"


@dataclass(frozen=True)
class Facts:
    """What a finished run says of itself."""

    experiment: Experiment
    run: dict[str, Any]
    metrics: dict[str, Any]
    card: dict[str, Any]
    reports: dict[str, dict[str, Any]]
    evaluation: dict[str, Any]

    @property
    def phantoms(self) -> bool:
        """Whether there are no patients in it at all."""
        return self.metrics.get("data", {}).get("kind") == "phantom"


Answer = Callable[[Facts], str | None]
"""A sentence, or None where the run does not know."""


def _title(f: Facts) -> str:
    return f"{f.experiment.title or f.experiment.name}: {f.experiment.data.target} by {f.experiment.model.name}, trained federated"


def _data(f: Facts) -> str:
    kind = str(f.metrics.get("data", {}).get("kind", "unknown"))
    return "synthetic phantoms made by the program; no patient" if f.phantoms else f"{kind}; {f.metrics.get('data', {}).get('note', '')}".strip("; ")


def _participants(f: Facts) -> str | None:
    sites = f.run.get("sites", [])
    return "; ".join(f"{site['name']}: {site.get('cases') or 'unknown'} ({site.get('role', '')})" for site in sites) or None


def _left_out(f: Facts) -> str | None:
    rows = [f"{name}: {told['skipped']} skipped, {told['quarantined']} quarantined" for name, told in f.reports.items()]
    return "; ".join(rows) or None


def _preparation(f: Facts) -> str:
    preparation = f.experiment.preparation
    steps = ", ".join(step.name for step in preparation.steps) or "none"
    return f"steps: {steps}; lungs by {preparation.segmenter.name if preparation.segmenter else 'none'}; settings {preparation.digest[:16]}"


def _classes(f: Facts) -> str:
    return ", ".join(f.experiment.data.classes) or f.experiment.data.target


def _model(f: Facts) -> str:
    return f"{f.run.get('model', f.experiment.model.name)}, {f.run.get('parameters', 'unknown')} parameters; {f.card.get('source', '')}"


def _training(f: Facts) -> str:
    training = f.card.get("training", {})
    train, rounds = f.experiment.train, training.get("rounds", f.experiment.federation.rounds)
    return f"{rounds} rounds, strategy {f.run.get('strategy', '')}, {train.optimiser.name}; seed {f.experiment.seed}"


def _imbalance(f: Facts) -> str:
    return f"class weights: {f.experiment.train.class_weights}"


def _split(f: Facts) -> str:
    held = f.card.get("training", {}).get("held_out") or "none"
    return f"held-out hospitals: {held}; {f.experiment.evaluation.validation:.0%} of each site's patients for validation; no patient in two parts"


def _performance(f: Facts) -> str | None:
    cells = f.metrics.get("federated", {}).get("held_out", {})
    cell = cells.get(f.metrics.get("headline", ""), {})
    if cell.get("value") is None:
        return None
    ends = "" if cell.get("low") is None else f" (95 % interval {cell['low']:.3f} to {cell['high']:.3f})"
    return f"{wording.metric_title(f.metrics['headline'])} {cell['value']:.3f}{ends}, n = {cell.get('n')}"


def _measures(f: Facts) -> str:
    return f"headline {f.metrics.get('headline', '')}; intervals by resampling patients ({f.experiment.evaluation.bootstrap} times) or closed forms"


def _subgroups(f: Facts) -> str | None:
    told = f.evaluation.get("subgroups")
    if not told:
        return None
    return "; ".join(f"{fact}: {row['worst'] or 'too few patients to say'}" for fact, row in told.items()) + " served worst"


def _versions(f: Facts) -> str | None:
    return ", ".join(f"{name} {number}" for name, number in f.run.get("versions", {}).items()) or None


def _privacy(f: Facts) -> str:
    secure = "secure sum" if f.experiment.federation.secure_sum is not None else "no secure sum"
    noise = f"of each {f.experiment.privacy.unit}" if f.experiment.privacy.noise_multiplier else "none"
    return f"images never leave a site; {secure}; differential privacy: {noise}"


def _ambiguity(f: Facts) -> str | None:
    return f.experiment.source or None


def _limits(f: Facts) -> str | None:
    return " ".join(f.card.get("limits", [])) or None


def _availability(f: Facts) -> str:
    return f"release {f.run.get('bundle', 'unknown')[:16]}, settings {f.experiment.digest[:16]}; `fedild verify` checks the signed record"


def _compared(f: Facts) -> str | None:
    arms = [name for name in ("local_only", "pooled", "one_shot_ensemble") if f.metrics.get(name)]
    return f"beside {', '.join(arms).replace('_', ' ')}, on the same patients" if arms else None


def _calibration(f: Facts) -> str | None:
    table = f.evaluation.get("by_class", {})
    rows = [f"{name} {row['calibration']['slope']:.2f}" for name, row in table.items() if row.get("calibration")]
    return f"calibration slopes: {', '.join(rows)}" if rows else None


def _use(f: Facts) -> str | None:
    return f.card.get("intended_use")


def _ethics(f: Facts) -> str | None:
    return "not applicable: no patient" if f.phantoms else None


def _nothing(f: Facts) -> None:
    del f


TRIPOD: tuple[tuple[str, str, Answer], ...] = (
    ("1", "Title: model development or evaluation, population, outcome", _title),
    ("2", "Abstract after TRIPOD+AI for abstracts", _nothing),
    ("3a", "Healthcare context and rationale", _nothing),
    ("3b", "Target population, intended purpose and users", _use),
    ("3c", "Known health inequalities", _nothing),
    ("4", "Objectives: development, evaluation or both", _nothing),
    ("5a", "Sources of data", _data),
    ("5b", "Dates of data", _nothing),
    ("6a", "Setting: number and place of centres", _participants),
    ("6b", "Eligibility, and who was left out", _left_out),
    ("6c", "Treatments received", _nothing),
    ("7", "Preparation of data, and whether it is the same across groups", _preparation),
    ("8a", "Outcome and how it was assessed", _classes),
    ("8b", "Who assessed the outcome", _nothing),
    ("8c", "Blinding of outcome assessment", _nothing),
    ("9a", "Choice of predictors", _preparation),
    ("9b", "Definition of predictors", _preparation),
    ("9c", "Who assessed predictors", _nothing),
    ("10", "Sample size and why", _participants),
    ("11", "Missing data", _left_out),
    ("12a", "Use of data for development and evaluation", _split),
    ("12b", "Handling of predictors", _preparation),
    ("12c", "Type of model, building, hyper-parameters, internal validation", _training),
    ("12d", "Heterogeneity across clusters: hospitals", _compared),
    ("12e", "Measures of performance", _measures),
    ("12f", "Updating of the model", _nothing),
    ("12g", "How predictions are computed in evaluation", _availability),
    ("13", "Class imbalance", _imbalance),
    ("14", "Fairness", _subgroups),
    ("15", "Output of the model", _classes),
    ("16", "Differences between development and evaluation data", _split),
    ("17", "Ethical approval", _ethics),
    ("18a", "Funding", _nothing),
    ("18b", "Conflicts of interest", _nothing),
    ("18c", "Protocol", _nothing),
    ("18d", "Registration", _nothing),
    ("18e", "Availability of data", _privacy),
    ("18f", "Availability of code", _versions),
    ("19", "Involvement of patients and the public", _nothing),
    ("20a", "Flow of participants", _left_out),
    ("20b", "Characteristics of participants", _participants),
    ("20c", "Predictors in development and evaluation data", _nothing),
    ("21", "Participants and events in each analysis", _participants),
    ("22", "Full model, so that predictions can be made", _availability),
    ("23a", "Performance with intervals, by subgroups", _performance),
    ("23b", "Heterogeneity of performance across clusters", _compared),
    ("24", "Results of updating", _nothing),
    ("25", "Interpretation, fairness", _nothing),
    ("26", "Limitations", _limits),
    ("27a", "Handling of poor or missing input in use", _left_out),
    ("27b", "Interaction of users with the model", _nothing),
    ("27c", "Next steps", _nothing),
)

CLAIM: tuple[tuple[str, str, Answer], ...] = (
    ("1", "Title names the methodology", _title),
    ("2", "Abstract summarises design, methods, results, conclusions", _nothing),
    ("3", "Background and role of the approach", _nothing),
    ("4", "Aims and hypotheses", _nothing),
    ("5", "Prospective or retrospective", _nothing),
    ("6", "Goal of the study", _use),
    ("7", "Data sources", _data),
    ("8", "Inclusion and exclusion", _left_out),
    ("9", "Preprocessing", _preparation),
    ("10", "Selection of data subsets", _split),
    ("11", "De-identification", _privacy),
    ("12", "Missing data", _left_out),
    ("13", "Image acquisition", _nothing),
    ("14", "Definition of the reference standard", _classes),
    ("15", "Rationale of the reference standard", _nothing),
    ("16", "Source of the reference standard", _data),
    ("17", "Annotation of the test set", _nothing),
    ("18", "Variability between and within readers", _nothing),
    ("19", "Assignment to partitions", _split),
    ("20", "Level at which partitions are disjoint", _split),
    ("21", "Intended size of the test set", _nothing),
    ("22", "Model in detail", _model),
    ("23", "Software and versions", _versions),
    ("24", "Initialisation", _training),
    ("25", "Training", _training),
    ("26", "Choice of the final model", _training),
    ("27", "Ensembling", _compared),
    ("28", "Metrics", _measures),
    ("29", "Statistical significance and uncertainty", _measures),
    ("30", "Robustness", _subgroups),
    ("31", "Explainability", _nothing),
    ("32", "Evaluation on internal data", _performance),
    ("33", "Testing on external data", _performance),
    ("34", "Registration of a clinical trial", _ethics),
    ("35", "Numbers included and excluded", _left_out),
    ("36", "Characteristics by partition", _participants),
    ("37", "Performance on all partitions", _performance),
    ("38", "Estimates with precision", _performance),
    ("39", "Failure analysis", _calibration),
    ("40", "Limitations", _limits),
    ("41", "Implications for practice", _use),
    ("42", "Full protocol", _ambiguity),
    ("43", "Availability of code, model, data", _availability),
    ("44", "Funding", _nothing),
)


def write_checklists(folder: Path) -> Path:
    """Write ``checklists.json`` and ``checklists.html`` of a finished run and return the page's path.

    Raises
    ------
    BadInput
        The run has no metrics or release yet.
    """
    if not (folder / "metrics.json").exists() or not (folder / "experiment.json").exists():
        raise BadInput("checklists need a finished run", value=folder.name, remedy="finish it with --resume")
    facts = Facts(
        Experiment.from_json((folder / "experiment.json").read_text(encoding="utf-8")),
        _read(folder / "run.json"),
        _read(folder / "metrics.json"),
        _read(folder / "bundle" / "card.json"),
        _read(folder / "site_reports.json"),
        _read(folder / "evaluation" / "evaluation.json"),
    )
    lists = {
        "TRIPOD+AI (Collins et al., BMJ 2024;385:e078378)": filled(TRIPOD, facts),
        "CLAIM, 2024 update (Tejani et al., Radiol Artif Intell 2024;6:e240300)": filled(CLAIM, facts),
    }
    found = {"experiment": facts.experiment.name, "phantoms": facts.phantoms, "lists": lists, "sheets": data_sheets(facts)}
    write_json(folder / "checklists.json", found)
    path = folder / "checklists.html"
    write_atomic(path, _template().render(found=found, unknown=UNKNOWN).encode(), durable=False)
    return path


def filled(items: tuple[tuple[str, str, Answer], ...], facts: Facts) -> list[dict[str, str]]:
    """Return number, question and answer of each item; an answer that the run does not know is ``UNKNOWN``."""
    return [{"item": number, "asked": asked, "answer": answer(facts) or UNKNOWN} for number, asked, answer in items]


def data_sheets(facts: Facts) -> dict[str, dict[str, str]]:
    """Return for each site what is known of its data: role, patients, scanner, what was left out, what was found, and what nobody said."""
    sheets = {}
    for site in facts.run.get("sites", []):
        told = facts.reports.get(site["name"], {})
        findings = ", ".join(f"{code} {count}" for code, count in told.get("findings", {}).items())
        sheets[site["name"]] = {
            "role": str(site.get("role") or "unknown"),
            "patients": str(site.get("cases") or "unknown"),
            "scanner": str(site.get("scanner") or "unknown"),
            "accepted, skipped, quarantined": ", ".join(str(told.get(kind, "unknown")) for kind in ("accepted", "skipped", "quarantined")),
            "findings of quality": findings or ("none" if told else "unknown"),
            "who collected it, why, under which consent": "not applicable: phantoms" if facts.phantoms else UNKNOWN,
            "how labels were made": "planted by the program" if facts.phantoms else UNKNOWN,
        }
    return sheets


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


@functools.cache
def _template() -> jinja2.Template:
    folder = Path(__file__).parent
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals["css"] = (folder / "report.css").read_text(encoding="utf-8")
    return environment.get_template("checklists.html.j2")
