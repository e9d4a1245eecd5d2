"""`fedild evaluate`: a finished simulation judged from every side, and what would mislead is said first.

    <run>/evaluation/evaluation.json evaluation.html
    <run>/evaluation/leave-one-site-out/<site>/     the federation of all other hospitals

Every figure is of patients. A model is judged at its own hospital on validation patients alone, elsewhere on everybody.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client.patient_facts import ACQUISITION, FACTS, patient_facts
from client.site import Site
from client.twins import content_tags, twins
from shared_models.bundle import load_bundle
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_json, write_state
from shared_models.experiment import Experiment
from shared_models.judging.by_class import class_curves, class_table
from shared_models.judging.shortcut import acquisition_baseline
from shared_models.judging.standing import collapses, pooling, ranking, site_gap
from shared_models.judging.subgroups import subgroup_table
from shared_models.metrics import score
from sim.baselines import POOLED
from sim.federation import federate_in_pool
from sim.pool import Pool
from sim.progress import Progress
from sim.released import Answer, released_beside, split_facts
from sim.settings import Phantoms, simulation_of

METRIC = "auroc_macro"
FOLDER = "leave-one-site-out"


def evaluate(
    run: Path,
    *,
    bundle: Path | None = None,
    leave_one_site_out: bool = False,
    processes: int | None = None,
    quiet: bool = False,
) -> Path:
    """Judge the finished simulation in `run`, write ``evaluation/`` into it, and return the page's path.

    Parameters
    ----------
    run : Path
        Folder of a finished `fedild simulate` over phantom hospitals.
    bundle : Path, optional
        Another release to judge on the run's hospitals, in place of the run's own.
    leave_one_site_out : bool
        Train once more for every hospital, on all others, and judge on its patients.

    Raises
    ------
    BadInput
        Not such a run, or a bundle of another architecture, label map or preprocessing.
    """
    experiment, sites, away = opened(run)
    out = run / "evaluation"
    out.mkdir(exist_ok=True)
    final = run / "federation" / "final.safetensors"
    if bundle is not None:
        final = out / "judged.safetensors"
        write_state(final, checked(bundle, experiment))
    names = [site.parent.name for site in sites]
    models = {"federated": final}
    if bundle is None:
        models |= {name: run / "baselines" / f"{name}.safetensors" for name in (*names, POOLED)}
    models = {name: path for name, path in models.items() if path.exists()}
    text, cores = experiment.for_sites().to_json(), processes or len(os.sched_getaffinity(0))
    with Progress(quiet=quiet) as progress, Pool(cores, experiment=text) as pool:
        places = [(model, site) for model in models for site in (*sites, *away)]
        calls = [(text, str(models[model]), [str(site)], _part(model, site, sites)) for model, site in places]
        step, done = progress.bar("judging"), 0

        def told(number: int, answer: Any) -> None:
            nonlocal done
            del number, answer
            done += 1
            step(done, len(calls))

        answers: dict[tuple[str, str], Answer] = {
            (model, site.parent.name): answer
            for (model, site), answer in zip(places, pool.map("sim.tasks", "predictions", calls, on_done=told), strict=True)
        }
        left_out = _left_out(experiment, sites, away, out / FOLDER, pool, progress) if leave_one_site_out else {}
    found = figures(experiment, answers, left_out, sites, away)
    write_json(out / "evaluation.json", found)
    from server.reports.evaluation import write_evaluation

    return write_evaluation(out)


def is_deployed(run: Path) -> bool:
    """Say whether a folder is of a run over real sites: its experiment was sent as sites receive it, and no prediction ever left them."""
    return (run / "experiment.json").exists() and "simulation" not in read_json(run / "experiment.json")


def opened(run: Path) -> tuple[Experiment, list[Path], list[Path]]:
    """Return the experiment of a run folder, the site TOMLs of its training hospitals and those of the held-out ones.

    Raises
    ------
    BadInput
        No finished simulation of a diagnosis over hospitals with patients.
    """
    if not (run / "experiment.json").exists() or not (run / "federation" / "final.safetensors").exists():
        raise BadInput("evaluation needs a finished simulation", value=run.name, remedy="`fedild simulate NAME --out RUN` first")
    experiment = Experiment.from_json((run / "experiment.json").read_text(encoding="utf-8"))
    settings = simulation_of(experiment)
    if not isinstance(settings, Phantoms):
        rule = "evaluation counts patients: slices or patches whose patients nobody knows cannot be split, ranked or compared here"
        raise BadInput(rule, value=experiment.simulation and experiment.simulation.get("kind"), remedy="use a run over hospitals")
    if experiment.data.target != "diagnosis":
        raise BadInput("evaluation judges diagnoses", value=experiment.data.target, remedy="the run's own report judges this target")
    every = [run / "hospitals" / preset.name / "site.toml" for preset in settings.presets()]
    if missing := [path.parent.name for path in every if not path.exists()]:
        raise BadInput("evaluation needs the run's hospitals", value=missing, remedy="they lie in RUN/hospitals of the machine that simulated")
    away = [path for path in every if path.parent.name in settings.held_out]
    return experiment, [path for path in every if path not in away], away


def checked(bundle: Path, experiment: Experiment) -> dict[str, np.ndarray]:
    """Return the state of a bundle that was trained on the very same question: architecture, label map and preprocessing.

    Raises
    ------
    BadInput
        Naming what differs.
    """
    found = load_bundle(bundle)
    theirs, ours = found.experiment, experiment
    differs = [
        word
        for word, one, other in (
            ("architecture", theirs.model, ours.model),
            ("label map", list(theirs.data.classes), list(ours.data.classes)),
            ("preprocessing", theirs.preparation.digest, ours.preparation.digest),
            ("inputs", theirs.inputs, ours.inputs),
        )
        if one != other
    ]
    if differs:
        raise BadInput(
            "a checkpoint is judged on data prepared as it was trained on", value=differs, remedy="evaluate it on a run of its own experiment"
        )
    return found.state


def figures(
    experiment: Experiment, answers: dict[tuple[str, str], Answer], left_out: dict[str, Answer], sites: Sequence[Path], away: Sequence[Path]
) -> dict[str, Any]:
    """Return everything that the page shows, from predictions by (model, site)."""
    classes, seed, times = list(experiment.data.classes), experiment.seed, experiment.evaluation.bootstrap
    settings: dict[str, Any] = {"seed": seed, "bootstrap": times}
    names, unseen = [site.parent.name for site in sites], [site.parent.name for site in away]

    def cell(answer: Answer) -> dict[str, Any]:
        return score(answer[0], answer[1], classes, metrics=[METRIC], groups=answer[2], **settings)[METRIC]

    def together(model: str, of: Sequence[str]) -> Answer:
        return _joined({name: answers[model, name] for name in of})

    def table(answer: Answer) -> dict[str, Any]:
        return class_table(answer[0], answer[1], classes, patients=answer[2], **settings)

    models = list(dict.fromkeys(model for model, _ in answers))
    judged = unseen or names
    main = together("federated", judged)
    facts = {f"{site.parent.name}/{who}": words for site in (*sites, *away) for who, words in patient_facts(Site.load(site).workspace).items()}
    everybody = [who for who in facts if who.split("/")[0] in (*names, *unseen)]
    labels = _labels([*sites, *away], classes)
    known = [who for who in everybody if who in labels]
    matrix = {model: {name: cell(answers[model, name]) for name in (*names, *unseen)} for model in models}
    overall = {model: cell(together(model, judged)) for model in models}
    positives = {name: int(sum(label == c for label in main[0])) for c, name in enumerate(classes)}
    tagged = {site.parent.name: content_tags(Site.load(site).workspace, _WORD) for site in (*sites, *away)}
    tags = {name: [tag for of_one in found.values() for tag in of_one] for name, found in tagged.items()}
    found: dict[str, Any] = {
        "experiment": experiment.name,
        "classes": classes,
        "judged_on": judged,
        "held_out": bool(unseen),
        "sites": names,
        "splits": split_facts(experiment, unseen, names, lambda: table(together("federated", names))),
        "by_class": table(main),
        "curves": class_curves(main[0], main[1], classes, patients=main[2], **settings),
        "released": (told := released_beside(experiment, {name: answers["federated", name] for name in judged}))["all"],
        "released_by_site": told["sites"],
        "by_site": {name: table(answers["federated", name]) for name in (*names, *unseen)},
        "matrix": matrix,
        "overall": overall,
        "ranking": ranking(overall, positives),
        "site_gap": site_gap(matrix["federated"]),
        "pooling": pooling(overall["federated"], {name: matrix["federated"][name] for name in judged}),
        "collapses": collapses({name: row for name, row in matrix.items() if name in names}),
        "subgroups": subgroup_table(
            {fact: [facts[who][fact] for who in main[2]] for fact in FACTS}, main[0], main[1], classes, patients=main[2], **settings
        ),
        "acquisition": acquisition_baseline(
            {fact: [facts[who][fact] for who in known] for fact in ACQUISITION}, [labels[who] for who in known], classes, patients=known, **settings
        ),
        "twins": twins(tags),
    }
    if left_out:
        rows = {name: cell(answer) for name, answer in left_out.items()}
        pooled = _joined(left_out)
        found["leave_one_site_out"] = {
            "sites": rows,
            "gap": site_gap(rows),
            "all": cell(pooled),
            "by_class": table(pooled),
        }
    return {**found, "warnings": warnings(found)}


def warnings(found: dict[str, Any]) -> list[str]:
    """Return in words what a reader must know before any figure."""
    said = []
    if not found["held_out"]:
        said.append("No hospital was held out: these figures are of patients whose hospitals trained the model, and say less about others.")
    if found["acquisition"]["follows"]:
        value = found["acquisition"]["auroc_macro"]["value"]
        said.append(f"The label follows the scanner: maker, kernel and thickness alone reach an AUROC of {value:.2f}. A model may read the scanner.")
    for one in found["twins"]:
        said.append(
            f"One scan lies at more than one hospital: {', '.join(one['sites'])}. Whoever is in two sites may be trained on and judged at once."
        )
    for one in found["collapses"]:
        said.append(
            f"The model of {one['model']} falls from {one['at_home']:.2f} at home to {one['there']:.2f} at {one['site']}: a pooled figure hides this."
        )
    if found["pooling"]["hides"]:
        pooled, within = found["pooling"]["pooled"], found["pooling"]["within"]
        said.append(f"The pooled AUROC of {pooled:.2f} compares patients across hospitals; within hospitals it is {within:.2f}.")
    if found["ranking"]["order"] is None:
        said.append(f"Models are {found['ranking']['why']}.")
    return said


_WORD = "the sites of a simulation are one machine"
"""Of the tags: in a simulation nobody has anything to hide from anybody."""


def _joined(parts: Mapping[str, Answer]) -> Answer:
    """Return the patients of several sites as one. A pseudonym is a site's own: the same one at two sites would be two patients."""
    labels = [label for part in parts.values() for label in part[0]]
    probabilities = [row for part in parts.values() for row in part[1]]
    return labels, probabilities, [f"{name}/{who}" for name, part in parts.items() for who in part[2]]


