"""Which of a site's patients an experiment sees, and how a model does on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from client.cases.cache import is_annotated
from client.cases.cohort import Cohort
from client.cases.course import from_landmark
from client.cases.patches import read_patches
from client.cases.reported import is_reported
from client.cases.splits import dealt, drawn_fold, place, split
from client.cases.survival import diagnosis_numbers, outcome_of
from client.cases.table import read_table
from client.privacy.gate import RANGES, Measured
from client.site import Site
from client.sliding import patches_as_read
from client.training import PREDICTORS, objective_loss, pixel_tables
from client.training.courses import course_records, table_courses
from client.training.records import Records, See, reads_gaps, records_of
from client.training.targets import drawn_records
from shared_models.catalogue import spec_in, spec_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment, Inputs
from shared_models.metrics import score
from shared_models.metrics.findings import score_findings
from shared_models.metrics.segmentation import score_pixels
from shared_models.metrics.survival import score_survival


def patch_records(site: Site, experiment: Experiment) -> Records:
    """Return the site's labelled patches as records, in HU or in the experiment's window as the model wants.

    A patch is a bag of one to a model of slices, and a row of features to a model of tables.
    """
    spec = spec_of(experiment.model)
    if spec.takes not in ("patch", "slices", "table") or site.site.patches is None:
        raise BadCohort("patches need a model that takes a patch and a site with `patches` in its TOML", value=experiment.model.name)
    source = site.path(site.site.patches)
    hu, labels, names, identified = read_patches(source, experiment.data.classes)
    if spec.takes == "table":
        from client.patch_table import kept_patch_features  # feature families load image libraries: tables of numbers do without

        rows = kept_patch_features(hu[:, 0], experiment, source=source, workspace=site.workspace)
        return Records(rows, labels, names, identified)
    return Records(patches_as_read(hu, spec.units, experiment.inputs), labels, names, identified)


def cohort_of(site: Site, experiment: Experiment) -> Cohort:
    """Return the site's prepared patients that carry one of the experiment's classes, after its merging of labels.

    Of survival these are the patients whose time and event are known (and who were still followed at the landmark of a course), of findings those of
    whom any is known, of reconstruction all of them.
    """
    cohort = Cohort.load(site.workspace / "cohort.json")
    merge, classes = experiment.data.merge, experiment.data.classes
    if experiment.data.target == "survival":
        known = [(case, from_landmark(outcome_of(case, experiment.data), experiment.inputs)) for case in cohort.cases]
        told = [replace(case, label=classes[outcome[0]], diagnosis=case.label) for case, outcome in known if outcome is not None]
        return Cohort(tuple(told), classes)
    if experiment.data.target == "segmentation":  # of one class all: their split is by patient alone, whatever the diagnosis
        anybody = experiment.data.annotation == "lung" or experiment.inputs.unlabelled is not None
        drawn = [case for case in cohort.cases if anybody or is_annotated(site.workspace / case.visits[0].prepared)]
        return Cohort(tuple(replace(case, label=classes[0]) for case in drawn), classes)
    if experiment.data.target in ("reconstruction", "findings"):  # of one class all, too
        known_of = [case for case in cohort.cases if experiment.data.target == "reconstruction" or is_reported(case, classes)]
        return Cohort(tuple(replace(case, label=classes[0]) for case in known_of), classes)
    cases = [replace(case, label=merge.get(case.label or "", case.label)) for case in cohort.cases]
    return Cohort(tuple(case for case in cases if case.label in classes), classes)


def table_records(site: Site, experiment: Experiment) -> tuple[Records, np.ndarray]:
    """Return the rows of the site's table as records in the experiment's scale, and which of them are for validation.

    What is learnt from the rows to scale or fill them is learnt from training rows alone.

    Raises
    ------
    BadCohort
        The site has no table, the model reads none, or no training row is left.
    """
    reads_gaps(experiment)
    if spec_of(experiment.model).takes != "table" or site.site.table is None:
        raise BadCohort("a table needs a model that takes one and a site with `table` in its TOML", value=experiment.model.name)
    table = read_table(site.path(site.site.table), experiment)
    if experiment.evaluation.fold is not None and any(table.parts):
        raise BadCohort("folds deal every patient of a table", value="part", remedy="leave the column part out, or evaluation.fold")
    _refuse_nameless(experiment, identified=table.identified)
    classes = dict(zip(reversed(table.names), map(str, reversed(table.labels.tolist())), strict=True))  # of several rows the first says the class
    apart = _parted(experiment, classes)
    if experiment.inputs.visits == "course":
        records, parts = table_courses(table, experiment), dict(zip(table.names, table.parts, strict=True))
        return records, np.array([parts[n] == "validation" or (not parts[n] and n in apart) for n in records.names], bool)
    held = np.array([part == "validation" or (not part and name in apart) for name, part in zip(table.names, table.parts, strict=True)], bool)
    if held.all():
        raise BadCohort("a table needs training rows with every column and a class", value=len(held))
    values = scaled(table.values, experiment.inputs, training=~held)
    said = diagnosis_numbers(table.diagnoses, experiment.data) if table.diagnoses is not None else None
    return Records(values, table.labels, table.names, table.identified, times=table.times, targets=said), held


def scaled(values: np.ndarray, inputs: Inputs, *, training: np.ndarray) -> np.ndarray:
    """Return a table (n, columns) filled and scaled as `inputs` says; `training` (n,) marks the rows that may be learnt from."""
    values = np.array(values)
    if inputs.missing == "median" and np.isnan(values).any():
        known = np.where(np.isnan(values[training]).all(0), 0.0, values[training])  # a column that a site never measured is 0 there
        values = np.where(np.isnan(values), np.nanmedian(known, axis=0), values)
    if inputs.scale == "site":
        mean, spread = _known_moments(values[training])
        values = (values - mean) / np.where(spread > 0, spread, 1.0)
    elif inputs.scale == "range":
        low, high = np.array([inputs.ranges.get(name, (0.0, 1.0)) for name in inputs.columns]).T
        values = np.clip(2 * (values - low) / (high - low) - 1, -1, 1)
    return values


def _known_moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each column (c,) over its known values, 0 where none is."""
    if not np.isnan(rows).any():
        return rows.mean(0), rows.std(0)
    known = ~np.isnan(rows)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, rows, 0.0).sum(0) / count
    return mean, np.sqrt(np.where(known, (rows - mean) ** 2, 0.0).sum(0) / count)


