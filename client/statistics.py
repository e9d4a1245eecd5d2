"""What a model sees once the statistics of its experiment are known: the site's records under each of them, and what the next is fitted on.

Everything is taken from the fits that travel in the state and from the site's own training records; what a site finds out for itself (its
location and scale under ComBat) is found anew from these whenever it is needed, and is kept nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from client.cases.prepared import Prepared
from client.preprocessing.standardise import standardise
from client.selection import all_records, split_records
from client.site import Site
from client.training.records import Records
from shared_models.core.arrays import State
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment
from shared_models.harmonisation.landmarks import contribution
from shared_models.phases import fit_of, statistics_of
from shared_models.statistics import STATISTICS
from shared_models.statistics.life_table import told_table


def lung_histogram(prepared: Prepared) -> np.ndarray:
    """Return the histogram of a study's lung in HU, of mass 1, shape (BINS,).

    Raises
    ------
    BadCohort
        The image is no longer in HU, or has no lung.
    """
    if not prepared.is_hu:
        raise BadCohort("landmarks are of Hounsfield units", remedy="leave steps that change them out of preparation.steps")
    if prepared.mask is None or not prepared.mask.any():
        raise BadCohort("a study needs lung in its mask", value=0)
    return contribution([prepared.volume.hu[prepared.mask > 0]])["histogram"]


def grey_values(prepared: Prepared) -> np.ndarray:
    """Return the histogram of a study's body in HU, of mass 1, shape (levels,).

    Raises
    ------
    BadCohort
        The image is no longer in HU, or has no lung.
    """
    if not prepared.is_hu:
        raise BadCohort("fuzzy_centres are of Hounsfield units", remedy="name it before landmarks; leave steps that change them out")
    if prepared.mask is None or not prepared.mask.any():
        raise BadCohort("a study needs lung in its mask", value=0)
    from client.segmentation.body import body_histogram  # segmenters are imported by the first study that is segmented, not by the first table

    return body_histogram(prepared.volume, prepared.mask)


def by_landmarks(prepared: Prepared, fit: State, experiment: Experiment) -> Prepared:
    """Return the study with its lung's percentiles at the federation's landmarks."""
    del experiment
    return standardise(prepared, standard_hu=tuple(fit["hu"].tolist()))


def by_centres(prepared: Prepared, fit: State, experiment: Experiment) -> Prepared:
    """Return the study with the mask that the experiment's segmenter finds by the federation's centres.

    Raises
    ------
    BadStudy
        ``NO_LUNG``: these centres find none.
    """
    from client.segmentation import SEGMENTERS  # see above

    chosen = experiment.preparation.segmenter
    known = Choice.model_validate({**chosen.knobs, "name": chosen.name, "clusters": len(fit["hu"]), "centres_hu": fit["hu"].tolist()})
    return replace(prepared, mask=pick(SEGMENTERS, known, kind="segmenter")(prepared.volume))


def nothing_of(prepared: Prepared) -> np.ndarray:
    """Return no number of a study, shape (0,): what became of its patient stands elsewhere."""
    del prepared
    return np.zeros(0)


FITTED_ON: dict[str, Callable[[Prepared], np.ndarray]] = {"landmarks": lung_histogram, "fuzzy_centres": grey_values, "life_table": nothing_of}
"""The row of numbers that a statistic of studies, or of outcomes, reads of each."""

APPLIED: dict[str, Callable[[Prepared, State, Experiment], Prepared]] = {"landmarks": by_landmarks, "fuzzy_centres": by_centres}
"""How a statistic of studies changes each."""


def study_seen(prepared: Prepared, experiment: Experiment, state: State, *, before: int | None = None) -> Prepared:
    """Return a prepared study as the statistics leave it; `before` counts those that are known, by default all."""
    for choice in (experiment.statistics or ())[:before]:
        if choice.name in APPLIED:
            prepared = APPLIED[choice.name](prepared, fit_of(state, choice.name), experiment)
    return prepared


def rows_seen(rows: Sequence[np.ndarray], known: np.ndarray, experiment: Experiment, state: State, *, before: int | None = None) -> list[np.ndarray]:
    """Return tables of one site as the statistics leave them.

    Parameters
    ----------
    rows : sequence of ndarray
        Tables (n, columns): training, validation, a single row.
    known : ndarray, shape (n, columns)
        The site's own records, from which it finds out what is its own.
    """
    for choice, statistic in list(zip(experiment.statistics or (), statistics_of(experiment), strict=True))[:before]:
        if STATISTICS[choice.name].takes == "table":
            fit = fit_of(state, choice.name)
            own = statistic.own(fit, known)
            rows, known = [statistic.seen(fit, own, table) for table in rows], statistic.seen(fit, own, known)
    return list(rows)


def seen_records(
    site: Site, experiment: Experiment, state: State, *, fitting: int | None = None, every_visit: bool = False
) -> tuple[Records, Records]:
    """Return training and validation records as the model sees them, or as the statistic number `fitting` does.

    Parameters
    ----------
    site : Site
        Whose.
    state : State
        Of the run: it holds the fits.
    fitting : int, optional
        Which statistic is being fitted; those before it are known.
    every_visit : bool
        Whether validation patients are seen at all their visits, not at the first alone.
    """
    training, validation = split_records(site, experiment, see=_look(experiment, state, fitting), every_visit=every_visit)
    if fitting is None and any(choice.name == "life_table" for choice in experiment.statistics or ()):
        table = told_table(fit_of(state, "life_table"))
        training, validation = replace(training, federation=table), replace(validation, federation=table)
    if not experiment.statistics or (fitting is not None and STATISTICS[experiment.statistics[fitting].name].takes != "table"):
        return training, validation
    changed = rows_seen([training.inputs, validation.inputs], training.inputs, experiment, state, before=fitting)
    return replace(training, inputs=changed[0]), replace(validation, inputs=changed[1])


def all_seen(site: Site, experiment: Experiment, state: State) -> Records:
    """Return all labelled records of a hospital that was not in the federation, as the model sees them; what is its own is found from them all."""
    records = all_records(site, experiment, see=_look(experiment, state, None))
    if not experiment.statistics:
        return records
    return replace(records, inputs=rows_seen([records.inputs], records.inputs, experiment, state)[0])


def look_of(experiment: Experiment, state: State) -> Callable[[Prepared], np.ndarray | Prepared] | None:
    """Return how the model sees a prepared study under the statistics of `state`; None where it sees it as it is."""
    return _look(experiment, state, None)


def _look(experiment: Experiment, state: State, fitting: int | None) -> Callable[[Prepared], np.ndarray | Prepared] | None:
    """Return how a prepared study is seen: a row that a statistic is fitted on, or the study as the known ones leave it; None as it is."""
    chosen = experiment.statistics or ()
    row = FITTED_ON.get(chosen[fitting].name) if fitting is not None else None
    if row is None and not any(choice.name in APPLIED for choice in chosen):
        return None

    def see(prepared: Prepared) -> np.ndarray | Prepared:
        changed = study_seen(prepared, experiment, state, before=fitting)
        return changed if row is None else row(changed)

    return see
