"""A released model applied to one patient's CT: read, prepare exactly as the release says, measure, predict, explain, write.

Each series goes its way alone; what cannot be used is named with its reason. Nothing is kept but the two files: the prepared images lie in a
private temporary folder while the work lasts, and the key of the pseudonyms is drawn anew and kept nowhere.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from client.calibration import calibrated
from client.cases.cache import load
from client.cases.clinical import ClinicalTable, read_clinical
from client.cases.cohort import Cohort, Visit
from client.cases.identity import Pseudonyms, canonical_id
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.delivered import PAGE_NAME, clear, write_outputs
from client.dicom import tags
from client.dicom.header import read_headers
from client.dicom.scan import Series, group, list_files
from client.dicom.slices import Dismissed, SliceFile
from client.disagreement import disagreement_of
from client.explanation import AUTO, NONE, check_explanation, explain
from client.features import feature_names
from client.follow_up import Line, change_told, scores_told
from client.hrct.suggestion import NEEDED, suggested
from client.outcome import Study, build_cohort, preference
from client.pattern_maps import PatternSource, load_source
from client.pattern_pictures import pattern_slices
from client.pictures import PICTURES, seen_slices
from client.prediction import Prediction, SeenSlice, SeriesPrediction, model_facts
from client.prepare import check_preparation, prepare_study
from client.prognosis import prognosis_of, states_risks
from client.returned import write_results
from client.risk_interval import uncertainty_of
from client.site import Site
from client.statistics import rows_seen, study_seen
from client.training import PREDICTORS
from client.training.personal_models import beside
from client.training.records import Records, image_of, reads_gaps, refuse_gaps, slice_numbers, table_row
from shared_models.bundle import Bundle, load_bundle
from shared_models.catalogue import spec_of
from shared_models.core.arrays import Mask
from shared_models.core.choices import Choice
from shared_models.core.errors import BadBundle, BadCohort, BadInput, BadState, BadStudy
from shared_models.ensemble import is_ensemble, largest_of
from shared_models.experiment import Experiment, Preparation
from shared_models.phases import columns_of, fit_of

LOGGER = logging.getLogger(__name__)

Mapped = tuple[Volume, Mask]
"""A pattern map: the grid that it lies on, and codes of `PATTERNS`."""

Keep = Callable[[Series, Prepared, SeriesPrediction, dict[str, Any], dict[str, Any] | None, Mapped | None], object]
"""What is done with the headline series: its images, the prepared study, what was said of it, the facts of the release, the change since before, the
pattern map."""

FROM_HEADER = ("age", "male")
"""Columns of a clinical table that the header of a CT gives."""

FEWEST_KNOWN = 10
"""Prepared patients from whom a hospital's own location and scale is learnt; `site_effect` itself needs two."""

LEFT_OUT = {"MISSING_INPUT": ("a value that the model reads is missing from this series", "predict a series that has it")}
"""Reasons beside those of `tags`: (meaning, remedy)."""