def all_records(site: Site, experiment: Experiment, *, see: See | None = None) -> Records:
    """Return all labelled records of a site; `see` changes each prepared study first."""
    if experiment.data.kind == "patches":
        return patch_records(site, experiment)
    if experiment.data.kind == "table":
        return table_records(site, experiment)[0]
    if experiment.data.target == "segmentation":
        if spec_of(experiment.model).takes == "table":
            from client.training.windows import window_records  # windows load image libraries: tables of numbers do without

            return window_records(cohort_of(site, experiment).cases, experiment, site.workspace, see=see)
        return drawn_records(cohort_of(site, experiment).cases, experiment, site.workspace, see=see)
    if experiment.data.annotation == "lung":
        cases = cohort_of(site, experiment).cases
        labels = [experiment.data.classes.index(str(case.label)) for case in cases]
        return replace(drawn_records(cases, experiment, site.workspace, see=see), labels=np.array(labels, np.int64))
    if experiment.inputs.visits == "course":
        return course_records(cohort_of(site, experiment).cases, experiment)
    return records_of(cohort_of(site, experiment).cases, experiment, site.workspace, see=see)


def split_records(site: Site, experiment: Experiment, *, see: See | None = None, every_visit: bool = False) -> tuple[Records, Records]:
    """Return training and validation records, split by a keyed hash of the patient: a patient is on one side, and always on the same.

    Of a validation patient it is the first visit, or with `every_visit` all that the model reads: a fold is judged on those.
    """
    if experiment.data.kind == "table":
        rows, held_rows = table_records(site, experiment)
        return rows.take(np.flatnonzero(~held_rows)), rows.take(np.flatnonzero(held_rows))
    records = all_records(site, experiment, see=see)
    _refuse_nameless(experiment, identified=records.identified)
    held = _held_out(site, experiment, records.names)
    validation = np.array([name in held for name in records.names], bool)
    judged = records.take(np.flatnonzero(validation))
    if (
        experiment.data.kind == "studies"
        and not every_visit
        and not (experiment.data.target == "segmentation" and spec_of(experiment.model).takes == "table")
    ):
        judged = judged.first_of_each()  # of visits; windows are judged all
    return records.take(np.flatnonzero(~validation)), judged


