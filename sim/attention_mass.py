"""Where a detector looks, against where disease was planted: the share of a pattern's voxels in the slices of highest attention."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from client.cases.cache import load
from client.cases.cohort import Cohort
from client.cases.identity import Pseudonyms
from client.site import Site
from client.training.gradient import network_of
from client.training.records import slice_numbers, slices_of
from shared_models.core.files import read_json, read_state
from shared_models.experiment import Experiment
from shared_models.taxonomy import PATTERN_CODES
from sim.hospital.key import phantom_secret


def mass_in_top(attention: np.ndarray, amount: np.ndarray, share: float = 0.2) -> float:
    """Return the share of `amount` (k,) that lies in the `share` of slices of highest `attention` (k,), rounded up; NaN without any.

    Examples
    --------
    >>> mass_in_top(np.array([0.1, 0.6, 0.1, 0.1, 0.1]), np.array([0, 30, 10, 0, 0]))
    0.75
    """
    top = np.argsort(-attention, kind="stable")[: math.ceil(share * len(attention))]
    return float(amount[top].sum() / amount.sum()) if amount.sum() else math.nan


def attention_mass(run: Path, experiment: Experiment, hospitals: list[str], *, pattern: str = "honeycombing", share: float = 0.2) -> dict[str, Any]:
    """Return, over all patients of phantom hospitals in whom a pattern was planted, the mean share of it in the slices of highest attention.

    Parameters
    ----------
    run : Path
        A finished run of phantoms: ``hospitals``, ``truth`` and ``federation/final.safetensors``.
    experiment : Experiment
        Its network must look at slices by attention, and its preparation keep the scanner's grid.
    hospitals : list of str
        Which, best those that did not train.
    pattern : str
        A line of PATTERNS.
    share : float
        Of the slices that the network reads.

    Returns
    -------
    dict
        ``attention``, ``best`` (the same for slices chosen by the truth: no attention can do better), ``even`` (expected of slices drawn at
        random) and the number of ``patients``.
    """
    import torch

    network, code = network_of(experiment, read_state(run / "federation" / "final.safetensors")), PATTERN_CODES[pattern]
    found, best, chance = [], [], []
    for name in hospitals:
        site = Site.load(run / "hospitals" / name / "site.toml")
        names = Pseudonyms(phantom_secret(experiment.seed, name))
        cases = {case.pseudonym: case for case in Cohort.load(site.workspace / "cohort.json").cases}
        for visit in read_json(run / "truth" / name / "truth.json")["visits"]:
            case = cases.get(names.patient(visit["patient_id"]))
            if case is None or not visit["extents"].get(pattern):
                continue
            prepared = load(site.workspace / case.visits[0].prepared).prepared
            with np.load(run / "truth" / name / f"{visit['patient_id']}-{visit['study_date']}.npz", allow_pickle=False) as planted:
                labels = planted["labels"][::-1]  # the truth runs from head to feet
            if prepared.mask is None or labels.shape != prepared.mask.shape:
                continue
            numbers = slice_numbers(prepared.mask, experiment.inputs.slices)
            with torch.inference_mode():
                _, weights = network.look(torch.from_numpy(slices_of(prepared, experiment.inputs)[None]))  # type: ignore[operator]
            amount = (labels == code).sum((1, 2))[numbers]
            found.append(mass_in_top(weights[0].numpy(), amount, share))
            best.append(mass_in_top(amount.astype(float), amount, share))
            chance.append(math.ceil(share * len(numbers)) / len(numbers))
    means = {name: float(np.nanmean(values)) if values else math.nan for name, values in (("attention", found), ("best", best), ("even", chance))}
    return {**means, "patients": len(found)}
