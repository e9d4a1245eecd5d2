"""What the evaluation of a simulation tells beside the figures themselves: which split they are of, and what released histograms would tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from shared_models.calibration.score_histograms import ScoreHistograms, score_histograms
from shared_models.experiment import Experiment
from shared_models.judging.released import beside, released_sites, released_table
from shared_models.phases import calibrations_of

Answer = tuple[list[int], list[list[float]], list[str]]
"""Labels, probabilities and pseudonyms of patients."""


def split_facts(experiment: Experiment, unseen: Sequence[str], names: Sequence[str], later: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return which split the main figures are of, in words, and the figures of the temporal one where both kinds are there: they are never mixed.

    Parameters
    ----------
    later : callable
        Makes the table of the training hospitals' validation patients, who came later where the split is temporal.
    """
    year, said = experiment.evaluation.from_year, experiment.evaluation.split_in_words
    if unseen:
        own = f"The figures are of {', '.join(unseen)}, where nobody trained; {', '.join(names)} trained. {said}"
        return {"kind": "geographic", "said": own, "from_year": year, "temporal": later() if year else None}
    return {"kind": "temporal" if year else "random", "said": said, "from_year": year, "temporal": None}


def released_beside(experiment: Experiment, parts: Mapping[str, Answer]) -> dict[str, dict[str, Any]]:
    """Return what the sites' released histograms would tell of their patients, each counted once, with the exact figures beside.

    ``all`` is the table of all sites together, ``sites`` has that of each by name.
    """
    classes = list(experiment.data.classes)
    named = [fit for fit in calibrations_of(experiment) if isinstance(fit, ScoreHistograms)]
    fit = named[0] if named else score_histograms(len(classes))
    own: dict[str, tuple[np.ndarray, float]] = {}
    known: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for site, (y, p, who) in parts.items():
        first = sorted({name: place for place, name in reversed(list(enumerate(who)))}.values())
        known[site] = np.asarray(y, np.int64)[first], np.asarray(p, np.float64).reshape(-1, len(classes))[first]
        own[site] = fit.of(known[site][1], known[site][0]).astype(np.float64), float(len(first))
    labels, rows = (np.concatenate([one[place] for one in known.values()]) for place in range(2))
    total = np.sum([cells for cells, _ in own.values()], axis=0)
    sites = {site: beside(table, *known[site], classes) for site, table in released_sites(own, classes).items()}
    return {"all": beside(released_table(total, len(labels), classes), labels, rows, classes), "sites": sites}