def training_names(site: Site, experiment: Experiment) -> tuple[str, ...]:
    """Return the pseudonyms of the training records without reading an image of a study."""
    if experiment.data.kind == "table":
        return split_records(site, experiment)[0].names
    if experiment.data.kind == "patches":
        names = patch_records(site, experiment).names
    else:
        names = tuple(case.pseudonym for case in cohort_of(site, experiment).cases)
    held = _held_out(site, experiment, names)
    return tuple(name for name in names if name not in held)


def _held_out(site: Site, experiment: Experiment, names: Sequence[str]) -> set[str]:
    if experiment.evaluation.from_year is not None:
        return later_patients(site, names, experiment.evaluation.from_year)
    if experiment.data.kind == "patches" or experiment.privacy.at_sites:
        return _parted(experiment, dict.fromkeys(names, ""))
    cohort = cohort_of(site, experiment)
    if experiment.evaluation.fold is not None:
        return _parted(experiment, {case.pseudonym: case.label or "" for case in cohort.cases})
    share, salt = experiment.evaluation.validation, f"validation/{experiment.seed}"
    return {case.pseudonym for case in split(cohort, validation=share, salt=salt)[1].cases}


def _refuse_nameless(experiment: Experiment, *, identified: bool) -> None:
    if experiment.evaluation.fold is not None and not identified:
        rule = "folds deal patients: records of nobody knows whom may lie in several"
        raise BadCohort(rule, remedy="name the patient of each record, or leave evaluation.fold out")


def _parted(experiment: Experiment, classes: Mapping[str, str]) -> set[str]:
    """Return those of the patients (pseudonym to class) who are for validation by the experiment's fold, or by the share where it names none."""
    evaluation, seed = experiment.evaluation, experiment.seed
    if evaluation.fold is None or evaluation.folds is None:
        return {name for name in classes if place(name, salt=f"validation/{seed}") < evaluation.validation}
    salt, count = f"folds/{seed}", evaluation.folds
    # Under privacy nobody's side may hang on who else is there, as it does when the classes are split evenly.
    if experiment.data.kind == "patches" or experiment.privacy.at_sites:
        return {name for name in classes if drawn_fold(name, count=count, salt=salt) == evaluation.fold}
    return {name for name, fold in dealt(classes, count=count, salt=salt).items() if fold == evaluation.fold}


def later_patients(site: Site, names: Sequence[str], year: int) -> set[str]:
    """Return the patients among `names` whose first scan is of `year` or later: all of a patient's visits lie on the side of the first.

    Raises
    ------
    BadCohort
        The year of a patient's first scan is not known, or all patients lie on one side.
    """
    from client.acquisition_profile import years_of_first_scans

    years = years_of_first_scans(site.workspace)
    known = {name: years.get(name) for name in set(names)}
    if unknown := sum(of is None for of in known.values()):
        rule = "a temporal split needs the year of every patient's first scan"
        raise BadCohort(rule, value=f"{unknown} of {len(known)} not known", remedy="leave evaluation.from_year out")
    later = {name for name, of in known.items() if of is not None and of >= year}
    if not 0 < len(later) < len(known):
        rule = f"a temporal split needs patients first scanned before {year} and since"
        raise BadCohort(rule, value=f"{len(later)} of {len(known)} since", remedy="choose another evaluation.from_year")
    return later


