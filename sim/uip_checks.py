"""When the UIP detector works: its figures on a finished run of phantoms, each beside the bound of its specification (S12)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client.cases.identity import Pseudonyms
from shared_models.core.files import read_json
from shared_models.experiment import Experiment
from shared_models.metrics import score
from shared_models.metrics.log_rank import log_rank
from sim.attention_mass import attention_mass
from sim.hospital.key import phantom_secret
from sim.operating import called, point_cells, point_of
from sim.phantom.outcomes import FOLLOW_UP_YEARS, survival_years
from sim.settings import Phantoms, simulation_of

HAZARD_RATIO = 4.0
"""Planted per 10 % of honeycombing: then the mean of the UIP phantoms lives with about three times the hazard, as Humphries et al. report."""

BOUNDS: dict[str, tuple[str, float]] = {
    "auroc": (">=", 0.95),
    "attention": (">=", 0.6),
    "order": ("<=", 1e-5),
    "p_planted": ("<", 0.01),
    "p_null": (">=", 0.05),
}
"""Figure to how it is compared, and with what."""


def planted_survival(honeycombing: np.ndarray, *, hazard_ratio: float, seed: int) -> np.ndarray:
    """Return outcomes (n, 3) of patients whose hazard rises by `hazard_ratio` for every 10 % of honeycombing; 1 plants nothing.

    Examples
    --------
    >>> planted_survival(np.zeros(3), hazard_ratio=4.0, seed=0).shape
    (3, 3)
    """
    rng = np.random.default_rng([seed, 0x5A2F])
    hazards = np.log(hazard_ratio) * honeycombing / 10
    death = np.array([survival_years(uniform, hazard) for uniform, hazard in zip(rng.uniform(size=len(hazards)), hazards, strict=True)])
    last = rng.uniform(*FOLLOW_UP_YEARS, size=len(death))
    return np.column_stack([np.minimum(death, last), death <= last, np.zeros(len(death))])


def order_matters(run: Path, experiment: Experiment, *, seed: int = 0) -> float:
    """Return the largest change of a logit when the slices of a bag change places."""
    import torch

    from client.training.gradient import network_of
    from shared_models.core.files import read_state

    network = network_of(experiment, read_state(run / "federation" / "final.safetensors"))
    bag = torch.rand(4, experiment.inputs.slices, experiment.inputs.size, experiment.inputs.size, generator=torch.Generator().manual_seed(seed))
    turned = bag[:, torch.randperm(bag.shape[1], generator=torch.Generator().manual_seed(seed + 1))]
    with torch.inference_mode():
        return float((network(bag) - network(turned)).abs().max())


def figures_of(run: Path, experiment: Experiment) -> dict[str, Any]:
    """Return all figures of a finished run, measured on the hospitals that took no part in it.

    Parameters
    ----------
    run : Path
        Of `sim.simulation.simulate`.
    experiment : Experiment
        That was run; two classes, of which the operating point looks for one.

    Returns
    -------
    dict
        ``auroc`` with ``auroc_low`` and ``auroc_high``; ``sensitivity`` and ``specificity`` at the frozen threshold as cells with Wilson's interval;
        ``attention``, ``attention_best`` and ``attention_even`` (`attention_mass`); ``order`` (`order_matters`); ``p_planted`` and ``p_null``, of the
        log-rank test of those called positive against the rest, where mortality was planted by honeycombing and where it was not.
    """
    settings = simulation_of(experiment)
    held_out = list(settings.held_out) if isinstance(settings, Phantoms) else []
    sites = [str(run / "hospitals" / name / "site.toml") for name in held_out]
    labels, positive, probability, names = called(experiment.for_sites().to_json(), str(run / "federation" / "final.safetensors"), sites)
    label = point_of(experiment).label
    p, truth = np.array(probability), np.array(labels) == label
    area = score(truth.astype(int), np.column_stack([1 - p, p]), ("rest", "positive"), metrics=("auroc_macro",), groups=names)["auroc_macro"]
    planted = _planted(run, experiment, held_out)
    amount = np.array([planted.get(name, 0.0) for name in names])
    looks = attention_mass(run, experiment, held_out)
    tests = {ratio: log_rank(planted_survival(amount, hazard_ratio=ratio, seed=experiment.seed), positive)["p"] for ratio in (HAZARD_RATIO, 1.0)}
    return {
        "auroc": area["value"],
        "auroc_low": area["low"],
        "auroc_high": area["high"],
        **{name.split("_", maxsplit=1)[0]: cell for name, cell in point_cells(np.array(labels), np.array(positive), label).items()},
        "attention": looks["attention"],
        "attention_best": looks["best"],
        "attention_even": looks["even"],
        "order": order_matters(run, experiment),
        "p_planted": tests[HAZARD_RATIO],
        "p_null": tests[1.0],
        "patients": len(names),
    }


def met(figures: Mapping[str, Any]) -> dict[str, bool]:
    """Say of each bound whether the figure keeps it; what is undefined does not.

    Examples
    --------
    >>> met({"auroc": 0.96, "attention": 0.5, "order": 0.0, "p_planted": 0.001, "p_null": None})
    {'auroc': True, 'attention': False, 'order': True, 'p_planted': True, 'p_null': False}
    """
    compare = {">=": np.greater_equal, "<=": np.less_equal, "<": np.less}
    return {name: figures[name] is not None and bool(compare[how](figures[name], bound)) for name, (how, bound) in BOUNDS.items()}


def _planted(run: Path, experiment: Experiment, hospitals: list[str]) -> dict[str, float]:
    """Return the planted honeycombing of each patient's first visit by pseudonym, percent of the lung."""
    found: dict[str, float] = {}
    for name in hospitals:
        names = Pseudonyms(phantom_secret(experiment.seed, name))
        for visit in read_json(run / "truth" / name / "truth.json")["visits"]:
            found.setdefault(names.patient(visit["patient_id"]), float(visit["extents"].get("honeycombing", 0.0)))
    return found
