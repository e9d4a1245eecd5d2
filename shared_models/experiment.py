"""The experiment TOML: one file says what is prepared, trained, federated and judged. The server sends it whole inside every Job.

name, title, seed
[data]         studies, patches or a table; the classes, where the label stands
[preparation]  grid, steps, lung segmenter, features         (client/preprocessing, segmentation, features)
[inputs]       what a model sees of a prepared study
[model]        a line of MODELS and its knobs; [model.weights] to start from published weights, [model.lora] to train little of them
[[statistics]] lines of STATISTICS that the sites sum before training  (`shared_models/phases`)
[train]        local epochs, batch, optimiser, augmentation
[[stages]]     rounds of training after one another, with other settings, or of some layers only
[[calibration]] lines of CALIBRATIONS that the sites sum after training  (`shared_models/calibration`)
[strategy]     a line of STRATEGIES and its knobs
[federation]   rounds, quorum, deadline, compression
[evaluation]   metrics, validation share, folds
[privacy]      unit, noise, clipping norm and delta of differential privacy
[simulation]   phantom hospitals: read by `sim/` only and never sent to a site
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from shared_models.columns import expanded
from shared_models.core.choices import Choice, Section, apply_overrides, faults_of, load_over, validated
from shared_models.core.errors import BadChoice
from shared_models.core.files import canonical_json, sha256
from shared_models.lora import lora_of
from shared_models.patterns import PATTERNS
from shared_models.schedules import factor_of, schedule_of
from shared_models.weights import parted

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]

FINDING = re.compile(r"finding_[A-Za-z][A-Za-z0-9_]{0,63}")
"""A column of the clinical table that says of one finding whether it is there."""

UNLABELLED = ("image", "none")
"""The classes of target ``reconstruction``: all images are of the first one."""


INTERVAL = 0.5
"""Length of the intervals of hazards where an experiment names none, in the unit of its times."""


def _intervals(data: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return the intervals that follow from the horizons where none are named; what is no number is left to the schema."""
    horizons = data.get("horizons")
    if data.get("heads") == "binary" and horizons and not data.get("intervals"):
        return {"intervals": tuple(horizons)} if isinstance(horizons, list | tuple) else {}
    if data.get("intervals") or not isinstance(horizons, list | tuple) or not all(isinstance(end, int | float) and end > 0 for end in horizons):
        return {}
    count = math.ceil(max(horizons, default=0.0) / INTERVAL - 1e-9)
    if not 0 < count <= 100:  # more are to be named
        return {}
    return {"intervals": (*(INTERVAL * number for number in range(1, count)), float(max(horizons)))}