def predict_study(
    study: Path,
    bundle: Path,
    out: Path,
    *,
    personal: Path | None = None,
    site: Path | None = None,
    explanation: str = AUTO,
    patterns: Path | None = None,
    prior: Path | None = None,
    clinical: Path | None = None,
    dicom: bool = False,
    pdf: bool = False,
    pictures: bool = False,
) -> Path:
    """Apply a release to a folder with one patient's CT; write ``prediction.json`` and ``prediction.html`` and return the page's path.

    Earlier outputs in `out` are removed first, so that a failure never leaves another patient's result behind.

    Parameters
    ----------
    study : Path
        DICOM at any depth under any names; it is only read.
    bundle : Path
        A released model, see `shared_models.bundle`.
    out : Path
        Folder for the two files (0600), made when missing.
    personal : Path, optional
        Site TOML: apply the personal model that this site keeps beside the release, instead of the released one. The output says which.
    site : Path, optional
        The hospital's site TOML: a release with ComBat needs its prepared patients, from whom it takes the hospital's own effect.
    explanation : str
        A line of EXPLANATIONS for the most probable class, ``auto`` for the first that applies to the model, or ``none``.
    patterns : Path, optional
        Weights of a network of patterns, or the folder of a release that labels patterns: from its pattern map come extents by region, and the
        category of the 2022 guideline that the rules of `client.hrct` suggest.
    prior : Path, optional
        Folder with an earlier CT of the same patient: what changed since. Without it, of several visits in `study` the last two are compared.
    clinical : Path, optional
        ``clinical.csv`` with the patient's rows (`client.cases.clinical`): clinical scores, and lung function for the criteria of progression.
    dicom : bool
        Write ``segmentation.dcm`` and ``report.dcm`` (DICOM SEG of the lungs, and SR) of the headline series for the hospital's own PACS, too; with
        `patterns` also ``patterns.dcm``, a SEG of the pattern map.
    pdf : bool
        Write ``prediction.pdf``, too: the page in short, for paper. Needs the extra ``pdf``.
    pictures : bool
        Write the slices of the page as PNG files into ``pictures/``, too.

    Raises
    ------
    BadBundle
        A file of the release is missing or changed, or its weights fit no model of this version.
    BadInput
        No such folder, several patients in it, a prior that is not earlier, a model that needs more than a CT, a model of hazard ratios, a site
        without a personal model beside this release, or an explanation that does not apply to the model.
    BadStudy
        No series can be used; the reason of each is in the text.
    """
    study, out = Path(study), Path(out)
    clear(out, pdf=pdf)
    own, release = None if personal is None else Site.load(personal), load_bundle(Path(bundle))
    keep = partial(write_results, out) if dicom else None
    found = predict(study, release, own, site=site, explanation=explanation, patterns=patterns, prior=prior, clinical=clinical, keep=keep)
    write_outputs(found, out, pdf=pdf, pictures=pictures)
    return out / PAGE_NAME


def predict(
    study: Path,
    bundle: Bundle,
    personal: Site | None = None,
    *,
    site: Path | None = None,
    explanation: str = AUTO,
    patterns: Path | None = None,
    prior: Path | None = None,
    clinical: Path | None = None,
    keep: Keep | None = None,
) -> Prediction:
    """Return what a release, or the personal model of a site beside it, says about the patient whose CT lies in a folder.

    `site`, `explanation`, `patterns`, `prior`, `clinical` and errors as in `predict_study`. `keep` is handed the headline series while its prepared
    image is there.
    """
    release = make_ready(bundle, personal, site=site, explanation=explanation, patterns=patterns, clinical=clinical)
    return predict_with(release, study, prior=prior, keep=keep)


@dataclass(frozen=True)
class Ready:
    """A release with everything that is read and checked once, however many studies it is applied to."""

    bundle: Bundle
    facts: dict[str, Any]
    preparation: Preparation
    known: np.ndarray
    explanation: str
    source: PatternSource | None
    table: ClinicalTable | None


def make_ready(
    bundle: Bundle,
    personal: Site | None = None,
    *,
    site: Path | None = None,
    explanation: str = AUTO,
    patterns: Path | None = None,
    clinical: Path | None = None,
) -> Ready:
    """Check a release and read what goes with it, before any study is read; arguments and errors as in `predict_study`."""
    facts = model_facts(bundle, personal=None if personal is None else personal.site.name)
    if personal is not None:
        bundle = replace(bundle, state=beside(personal.workspace, bundle.state))
    preparation = _with_densities(bundle.experiment.preparation)
    check_preparation(preparation)
    _check_reads_studies(bundle.experiment, preparation)
    _check_weights(bundle)
    check_explanation(bundle, explanation)
    source = None if patterns is None else load_source(patterns)
    if source is not None and source.preparation is not None:
        check_preparation(source.preparation)
    table = None if clinical is None else read_clinical(clinical)
    return Ready(bundle, facts, preparation, known_rows(bundle.experiment, site), explanation, source, table)