def loss_of(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross-entropy of `probabilities` (n, classes) on `labels` (n,), in nats."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())


def received_loss(experiment: Experiment, state: State, training: Records) -> Measured:
    """Return the loss of a received state on the site's training patients."""
    if spec_in(experiment).objective is not None or experiment.data.target == "findings":
        return Measured(objective_loss(experiment, state, training), training.patients)
    return Measured(loss_of(PREDICTORS[spec_of(experiment.model).fit](experiment, state, training), training.labels), training.patients)


def measure(experiment: Experiment, state: State, records: Records) -> dict[str, Measured]:
    """Judge `state` on a site's own validation patients: loss, accuracy and macro AUROC with the numbers of patients behind them.

    Of findings the AUROC is the mean over findings. Of segmentation it is Dice, of every class that the gate knows by name with the patients who have
    it, and their mean. Of survival it is Harrell's C of the risk by the last horizon, with the patients who had the event as the class that must be
    large enough, and a network's loss.
    """
    if len(records) == 0:
        return {}
    spec = spec_in(experiment)
    if spec.task == "segmentation":
        return _measure_pixels(experiment, state, records)
    if spec.task == "reconstruction":
        return {"val_loss": Measured(objective_loss(experiment, state, records), len(records)), "val_cases": Measured(len(records), len(records))}
    if experiment.data.target == "findings":
        return _measure_findings(experiment, state, records)
    probabilities = PREDICTORS[spec.fit](experiment, state, records)
    if spec.task == "survival":
        found = score_survival(records.outcome, probabilities[:, -1], bootstrap=0)["harrell_c"]
        measured = {"val_harrell_c": Measured(found["value"], len(records), found["events"]), "val_cases": Measured(len(records), len(records))}
        loss = {} if spec.objective is None else {"val_loss": Measured(objective_loss(experiment, state, records), len(records))}
        return loss | measured
    classes = experiment.data.classes
    counts = np.bincount(records.labels, minlength=len(classes))
    smallest = int(counts[counts > 0].min())
    n = len(records)
    loss = loss_of(probabilities, records.labels)
    scores = score(records.labels, probabilities, classes, metrics=("auroc_macro", "accuracy"), bootstrap=0)
    return {
        "val_loss": Measured(loss, n),
        "val_accuracy": Measured(scores["accuracy"]["value"], n),
        "val_auroc_macro": Measured(scores["auroc_macro"]["value"], n, smallest),
        "val_cases": Measured(n, n),
    }


def _measure_findings(experiment: Experiment, state: State, records: Records) -> dict[str, Measured]:
    targets, n = np.asarray(records.targets), len(records)
    probabilities = PREDICTORS[spec_of(experiment.model).fit](experiment, state, records)
    value = score_findings(targets, probabilities, experiment.data.classes, bootstrap=0)["auroc_macro"]["value"]
    answers = np.stack([(targets == answer).sum(0) for answer in (0, 1)])
    told = answers[:, answers.min(0) > 0]  # the questions that have both answers, of which the mean is taken
    return {
        "val_loss": Measured(objective_loss(experiment, state, records), n),
        "val_auroc_macro": Measured(value, n, int(told.min()) if told.size else 0),
        "val_cases": Measured(n, n),
    }


def _measure_pixels(experiment: Experiment, state: State, records: Records) -> dict[str, Measured]:
    n, tables = records.patients, pixel_tables(experiment, state, records)
    scores = score_pixels(tables, experiment.data.classes, bootstrap=0)
    held = {name: int((tables[:, number].sum(1) > 0).sum()) for number, name in enumerate(experiment.data.classes)}
    least = min((held[name] for name in experiment.data.classes[1:] if held[name]), default=0)
    each = {f"val_dice_{name}": Measured(scores[f"dice_{name}"]["value"], n, held[name]) for name in experiment.data.classes[1:]}
    spec = spec_of(experiment.model)
    windows = spec.fit == "trees"
    loss = loss_of(PREDICTORS[spec.fit](experiment, state, records), records.labels) if windows else objective_loss(experiment, state, records)
    return {
        "val_loss": Measured(loss, n),
        "val_dice": Measured(scores["dice"]["value"], n, least),
        **{name: found for name, found in each.items() if name in RANGES},
        "val_cases": Measured(n, n),
    }