class Data(Section):
    """What a record is and which classes it may have.

    `merge` maps further labels of the clinical table onto classes (``{probable_UIP = "UIP"}``); a label that is neither a class nor
    merged leaves the patient out, with a finding. `label` is the column of a table that holds the class.

    Target ``survival`` learns from a time and an event instead: `time` names the column of the time to the event or to the day the patient was
    last seen (any unit), `event` the column that says which of the two it is (1 or 0); where either is not known the patient is left out.
    The two classes are then those who were last seen and those who had the event. Further classes are causes that end the waiting for it, as
    2, 3 ... in the column of the event (``classes = ["censored", "death", "transplant"]``): to a model their patients were last seen then. A
    network then learns the hazard of each of `intervals` (their ends, by default every half unit of time up to the last horizon) and predicts the
    risk of the event by each of `horizons`; a model of hazard ratios is judged at them.

    With `heads` ``binary`` a network has one binary question a horizon instead: whether the event comes by then. Who was last seen before it is not
    known and counts nothing, the others count as many as were like them and left (`shared_models/survival/binary_heads`).

    Beside the hazards a network may learn the class of `label`, one of `diagnoses`, by a second head; a label that is none of them, or is not known,
    teaches it nothing.

    Target ``segmentation`` learns a class of every pixel: with `annotation` ``lung`` those of the prepared lung mask (background, lung), with
    ``patterns`` those that readers have drawn inside it, the first class being healthy lung. Its classes are names of `PATTERNS` and what `merge`
    makes of them (``{reticulation = "fibrosis", honeycombing = "fibrosis"}``); a pattern that is neither teaches nothing.

    Target ``diagnosis`` with `annotation` ``lung`` hands the prepared lung mask to a network that finds the lungs itself before it names the class.

    Target ``reconstruction`` learns from images alone: every prepared patient takes part, with or without a label, and `classes` is left out.

    Target ``findings`` learns several findings of a patient at once, each present or absent on its own: `classes` name them, and the clinical table
    has a column ``finding_NAME`` of each, 1 or 0. An empty cell is not known and teaches nothing; a patient of whom none is known is left out.
    """

    kind: Literal["studies", "patches", "table"] = "studies"
    classes: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(min_length=2, max_length=64)]
    target: Literal["diagnosis", "survival", "segmentation", "reconstruction", "findings"] = "diagnosis"
    annotation: Literal["lung", "patterns"] | None = None
    label: Annotated[str, Field(min_length=1, max_length=100)] = "diagnosis"
    merge: dict[str, str] = Field(default_factory=dict)
    time: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    event: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    horizons: Annotated[tuple[Annotated[float, Field(gt=0, le=1e6)], ...], Field(max_length=10)] = ()
    intervals: Annotated[tuple[Annotated[float, Field(gt=0, le=1e6)], ...], Field(max_length=100)] = ()
    heads: Literal["binary"] | None = None
    diagnoses: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(max_length=64)] = ()

    @property
    def outputs(self) -> int:
        """Numbers that a model gives of a record: the hazards of all intervals where there are any, and the diagnoses; else one a class."""
        return len(self.intervals) + len(self.diagnoses) if self.intervals else len(self.classes)

    @model_validator(mode="before")
    @classmethod
    def _targets_have_classes(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("target") == "survival":
            return {"classes": ("censored", "event"), "time": "time_years", "event": "event", **value, **_intervals(value)}
        if isinstance(value, Mapping) and value.get("target") == "segmentation":
            lung = value.get("annotation", "patterns") == "lung"
            return {"annotation": "patterns", "classes": ("background", "lung") if lung else tuple(PATTERNS), **value}
        if isinstance(value, Mapping) and value.get("target") == "reconstruction":
            return {"classes": UNLABELLED, **value}
        return value

    @model_validator(mode="after")
    def _target_fits(self) -> Data:
        if self.target == "reconstruction" and (self.classes != UNLABELLED or self.merge or self.kind != "studies"):
            raise ValueError("target = 'reconstruction' learns from images without labels: leave classes and merge out, and read studies")
        if self.target != "survival" and (self.time is not None or self.event is not None):
            raise ValueError("time and event are columns of target = 'survival'; leave them out")
        if self.target == "survival" and (self.merge or self.kind == "patches"):
            raise ValueError("target = 'survival' has classes (last seen, event, other causes), nothing to merge, and reads studies or a table")
        return self

    @model_validator(mode="after")
    def _horizons_fit(self) -> Data:
        if self.target != "survival" and (self.horizons or self.intervals):
            raise ValueError("horizons and intervals are of target = 'survival'; leave them out")
        for name, ends in (("horizons", self.horizons), ("intervals", self.intervals)):
            if any(later <= earlier for earlier, later in pairwise(ends)):
                raise ValueError(f"{name} rise; found {list(ends)}")
        if self.intervals and (not self.horizons or self.horizons[-1] > self.intervals[-1]):
            raise ValueError("intervals reach to the last of the horizons, which are to be named")
        if self.heads is not None and (not self.horizons or self.intervals != self.horizons):
            raise ValueError("heads = 'binary' asks one question a horizon: name data.horizons of target = 'survival', and leave intervals out")
        if self.diagnoses and (not self.intervals or len(set(self.diagnoses)) < max(2, len(self.diagnoses))):
            raise ValueError("diagnoses are at least two classes that differ, learnt beside the hazards of target = 'survival' with horizons")
        return self

    @model_validator(mode="after")
    def _findings_fit(self) -> Data:
        if self.target == "findings" and (self.kind != "studies" or self.merge):
            raise ValueError("target = 'findings' reads studies, and has nothing to merge")
        if self.target == "findings" and (bad := [name for name in self.classes if not FINDING.fullmatch(f"finding_{name}")]):
            raise ValueError(f"findings are named by letters, digits and _, as their columns are (finding_ggo); {bad} are not")
        return self

    @model_validator(mode="after")
    def _segmentation_fits(self) -> Data:
        if self.target != "segmentation":
            if self.annotation == "patterns" or (self.annotation and (self.target != "diagnosis" or self.kind != "studies")):
                raise ValueError("annotation belongs to target = 'segmentation', and 'lung' to 'diagnosis' of studies too; leave it out")
            return self
        if self.kind != "studies":
            raise ValueError("target = 'segmentation' reads studies")
        if self.annotation == "lung" and (len(self.classes) != 2 or self.merge):
            raise ValueError("annotation = 'lung' has two classes (background, lung) and nothing to merge")
        if self.annotation == "patterns":
            named = {self.merge.get(name, name) for name in PATTERNS}
            if unknown := sorted((set(self.classes) - named) | (set(self.merge) - set(PATTERNS))):
                raise ValueError(f"annotation = 'patterns' speaks of {', '.join(PATTERNS)}, and of what merge makes of them; {unknown} are none")
            if self.merge.get("normal", "normal") != self.classes[0]:
                raise ValueError("the first class of annotation = 'patterns' is that of healthy lung ('normal')")
        return self

    @model_validator(mode="after")
    def _classes_differ(self) -> Data:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from one another")
        if bad := sorted(set(self.merge.values()) - set(self.classes)):
            raise ValueError(f"merge must lead to a class; {bad} are none")
        return self


class Preparation(Section):
    """From DICOM to a prepared volume: the target grid, steps in order, the lung segmenter, the feature families.

    `grid_mm` is the voxel size (z, y, x) in millimetres; without it the scanner's grid is kept.
    """

    grid_mm: tuple[Annotated[float, Field(gt=0.2, le=20)], Annotated[float, Field(gt=0.2, le=20)], Annotated[float, Field(gt=0.2, le=20)]] | None = (
        None
    )
    steps: tuple[Choice, ...] = ()
    segmenter: Choice = Choice(name="whole_lung")
    features: tuple[Choice, ...] = (Choice(name="densitometry"),)

    @property
    def digest(self) -> str:
        """SHA-256 of these settings: the cache and the bundle carry it."""
        return sha256(canonical_json(self.model_dump(mode="json")).encode())


ACQUISITION = frozenset(
    {
        *("kvp", "ma", "mas", "manufacturer", "maker", "vendor", "scanner", "scanner_model", "kernel", "kernel_class", "reconstruction_kernel"),
        *("thickness", "thickness_mm", "slice_thickness", "slice_thickness_mm", "site", "hospital", "centre", "center"),
        *("biopsy", "histology", "home_oxygen", "home_o2", "oxygen"),
    }
)
"""Columns that are refused by default: shortcuts to the site, and what is only known once a diagnosis is (Mei et al. 2023 feed some of them)."""


class Inputs(Section):
    """What a model sees: lung slices, a lung volume or a patch, in a window of Hounsfield units; or the named `columns` of a table.

    `margin_mm` is kept around the lungs, `mask_outside` blanks what is not lung. Columns are features (``whole_haa_percent``) or clinical
    variables (``age``, ``fvc_percent``), or columns of the site's own table and indicators of their values (``cp=2``): named here, so that
    every site builds the same table and the approver sees what it holds; braces shorten the list (``lbp8_{0..8}``, `shared_models/columns`), and
    what travels and is approved is the whole of it. `visits` ``all`` makes every visit of a patient a training record
    under the patient's one pseudonym; validation always reads the first.

    With ``course`` a patient is one record: the years since the first visit and the columns of each visit, `most_visits` at most, what is missing
    being NaN. `landmark_years` after the first visit is when the prediction is made: later visits are not seen, the patient was still followed then,
    and the time to the event counts from there (van Houwelingen, Scand J Stat 2007;34:70), so that no visit tells that its patient came to it.
    Where there are more visits, the first and the latest are seen. Columns are scaled by public `ranges`, alike for all visits.

    `scale` says what a network sees of a column: the number itself, standardised by the ``site``'s own training patients, or mapped from its
    `ranges` to -1..1 and cut off there: ranges are public, so they spend no privacy. A `missing` cell drops the row, takes the median of
    the site's training patients, or with ``mask`` stays missing, for a model that says how it reads what is not known.

    Columns of the scanner and of what follows a diagnosis (`ACQUISITION`: kVp, maker, kernel, slice thickness, biopsy, home oxygen) are refused
    unless `acquisition_columns` is set: they tell the hospital or the answer, and not the disease.

    Of `slices` drawn slices a model of windows (`texture_forest`) reads `windows` of each patient.

    With `pixel_mm` slices are whole, not cut around the lungs: spread over the whole series, on square pixels of that size, centred in `size`.

    `unlabelled` is how many slices a network of patterns is shown besides, on which nobody has drawn: then patients and sites without any
    drawing take part, too.
    """

    slices: Annotated[int, Field(ge=1, le=256)] = 12
    unlabelled: Annotated[int, Field(ge=1, le=256)] | None = None
    size: Annotated[int, Field(ge=8, le=1024)] = 64
    pixel_mm: Annotated[float, Field(gt=0.2, le=20)] | None = None
    windows: Annotated[int, Field(ge=10, le=100_000)] = 400
    shape_zyx: tuple[Annotated[int, Field(ge=16, le=512)], Annotated[int, Field(ge=16, le=512)], Annotated[int, Field(ge=16, le=512)]] = (32, 48, 48)
    window_hu: tuple[float, float] = (-1000.0, 200.0)
    margin_mm: Annotated[float, Field(ge=0, le=100)] = 8.0
    mask_outside: bool = False
    columns: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    visits: Literal["first", "all", "course"] = "first"
    most_visits: Annotated[int, Field(ge=1, le=50)] = 4
    landmark_years: Annotated[float, Field(ge=0, le=50)] | None = None
    missing: Literal["drop", "median", "mask"] = "drop"
    scale: Literal["none", "site", "range"] = "none"
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    acquisition_columns: bool | None = None

    @model_validator(mode="after")
    def _no_shortcuts(self) -> Inputs:
        told = [name for name in self.columns if name.partition("=")[0].strip().casefold() in ACQUISITION]
        if told and not self.acquisition_columns:
            raise ValueError(f"columns {told} tell the scanner or what followed the diagnosis; leave them out, or set acquisition_columns = true")
        return self

    @field_validator("columns", mode="before")
    @classmethod
    def _braces_are_short_for_columns(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
            return value
        try:
            return expanded(value)
        except BadChoice as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _ranges_fit(self) -> Inputs:
        if bad := sorted(name for name, (low, high) in self.ranges.items() if not low < high):
            raise ValueError(f"ranges must go from low to high: {bad}")
        plain = [name for name in self.columns if "=" not in name]
        if self.scale == "range" and (absent := sorted(set(plain) - set(self.ranges))):
            raise ValueError(f"scale = 'range' needs a range for every column that is a number: {absent}")
        return self

    @model_validator(mode="after")
    def _course_is_whole(self) -> Inputs:
        if self.visits == "course" and (not self.columns or self.missing != "mask" or self.scale != "range"):
            raise ValueError("visits = 'course' reads columns with missing = 'mask' and scale = 'range': what did not happen stays missing")
        if self.visits != "course" and self.landmark_years is not None:
            raise ValueError("landmark_years is of visits = 'course'; leave it out")
        return self

    @model_validator(mode="after")
    def _window_is_ordered(self) -> Inputs:
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError(f"window_hu must go from low to high; found {list(self.window_hu)}")
        return self


class Train(Section):
    """Training at a site within one round. `epochs` counts passes over the site's patients; `steps`, when given, replaces it.

    `class_weights` ``balanced`` weighs each class by the inverse of its frequency at the site, ``effective`` by that of its effective number of
    patients, which grows ever more slowly with their number (Cui et al., CVPR 2019); ``prior`` adds the logarithm of the site's
    class shares to the logits while training (Menon et al., ICLR 2021), so that sites of different case mix learn one model. Of survival the first
    two weigh events against survived intervals, or at each horizon against those alive, and the risks stay calibrated
    (`shared_models/survival/event_weights`).
    `label_smoothing` spreads that share of each target evenly over all classes (Szegedy et al., CVPR 2016): less certain, better calibrated.
    `focal` multiplies each record's loss by ``(1 - p)`` to that power, p being the probability of its class (Lin et al., ICCV 2017; 2 is usual):
    what is told rightly counts for less. `sampler` ``balanced`` draws the records of an epoch so that all classes of the site come equally often;
    of maps of classes the rarest class that a record shows counts as its class.
    `precision` ``mixed`` lets a GPU multiply matrices in 16 bits; a site without one trains in full precision. `schedule` is the factor on the
    learning rate by round, a line of SCHEDULES: a name, or a table with its knobs; the first `warm_up` rounds rise to it.
    `pseudo_labels`, of a stage after the first, is the share of slices without a drawing (``inputs.unlabelled``) that is learnt as the model of
    the stage before has labelled it: those first on which that stage changed its mind least (ST++: Yang et al., CVPR 2022).
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    batch: Annotated[int, Field(ge=1, le=4096)] = 8
    optimiser: Choice = Choice.model_validate({"name": "adamw", "lr": 1e-3})
    schedule: Choice | Annotated[str, Field(min_length=1)] = "cosine"
    warm_up: Annotated[int, Field(ge=1)] | None = None
    augment: tuple[Choice, ...] = ()
    class_weights: Literal["none", "balanced", "effective", "prior"] = "none"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    focal: Annotated[float, Field(gt=0, le=10)] | None = None
    sampler: Literal["balanced"] | None = None
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["full", "mixed"] = "full"
    pseudo_labels: Annotated[float, Field(gt=0, le=1)] | None = None

    @field_validator("schedule")
    @classmethod
    def _schedule_is_known(cls, value: Choice | str) -> Choice | str:
        try:
            schedule_of(value)
        except BadChoice as error:
            raise ValueError(str(error)) from None
        return value


class Stage(Section):
    """One stage of training: `rounds`, and what differs from ``[train]`` and ``[strategy]``.

    `train_only` names the arrays that are trained, by patterns as of a shell (``project.*``): the others stay as they are, and neither change
    nor travel back.
    """

    rounds: Annotated[int, Field(ge=1, le=100_000)]
    train: dict[str, Any] = Field(default_factory=dict)
    strategy: Choice | None = None
    train_only: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()

    def applied(self, experiment: Experiment) -> Experiment:
        """Return the experiment as it holds in this stage."""
        train = Train.model_validate(experiment.train.model_dump() | self.train)
        return experiment.model_copy(update={"train": train, "strategy": self.strategy or experiment.strategy})


class SecureSum(Section):
    """The server learns the sum of the sites' updates and no single one (`shared_models/secure_sum`); ``secure_sum = true`` takes the defaults.

    `threshold` is the share of the sites that must help to unmask, a strict majority when not given. Numbers are summed in fixed point:
    a site refuses a parameter that changes by more than `largest_change` in a round, and takes no part with more than `most_cases` patients;
    smaller bounds give a finer step. One exchange of keys serves `ahead` rounds.
    """

    threshold: Annotated[float, Field(gt=0.5, le=1)] | None = None
    largest_change: Annotated[float, Field(gt=0, le=1e6)] = 4.0
    most_cases: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    ahead: Annotated[int, Field(ge=1, le=64)] = 8


class Stopping(Section):
    """What the federated validation metric decides: the mean over the sites, weighed with their validation patients (`server/runs/stopping`).

    The run stops once `metric` has not become better by more than `min_delta` for `patience` rounds; without `patience` it goes to its end.
    `release` says whether the state of the best round or of the last one is released.
    """

    metric: Literal["val_loss", "val_auroc_macro", "val_accuracy", "val_dice"] = "val_loss"
    patience: Annotated[int, Field(ge=1)] | None = None
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    release: Literal["best", "last"] = "best"


class Federation(Section):
    """Rounds and what counts as a round: `quorum` valid updates within `deadline_s` seconds, repeated up to `retries` times.

    `sample` is how many sites a round asks: a whole number, or a share (0.5); drawn anew every round, never fewer than the quorum.
    `compression` packs what the sites send over slow links: a line of COMPRESSIONS and its knobs. `secure_sum` hides single updates.
    """

    rounds: Annotated[int, Field(ge=1, le=100_000)] = 10
    quorum: Annotated[int, Field(ge=1, le=10_000)] = 3
    deadline_s: Annotated[float, Field(gt=0)] = 7200.0
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    max_update_norm: Annotated[float, Field(gt=0)] = 1e4
    compression: Choice = Choice(name="none")
    secure_sum: SecureSum | None = None
    sample: Annotated[int, Field(strict=True, ge=1)] | Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    stopping: Stopping | None = None

    @field_validator("secure_sum", mode="before")
    @classmethod
    def _secure_sum_may_be_a_word(cls, value: Any) -> Any:
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _secure_sum_fits(self) -> Federation:
        if self.secure_sum is not None and self.quorum < 3:
            raise ValueError("secure_sum needs a quorum of at least 3: in the sum of two sites each reads the other's part")
        if self.secure_sum is not None and self.compression.name != "none":
            raise ValueError("secure_sum adds whole numbers under masks, which cannot be packed; leave compression out")
        return self


class Evaluation(Section):
    """How models are judged: the share of patients kept for validation at each site, folds, and bootstrap repetitions.

    `ensemble`, a line of ENSEMBLES, says how a simulation makes one model of those that the hospitals trained alone, to compare the federation
    with what one exchange of models would give; by default their mean.

    With `from_year` the split is temporal: patients first scanned in that calendar year or later are for validation, all others train, and the
    share plays no part. A site that does not know the year of every patient takes no part.

    With `fold`, one of 1 to `folds`, each site keeps that fold of its patients for validation, with all of their visits, and the share plays no part
    either: a patient's fold follows from the keyed pseudonym and the seed, so runs over all folds judge everybody once (``fedild cross-validate``).
    """

    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    folds: Annotated[int, Field(ge=2, le=50)] | None = None
    fold: Annotated[int, Field(ge=1, le=50)] | None = None
    bootstrap: Annotated[int, Field(ge=0, le=20_000)] = 1000
    headline: str = "auroc_macro"
    ensemble: Choice | None = None
    from_year: Annotated[int, Field(ge=1970, le=2200)] | None = None

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Evaluation:
        if self.fold is not None and (self.folds is None or self.fold > self.folds):
            raise ValueError(f"fold = {self.fold} is one of 1 to folds; found folds = {self.folds}: set evaluation.folds, or leave fold out")
        if self.fold is not None and self.from_year is not None:
            raise ValueError("fold and from_year part the same patients in two ways: leave one of them out")
        return self

    @property
    def split_in_words(self) -> str:
        """How a site's patients are parted, for readers."""
        if self.fold is not None:
            return f"At each hospital fold {self.fold} of {self.folds} is for validation; a keyed hash of the patient deals them, class by class."
        if self.from_year is not None:
            return f"At each hospital patients first scanned before {self.from_year} train, those first scanned in it or later are for validation."
        return "At each hospital a keyed hash of the patient parts training from validation, class by class, whatever the date of the scan."


class Privacy(Section):
    """Differential privacy of what a site sends: whose presence is hidden, with how much noise.

    `unit` is what counts as one: a patient with all slices, scans and visits, a record, or a whole site. `noise_multiplier` is the standard
    deviation of the noise over `clip`, the largest norm of one unit's part. `train.batch` is then the expected number of units a step.
    `grad_sample` is how each unit's gradient is found: ``loop`` takes one unit after another, ``functorch`` `microbatch` units at once;
    ``auto`` chooses by what the model takes. `noise_share` is the number of sites that together make the noise of a secure sum: each adds
    ``sigma clip / sqrt(noise_share)``.
    """

    unit: Literal["none", "patient", "record", "site"] = "none"
    noise_multiplier: Annotated[float, Field(gt=0)] | None = None
    clip: Annotated[float, Field(gt=0)] = 1.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    grad_sample: Literal["auto", "loop", "functorch"] = "auto"
    microbatch: Annotated[int, Field(ge=1, le=4096)] = 16
    noise_share: Annotated[int, Field(ge=1, le=10_000)] = 1

    @property
    def at_sites(self) -> bool:
        """Whether each site clips and adds noise before anything leaves it."""
        return self.unit in ("patient", "record")

    @model_validator(mode="after")
    def _noise_is_named(self) -> Privacy:
        if self.unit != "none" and self.noise_multiplier is None:
            raise ValueError("noise_multiplier is required: the standard deviation of the noise over the clip")
        return self


class Experiment(Section):
    """A whole experiment. Unknown keys are refused and all faults are listed at once.

    Examples
    --------
    >>> e = Experiment(name="tiny", data=Data(classes=("normal", "UIP")), model=Choice(name="logistic"))
    >>> e.federation.rounds, len(e.digest)
    (10, 64)
    """

    name: Name
    title: Annotated[str, Field(max_length=200)] = ""
    source: Annotated[str, Field(max_length=2000)] = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: Data
    preparation: Preparation = Preparation()
    inputs: Inputs = Inputs()
    model: Choice
    statistics: tuple[Choice, ...] | None = None
    train: Train = Train()
    stages: tuple[Stage, ...] | None = None
    calibration: tuple[Choice, ...] | None = None
    strategy: Choice | None = None
    federation: Federation = Federation()
    evaluation: Evaluation = Evaluation()
    privacy: Privacy = Privacy()
    simulation: dict[str, Any] | None = None

    @field_validator("model")
    @classmethod
    def _weights_are_sound(cls, model: Choice) -> Choice:
        try:
            parted(model)
            lora_of(model)
        except BadChoice as error:
            raise ValueError(error.rule) from None
        return model

    @model_validator(mode="after")
    def _lungs_are_to_be_found(self) -> Experiment:
        if self.data.annotation == "lung" and (self.inputs.pixel_mm is None or self.inputs.mask_outside):
            raise ValueError("annotation = 'lung' needs inputs.pixel_mm, without mask_outside: slices cut around the lungs would tell where they are")
        if (self.data.target == "segmentation" or self.data.annotation) and self.inputs.visits != "first":
            raise ValueError("target = 'segmentation' reads the first visit, and so does annotation: leave inputs.visits out")
        if self.inputs.unlabelled is not None and self.data.annotation != "patterns":
            raise ValueError("inputs.unlabelled is of slices on which nobody has drawn patterns: leave it out")
        return self

    @model_validator(mode="after")
    def _years_are_of_scans(self) -> Experiment:
        if self.evaluation.from_year is not None and self.data.kind != "studies":
            raise ValueError("evaluation.from_year is of the first scan: it needs data.kind = 'studies'; a table's column part fixes a split")
        return self

    @model_validator(mode="after")
    def _a_fold_is_judged_alone(self) -> Experiment:
        if self.evaluation.fold is not None and (self.calibration or self.federation.stopping is not None):
            raise ValueError("evaluation.fold judges the fold left out: calibration and federation.stopping would learn from it; leave them out")
        return self

    @model_validator(mode="after")
    def _a_course_has_a_landmark(self) -> Experiment:
        if self.inputs.visits != "course":
            return self
        if self.data.target not in ("diagnosis", "survival") or self.data.kind == "patches":
            raise ValueError("inputs.visits = 'course' is of target = 'diagnosis' or 'survival', on studies or a table")
        if self.data.target == "survival" and self.inputs.landmark_years is None:
            raise ValueError("inputs.landmark_years is required: which visits a patient lived to must not tell how long the patient lived")
        if self.statistics:
            raise ValueError("statistics sum rows of one visit: leave them out with inputs.visits = 'course', whose columns have public ranges")
        return self

    @model_validator(mode="after")
    def _pseudo_labels_have_a_stage_before(self) -> Experiment:
        first = self.stages[0].train.get("pseudo_labels") if self.stages else None
        later = [stage.train.get("pseudo_labels") for stage in (self.stages or ())[1:]]
        if self.train.pseudo_labels is not None or first is not None:
            raise ValueError("pseudo_labels are those of the stage before: set it in stages after the first alone")
        if any(share is not None for share in later) and self.inputs.unlabelled is None:
            raise ValueError("pseudo_labels are of slices without a drawing: set inputs.unlabelled")
        return self

    @model_validator(mode="after")
    def _findings_are_plain(self) -> Experiment:
        if self.data.target == "findings" and (self.privacy.at_sites or self.calibration):
            raise ValueError("target = 'findings' goes without [privacy] of patients and without [[calibration]]: both are made for one class each")
        return self

    @model_validator(mode="after")
    def _privacy_fits(self) -> Experiment:
        if self.privacy.at_sites and self.train.class_weights != "none":
            raise ValueError("train.class_weights must be none under [privacy]: they are counts of the site's labels, which the noise does not cover")
        if self.train.focal is not None and self.train.label_smoothing:
            raise ValueError("train.focal reads a class's probability off its plain loss: leave train.label_smoothing out")
        if self.privacy.at_sites and self.train.focal is not None:
            raise ValueError("train.focal must be left out under [privacy]: private training clips each patient's plain loss")
        if self.privacy.at_sites and self.train.sampler is not None:
            raise ValueError("train.sampler must be left out under [privacy]: how often a patient is drawn would hang on the site's labels")
        if self.privacy.at_sites and (self.inputs.scale == "site" or self.inputs.missing == "median"):
            raise ValueError(
                "inputs.scale = 'site' and missing = 'median' learn from all patients without noise; name public ranges: scale = 'range'"
            )
        if self.privacy.at_sites and self.federation.stopping is not None:
            raise ValueError("federation.stopping reads validation metrics, which the noise does not cover: no site sends them under [privacy]")
        if self.privacy.noise_share > self.federation.quorum:
            raise ValueError("privacy.noise_share must not exceed federation.quorum: a sum of fewer sites would lack noise")
        return self

    @model_validator(mode="before")
    @classmethod
    def _stages_make_the_rounds(cls, document: Any) -> Any:
        # [federation] may leave its rounds out: the stages say them.
        stages = document.get("stages") if isinstance(document, dict) else None
        federation = document.get("federation", {}) if stages else None
        counts = [stage.get("rounds") if isinstance(stage, dict) else getattr(stage, "rounds", None) for stage in stages or ()]
        whole = [count for count in counts if isinstance(count, int)]
        if isinstance(federation, dict) and "rounds" not in federation and len(whole) == len(counts):
            return {**document, "federation": {**federation, "rounds": sum(whole)}}
        return document

    @model_validator(mode="after")
    def _phases_fit(self) -> Experiment:
        names = [choice.name for choice in self.statistics or ()]
        if len(set(names)) < len(names):
            raise ValueError(f"statistics must differ from one another: {names}")
        names = [choice.name for choice in self.calibration or ()]
        if len(set(names)) < len(names):
            raise ValueError(f"calibrations must differ from one another: {names}")
        if self.calibration and self.evaluation.validation == 0 and self.data.kind != "table":
            raise ValueError("calibration is made on held-out patients: evaluation.validation must be above 0")
        if self.stages is None:
            return self
        if not self.stages or sum(stage.rounds for stage in self.stages) != self.federation.rounds:
            total = sum(stage.rounds for stage in self.stages)
            raise ValueError(f"stages have {total} rounds and federation.rounds = {self.federation.rounds}; leave federation.rounds out")
        for number, stage in enumerate(self.stages, 1):
            try:
                train = stage.applied(self).train
            except ValidationError as error:
                raise ValueError("; ".join(faults_of(error, f"stages.{number}.train"))) from None
            if self.privacy.at_sites and train.class_weights != "none":
                raise ValueError(f"stages.{number}.train.class_weights must be none under [privacy], as in [train]")
            if self.privacy.at_sites and train.sampler is not None:
                raise ValueError(f"stages.{number}.train.sampler must be left out under [privacy], as in [train]")
            if self.privacy.at_sites and train.focal is not None:
                raise ValueError(f"stages.{number}.train.focal must be left out under [privacy], as in [train]")
        return self

    @staticmethod
    def load(path: str | Path, settings: list[str] | None = None) -> Experiment:
        """Read an experiment TOML, over the one that it extends, and apply ``--set`` overrides.

        Raises
        ------
        BadExperiment
            With every fault of the file.
        """
        return validated(Experiment, apply_overrides(load_over(path), settings or []), what=f"experiment {Path(path).name}")

    def for_sites(self) -> Experiment:
        """Return the experiment as a site receives it: without the simulation's hospitals."""
        return self.model_copy(update={"simulation": None})

    def to_json(self) -> str:
        """Return canonical JSON: the form that travels and that a site approves."""
        return canonical_json(self.model_dump(mode="json", exclude_none=True))

    @staticmethod
    def from_json(text: str) -> Experiment:
        """Read what `to_json` wrote, with the same checks as a TOML."""
        import json

        from shared_models.core.errors import BadExperiment

        try:
            document = json.loads(text)
        except ValueError:
            raise BadExperiment("experiment", faults=["not valid JSON"]) from None
        return validated(Experiment, document, what="experiment")

    @property
    def digest(self) -> str:
        """SHA-256 of what a site receives."""
        return sha256(self.for_sites().to_json().encode())


def learning_rate_factor(train: Train, round: int, rounds: int) -> float:
    """Return the factor on the learning rate in `round` (1-based): `train.schedule` over the rounds after `train.warm_up`.

    Examples
    --------
    >>> [round(learning_rate_factor(Train(), r, 3), 2) for r in (1, 2, 3)]
    [1.0, 0.51, 0.02]
    """
    return factor_of(train.schedule, warm_up=train.warm_up or 0, round=round, rounds=rounds)
