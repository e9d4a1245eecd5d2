"""Cross-validated federations on labelled patches: each fold is held out in turn, the rest is spread over uneven sites."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic, write_json
from shared_models.experiment import Experiment
from shared_models.metrics import describe_predictions, score
from sim.baselines import POOLED, train_baselines
from sim.evidence import run_facts
from sim.federation import federate
from sim.pool import Pool
from sim.progress import Progress
from sim.run import Run
from sim.settings import Patches

NO_PATIENTS = (
    "Real image patches without patient identifiers: patches of one patient may be on both sides of a split, so the figures are about patches, "
    "not patients, and are likely too good."
)


def cross_validate(run: Run, settings: Patches, data: Path | None, progress: Progress) -> Path:
    """Run every fold, pool the held-out predictions, write the run's files and the report; return the report's path.

    Raises
    ------
    BadInput
        The data file is not there, or the experiment names no folds.
    """
    experiment, out = run.experiment, run.out
    count = experiment.evaluation.folds
    if count is None:
        raise BadInput("a patch experiment is cross-validated", remedy="set evaluation.folds")
    hu, label, patients = read_source(settings, data)
    fold_of = stratified_folds(hu, label, count, seed=experiment.seed, groups=patients)
    answers: dict[str, list[Any]] = {}
    folds: dict[str, dict[str, Any]] = {}
    steps: dict[str, int] = {}
    sites: list[Path] = []
    with Pool(run.cores, experiment=experiment.for_sites().to_json()) as pool:
        for fold in range(count):
            here = out / f"fold-{fold}"
            with run.clock.phase("spread"):
                sites, test = spread(experiment, settings, hu, label, fold_of == fold, here, seed=experiment.seed + fold, patients=patients)
            part = Run(experiment, here, run.backend, run.ray_address, run.cores, run.clock)
            with run.clock.phase("federate"):
                federate(part, sites, here / "federation", pool, progress)
            with run.clock.phase("baselines"):
                steps = train_baselines(experiment, sites, here, pool, progress)
            with run.clock.phase("judge"):
                for name, answer in _predict(experiment, here, sites, test, pool).items():
                    answers.setdefault(name, []).append(answer)
                    folds.setdefault(name, {})[f"fold {fold + 1}"] = _scored(experiment, *answer, bootstrap=0)
    names = [site.parent.name for site in sites]
    _write(run, answers, folds, names, real=True)
    shutil.copyfile(out / f"fold-{count - 1}" / "federation" / "rounds.jsonl", out / "rounds.jsonl")
    if not (out / "federation").exists():
        shutil.copytree(out / f"fold-{count - 1}" / "federation", out / "federation")
    facts = run_facts(run, sites, [], steps, bundle="")
    for site in facts["sites"]:
        with np.load(out / f"fold-{count - 1}" / "sites" / site["name"] / "patches.npz", allow_pickle=False) as file:
            site["cases"] = len(file["hu"])
    write_json(out / "run.json", facts | {"data": settings.citation, "note": NO_PATIENTS if patients is None else ""})
    from server.reports.report import write_report

    with run.clock.phase("report"):
        return write_report(out)


def read_source(settings: Patches, data: Path | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the patches (n, y, x) in Hounsfield units, the class name of each, and its patient where the file says.

    Raises
    ------
    BadInput
        The data file is not there.
    """
    source = (data / settings.source) if data else Path(settings.source)
    if not source.exists():
        raise BadInput("this experiment needs its real data", value=settings.source, remedy="name their folder with --data or FEDILD_REAL_DATA")
    with np.load(source, allow_pickle=False) as file:
        hu, label = file["hu"], file["label"]
        label = file["names"][label].astype(str) if "names" in file else label.astype(str)
        return hu, label, file["patient"].astype(str) if "patient" in file else None