def predict_with(release: Ready, study: Path, *, prior: Path | None = None, keep: Keep | None = None) -> Prediction:
    """Return what a release that was made ready says about the patient whose CT lies in a folder; `prior` and `keep` as in `predict`."""
    series, left = read_patient(study) if prior is None else with_prior(study, prior)
    names = Pseudonyms(secrets.token_bytes(32))
    found: list[tuple[Series, Study, SeriesPrediction]] = []
    days = sorted({one.slices[0].study_date for one in series})
    with tempfile.TemporaryDirectory(prefix="fedild-") as folder:
        way = _Way(release, names, Path(folder), maps={} if keep is not None else None)
        for one in series:
            outcome = _attempt(one, days.index(one.slices[0].study_date) + 1, way)
            if isinstance(outcome, Dismissed):
                left.append(outcome)
            else:
                found.append((one, *outcome))
                left += outcome[0].left_out
        found.sort(key=lambda f: (-f[2].visit, preference(f[1]), f[0].series_uid, f[0].part))
        lines = [Line(one.slices[0].patient_id, one.slices[0].study_date, said, study.acquisition) for one, study, said in found]
        change = change_told(lines, release.source, release.table) if lines else None
        if keep is not None and found:
            headline, prepared_as, said = found[0]
            prepared = load(way.workspace / "cache" / prepared_as.cached).prepared
            keep(headline, prepared, said, release.facts, change, way.map_of(said.series))
    if not found:
        reasons = [f"{line['reason']} ({line['meaning']}; files: {line['files']})" for line in count_left_out(left)]
        remedy = "check that the folder holds the axial series of a chest CT"
        raise BadStudy("NO_SERIES", "a study needs a series that can be used", value=reasons or "an empty folder", remedy=remedy)
    scores = None if release.table is None else scores_told(lines[0], release.table)
    return Prediction(tuple(said for *_, said in found), tuple(count_left_out(left)), release.facts, change, scores)


def with_prior(study: Path, prior: Path) -> tuple[list[Series], list[Dismissed]]:
    """Return the series of a study and of an earlier one of the same patient, and what was turned away in both.

    Raises
    ------
    BadInput
        Another patient, or a prior that is not earlier than every visit of the study.
    """
    (series, left), (earlier, more) = read_patient(study), read_patient(prior)
    numbers = {canonical_id(one.slices[0].patient_id) for one in (*series, *earlier)}
    if len(numbers) > 1:
        raise BadInput("a prior is of the same patient", value=f"{len(numbers)} patient numbers", remedy="name an earlier study of this patient")
    days = [{one.slices[0].study_date for one in part} for part in (series, earlier)]
    if series and earlier and max(days[1]) >= min(days[0]):
        raise BadInput("a prior is earlier than the study", value="not earlier", remedy="check the dates of the two studies, and their order")
    return [*series, *earlier], [*left, *more]


def read_patient(folder: Path) -> tuple[list[Series], list[Dismissed]]:
    """Return the series of the one patient in a folder, and what was turned away.

    Raises
    ------
    BadInput
        The folder does not exist or holds CT slices of several patients.
    """
    if not folder.is_dir():
        raise BadInput("the study must be a folder with DICOM files", value=str(folder), remedy="check the path")
    headers = read_headers(list_files(folder))
    patients = {canonical_id(header.patient_id) for header in headers if isinstance(header, SliceFile)}
    if len(patients) > 1:
        raise BadInput("a study folder must hold one patient", value=f"{len(patients)} patient numbers", remedy="predict each patient's folder alone")
    return group(headers)