def _part(model: str, site: Path, sites: Sequence[Path]) -> str:
    trained = site in sites and (model in ("federated", POOLED) or model == site.parent.name)
    return "validation" if trained else "all"


def _labels(sites: Sequence[Path], classes: Sequence[str]) -> dict[str, int]:
    from client.cases.cohort import Cohort

    places = {name: place for place, name in enumerate(classes)}
    found = {}
    for site in sites:
        for case in Cohort.load(Site.load(site).workspace / "cohort.json").cases:
            if case.label in places:
                found[f"{site.parent.name}/{case.pseudonym}"] = places[str(case.label)]
    return found


def _left_out(
    experiment: Experiment, training: Sequence[Path], away: Sequence[Path], folder: Path, pool: Pool, progress: Progress
) -> dict[str, Answer]:
    """Return for every site what the federation of all others says of its patients. What was trained before is not trained again.

    The run's held-out hospitals train with the others now, as far as they have patients enough: the quorum asks for the others alone.
    """
    sites = [*training, *away]
    if len(sites) < 3:
        raise BadInput("leaving a site out needs three or more", value=len(sites))
    step, calls = progress.bar("leaving one site out"), []
    for number, site in enumerate(sites, 1):
        home = folder / site.parent.name
        quorum = min(experiment.federation.quorum, sum(other != site for other in training))
        settings = experiment.model_copy(update={"federation": experiment.federation.model_copy(update={"quorum": quorum})})
        if not (home / "final.safetensors").exists():
            federate_in_pool(settings, [other for other in sites if other != site], home, pool)
        calls.append((settings.for_sites().to_json(), str(home / "final.safetensors"), [str(site)], "all"))
        step(number, len(sites))
    answers = pool.map("sim.tasks", "predictions", calls)
    return {site.parent.name: answer for site, answer in zip(sites, answers, strict=True)}