def stratified_folds(hu: np.ndarray, label: np.ndarray, count: int, *, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the fold of each patch, classes spread evenly; exact duplicates, and patches of one patient, share a fold.

    Examples
    --------
    >>> hu = np.array([[[1]], [[1]], [[2]], [[3]]])
    >>> folds = stratified_folds(hu, np.array(["a", "a", "a", "a"]), 2, seed=0)
    >>> bool(folds[0] == folds[1]), sorted(set(folds.tolist()))
    (True, [0, 1])
    """
    keys = groups if groups is not None else np.array([patch.tobytes().hex()[:4096] for patch in hu])
    generator = np.random.default_rng(seed)
    folds = np.full(len(hu), -1)
    turn = 0
    for name in sorted(set(label.tolist())):
        unique = sorted({keys[i] for i in np.flatnonzero(label == name)})
        for position in generator.permutation(len(unique)):
            members = keys == unique[position]  # of every class: a patient has healthy lung beside disease
            if (folds[members] < 0).all():
                folds[members] = turn % count
                turn += 1
    return folds


def spread(
    experiment: Experiment,
    settings: Patches,
    hu: np.ndarray,
    label: np.ndarray,
    held: np.ndarray,
    folder: Path,
    *,
    seed: int,
    patients: np.ndarray | None = None,
) -> tuple[list[Path], Path]:
    """Write the sites and the held-out fold as patch files with site TOMLs; return the sites' TOMLs and the held-out one's.

    For every class the share of each site is drawn from a Dirichlet distribution with the experiment's alpha (Hsu et al., 2019), drawn
    again until every site has at least as many patches as a site needs to take part. Where `patients` says whose each patch is, a patient is at
    one site with all patches; a patient of several classes is dealt with the first of them.
    """
    generator, whose = np.random.default_rng(seed), np.arange(len(hu)) if patients is None else patients
    for _ in range(1000):
        site_of = np.full(len(hu), -1)
        for name in sorted(set(label.tolist())):
            members = generator.permutation(np.unique(whose[(label == name) & ~held & (site_of < 0)]))
            shares = generator.dirichlet(np.full(settings.sites, settings.alpha))
            cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int)
            for site, part in enumerate(np.split(members, cuts)):
                site_of[np.isin(whose, part) & ~held] = site
        if np.bincount(site_of[site_of >= 0], minlength=settings.sites).min() >= 20:
            break
    else:
        raise BadInput("every site must get at least 20 patches", value=settings.alpha, remedy="fewer sites or a larger alpha")
    columns = {"hu": hu.astype(np.int16), "label": label} | ({} if patients is None else {"patient": patients})
    parts = {f"site{site + 1}": site_of == site for site in range(settings.sites)}
    tomls = [_write_site(folder / "sites" / name, name, {key: of[part] for key, of in columns.items()}) for name, part in parts.items()]
    return tomls, _write_site(folder / "held_out", "held_out", {key: of[held] for key, of in columns.items()})


def _write_site(folder: Path, name: str, columns: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "patches.npz", **columns)  # type: ignore[arg-type]
    write_atomic(folder / "site.toml", f'[site]\nname = "{name}"\npatches = "patches.npz"\n'.encode(), durable=False)
    return folder / "site.toml"


def _predict(experiment: Experiment, here: Path, sites: list[Path], test: Path, pool: Pool) -> dict[str, Any]:
    names = [site.parent.name for site in sites]
    states = {"federated": here / "federation" / "final.safetensors"}
    states |= {name: here / "baselines" / f"{name}.safetensors" for name in (POOLED, *names)}
    text = experiment.for_sites().to_json()
    found = pool.map("sim.tasks", "predictions", [(text, str(state), [str(test)], "all") for state in states.values()])
    return {name: (labels, probabilities) for name, (labels, probabilities, _) in zip(states, found, strict=True)}


def _scored(experiment: Experiment, labels: list[int], probabilities: list[list[float]], *, bootstrap: int) -> dict[str, Any]:
    return score(labels, probabilities, experiment.data.classes, seed=experiment.seed, bootstrap=bootstrap)


def _write(run: Run, answers: dict[str, list[Any]], folds: dict[str, dict[str, Any]], names: list[str], *, real: bool) -> None:
    experiment, out = run.experiment, run.out
    together = {name: ([y for part in parts for y in part[0]], [p for part in parts for p in part[1]]) for name, parts in answers.items()}
    cells = {
        name: {"held_out": _scored(experiment, *both, bootstrap=experiment.evaluation.bootstrap), "folds": folds[name]}
        for name, both in together.items()
    }
    metrics = {
        "experiment": experiment.name,
        "seed": experiment.seed,
        "classes": list(experiment.data.classes),
        "rounds": experiment.federation.rounds,
        "wall_s": dict(run.clock.phases),
        "data": {"kind": "real" if real else "phantom", "note": NO_PATIENTS},
        "headline": experiment.evaluation.headline,
        "federated": cells["federated"] | {"sites": {}},
        "local_only": {name: cells[name] for name in names},
        "pooled": cells[POOLED],
    }
    write_json(out / "metrics.json", metrics)
    described = {name: {"held_out": describe_predictions(*both, experiment.data.classes)} for name, both in together.items()}
    write_json(
        out / "curves.json", {"federated": described["federated"], POOLED: described[POOLED], "local_only": {name: described[name] for name in names}}
    )