def predict_series(
    visit: Visit, bundle: Bundle, workspace: Path, known: np.ndarray, explanation: str = NONE
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the class probabilities of one prepared series, and what the model saw: its ``slices`` and, for a table, its ``columns``.

    Of survival there are no classes, and ``risks`` by horizon in their place. With them go the ``explanation`` of the most probable class and what
    the release's ``calibration`` says, where there are any. `known`
    (n, columns) are rows of the hospital's own patients, from which ComBat takes the hospital's effect; none where the release does without.

    Raises
    ------
    BadCohort
        A value that the model reads is missing, or a model of volumes gets a series with gaps.
    """
    experiment, spec = bundle.experiment, spec_of(bundle.experiment.model)
    stored = load(workspace / visit.prepared)
    refuse_gaps(stored, spec)
    prepared = stored.prepared
    mask = prepared.mask
    if mask is None or not mask.any():
        raise BadCohort("a study needs lung in its mask", value=0)
    columns: dict[str, float] = {}
    if spec.takes == "table":
        model_input = table_row(visit, experiment.inputs.columns, gaps=reads_gaps(experiment))
        columns = dict(zip(experiment.inputs.columns, model_input.tolist(), strict=True))
        model_input = rows_seen([model_input[None]], known, experiment, bundle.state)[0][0]
    else:
        changed = study_seen(prepared, experiment, bundle.state)
        model_input = image_of(changed, spec, experiment.inputs)
        mask = mask if changed.mask is None else changed.mask
        prepared = replace(prepared, mask=mask)
    records = Records(model_input[None], np.zeros(1, np.int64), (visit.series,))
    survival = experiment.data.target == "survival"
    found, said = (prognosis_of(experiment, bundle.state, records)[0], None) if survival else calibrated(experiment, bundle.state, records)
    probabilities = np.clip(found, 0.0, 1.0).tolist()  # a mean of many ones may lie a rounding above one
    attention = attention_of(bundle, model_input) if spec.takes == "slices" else None
    why = None if survival else explain(bundle, model_input, int(np.argmax(probabilities)), method=explanation, prepared=prepared)
    if attention is not None:
        numbers = slice_numbers(mask, experiment.inputs.slices).tolist()
    elif why is not None and why.planes:
        numbers = sorted(why.planes, key=lambda number: -float(why.planes[number].sum()))[:PICTURES]
    else:
        numbers = slice_numbers(mask, 5)[1:4].tolist()
    pictures = seen_slices(prepared, numbers, attention, why.planes if why is not None else None)
    seen = {"columns": columns, "slices": pictures, "explanation": None if why is None else why.as_dict()}
    seen["calibration"] = said.as_dict() if experiment.calibration and said is not None else None
    sums = experiment.data.target not in ("survival", "findings")  # it is of probabilities that sum to 1
    seen["disagreement"] = float(disagreement_of(experiment, bundle.state, records)[0]) if is_ensemble(bundle.state) and sums else None
    if survival:
        seen["risk_uncertainty"] = uncertainty_of(experiment, bundle.state, records)
        seen["risks"] = {f"{horizon:g}": risk for horizon, risk in zip(experiment.data.horizons, probabilities, strict=True)}
        return {}, seen
    return dict(zip(experiment.data.classes, probabilities, strict=True)), seen


def known_rows(experiment: Experiment, site: Path | None) -> np.ndarray:
    """Return the rows of the hospital's own patients, labelled or not, where a statistic of the release reads them; none where none does.

    Raises
    ------
    BadInput
        A release with ComBat and no hospital, or one with too few prepared patients.
    """
    nobody = np.zeros((0, len(experiment.inputs.columns)))
    if all(choice.name != "combat" for choice in experiment.statistics or ()):
        return nobody
    if site is None:
        raise BadInput(
            "this release takes off what is the hospital's own, which it learns from patients of the hospital",
            remedy="name the hospital with --site site.toml, after `fedild prepare`",
        )
    rows = []
    for case in Cohort.load(Site.load(site).workspace / "cohort.json").cases:
        with suppress(BadCohort):  # a patient without one of the values says nothing
            rows.append(table_row(case.visits[0], experiment.inputs.columns))
    if len(rows) < FEWEST_KNOWN:
        raise BadInput(f"a hospital's own effect is learnt from at least {FEWEST_KNOWN} prepared patients", value=len(rows), remedy="prepare more")
    return np.stack(rows)


def attention_of(bundle: Bundle, image: np.ndarray) -> list[float] | None:
    """Return the weight that an attention network gives each slice of `image` (slices, y, x), or None for a network without attention.

    Of an ensemble it is the attention of the member with the largest weight.
    """
    import torch

    from client.training.gradient import network_of

    network = network_of(bundle.experiment, largest_of(bundle.state))
    look = getattr(network, "look", None)
    if look is None:
        return None
    with torch.inference_mode():
        _, weights = look(torch.from_numpy(np.ascontiguousarray(image[None], np.float32)))
    return weights[0].tolist()


def count_left_out(left: Iterable[Dismissed]) -> list[dict[str, Any]]:
    """Return what was not used by reason, with its meaning, the remedy and the number of files; never a path.

    Examples
    --------
    >>> count_left_out([Dismissed("NOT_CT", ("a", "b")), Dismissed("NOT_CT", ("c",))])
    [{'reason': 'NOT_CT', 'meaning': 'not a CT image', 'remedy': 'none needed', 'files': 3}]
    """
    counts: dict[str, int] = {}
    for one in left:
        counts[one.reason] = counts.get(one.reason, 0) + len(one.paths)
    texts = tags.SKIPPED | tags.QUARANTINED | LEFT_OUT
    return [
        {"reason": reason, "meaning": texts[reason][0], "remedy": texts[reason][1], "files": files}
        for reason, files in sorted(counts.items(), key=lambda item: (item[0] in tags.SKIPPED, item[0]))
    ]


@dataclass(frozen=True)
class _Way:
    """What is the same for all series of a patient."""

    release: Ready
    names: Pseudonyms
    workspace: Path
    maps: dict[str, str] | None
    """Of series whose pattern map is kept for the results: name of the series to that of its prepared study in the cache."""

    def keep_map(self, series: str, cached: str, labels: Mask) -> None:
        """Put a pattern map aside; on disk, since only that of the headline series is wanted."""
        if self.maps is not None:
            self.maps[series] = cached
            np.save(self._labels(cached), labels, allow_pickle=False)

    def map_of(self, series: str) -> Mapped | None:
        """Return what was put aside, if anything was."""
        if self.maps is None or series not in self.maps:
            return None
        grid = load(self.workspace / "cache" / self.maps[series]).prepared.volume
        return grid, np.load(self._labels(self.maps[series]), allow_pickle=False)

    def _labels(self, cached: str) -> Path:
        return self.workspace / f"{Path(cached).stem}.patterns.npy"


def _attempt(one: Series, visit_number: int, way: _Way) -> tuple[Study, SeriesPrediction] | Dismissed:
    paths = tuple(s.path for s in one.slices)
    try:
        study = prepare_study(one, way.release.preparation, names=way.names, workspace=way.workspace)
    except BadStudy as error:
        listed = error.reason in tags.SKIPPED or error.reason in tags.QUARANTINED
        return Dismissed(error.reason if listed else "FAILED", paths, one.series_uid)
    except Exception as error:  # one series never stops the others; the text stays on this machine
        LOGGER.warning("series %s: %s", way.names.series(one.series_uid, one.part), type(error).__name__)
        LOGGER.debug("trace", exc_info=True)
        return Dismissed("FAILED", paths, one.series_uid)
    # the cohort's own way from a study to what a model may read: features, and age and sex of the header
    visit = build_cohort([(one, study)], ClinicalTable(), way.names).cases[0].visits[0]
    try:
        probabilities, seen = predict_series(visit, way.release.bundle, way.workspace, way.release.known, way.release.explanation)
    except BadCohort:
        return Dismissed("MISSING_INPUT", paths, one.series_uid)
    seen["category"], seen["quantities"], seen["pattern_slices"] = _by_patterns(one, study, visit.series, way)
    kept = ("manufacturer", "kernel_class", "thickness_mm", "kvp", "position", "contrast")
    acquisition = {name: getattr(study.acquisition, name) for name in kept} | {"spacing_mm": list(study.spacing_mm), "slices": study.slices}
    return study, SeriesPrediction(visit.series, visit_number, acquisition, study.findings, study.features, probabilities=probabilities, **seen)


def _by_patterns(one: Series, study: Study, series: str, way: _Way) -> tuple[dict[str, Any], dict[str, Any] | None, tuple[SeenSlice, ...]]:
    """Return category, quantities and pictures of a series by the pattern map of the study as its source wants it prepared."""
    source = way.release.source
    if source is None:
        return dict(NEEDED), None, ()
    try:
        own = study if source.preparation is None else prepare_study(one, source.preparation, names=way.names, workspace=way.workspace)
    except BadStudy as error:
        return {"category": None, "needs": f"a pattern map, which this series does not allow ({error.reason})"}, None, ()
    prepared = load(way.workspace / "cache" / own.cached).prepared
    category, quantities, labels = suggested(prepared, source)
    if labels is not None:
        way.keep_map(series, own.cached, labels)
    return category, quantities, () if labels is None else pattern_slices(prepared, labels)


def _with_densities(preparation: Preparation) -> Preparation:
    """Add densitometry where the release does not ask for it: the page shows it, the model's input stays as it is."""
    if any(choice.name == "densitometry" for choice in preparation.features):
        return preparation
    return preparation.model_copy(update={"features": (*preparation.features, Choice(name="densitometry"))})


def _check_reads_studies(experiment: Experiment, preparation: Preparation) -> None:
    if experiment.data.kind != "studies" or spec_of(experiment.model).takes == "patch":
        raise BadInput("a model of patches cannot read a study", value=experiment.name, remedy="use a release that was trained on studies")
    if spec_of(experiment.model).task == "segmentation":
        rule = "a release that labels pixels says nothing of a patient"
        patterns = "name it with --patterns, beside a release that names diseases"
        lungs = "make it the segmenter of a preparation: fedild segmenter BUNDLE --out FILE"
        raise BadInput(rule, value=experiment.name, remedy=patterns if experiment.data.annotation == "patterns" else lungs)
    if experiment.data.target == "reconstruction":
        remedy = "start a diagnosis model from it: [model.weights]"
        raise BadInput("a network that learnt without labels names no disease", value=experiment.name, remedy=remedy)
    if experiment.inputs.visits == "course":
        remedy = "use a release that reads one visit; this one is judged by the report of its run"
        raise BadInput("a release that reads the course of a patient is not applied to one study", value=experiment.name, remedy=remedy)
    survival = experiment.data.target == "survival"
    if survival and not (experiment.data.horizons and states_risks(experiment)):  # a hazard relative to other patients is no probability
        remedy = "use a release whose network learnt survival; hazard ratios stand in the report of this one's run"
        raise BadInput(
            "a prediction is of classes or of risks, and a model of hazard ratios knows neither", value=experiment.model.name, remedy=remedy
        )
    missing = sorted(set(experiment.inputs.columns) - {*feature_names(preparation.features), *FROM_HEADER})
    if (
        missing
        and spec_of(experiment.model).takes == "table"
        and (experiment.inputs.missing != "mask" or len(missing) == len(experiment.inputs.columns))
    ):
        raise BadInput("a CT must hold all that the model reads", value=missing, remedy="use a release without clinical variables")


def _check_weights(bundle: Bundle) -> None:
    # no records: weights are loaded and nothing is computed, before hundreds of slices are read
    nothing = Records(np.zeros((0, len(columns_of(bundle.experiment)))), np.zeros(0, np.int64), ())
    try:
        for choice in bundle.experiment.statistics or ():
            fit_of(bundle.state, choice.name)
        for choice in bundle.experiment.calibration or ():
            fit_of(bundle.state, choice.name, after=True)
        PREDICTORS[spec_of(bundle.experiment.model).fit](bundle.experiment, bundle.state, nothing)
    except (BadState, KeyError, ValueError):
        raise BadBundle("a release's weights must fit its model", remedy="use the version that wrote it") from None
