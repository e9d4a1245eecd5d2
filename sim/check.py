"""`fedild check`: everything that is wrong with an experiment, at once, before anything runs or leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.blocks.spec import NETWORK_FITS, PrivateSums
from shared_models.calibration import CALIBRATIONS
from shared_models.catalogue import MODELS, build, initial_state, inputs_of, spec_in, spec_of
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadExperiment, FedILDError
from shared_models.ensembles import ENSEMBLES
from shared_models.experiment import Experiment
from shared_models.lora import without_lora
from shared_models.phases import phases_of
from shared_models.statistics import STATISTICS
from shared_models.weights import parted
from sim.dry_pass import size_fault
from sim.experiments import path_of
from sim.settings import OneTable, Phantoms, simulation_of
from sim.tables import function_of

NO_LONGER_HU = frozenset({"clahe", "clip", "window"})
"""Steps after which an image is no longer in Hounsfield units, but for ``standardise``, which takes the place of landmarks."""


def faults(experiment: Experiment) -> list[str]:
    """Return every fault of an experiment that its own schema cannot see: names, knobs, and parts that do not fit together."""
    from client.features import FEATURES, doubled
    from client.preprocessing import STEPS
    from client.segmentation import SEGMENTERS
    from client.training import PRIVATE_FITTERS
    from client.training.augment import AUGMENTATIONS
    from client.training.optimisers import OPTIMISERS
    from server.strategies import STRATEGIES
    from shared_models.compression import COMPRESSIONS
    from shared_models.metrics import METRICS
    from shared_models.metrics.findings import FINDING_METRICS
    from shared_models.metrics.reconstruction import RECONSTRUCTION_METRICS
    from shared_models.metrics.segmentation import SEGMENTATION_METRICS
    from shared_models.metrics.survival import SURVIVAL_METRICS

    found: list[str] = []

    def look(place: str, table: Mapping[str, Any], kind: str, choice: Choice) -> None:
        try:
            pick(table, choice, kind=kind, get=lambda entry: function_of(entry) or entry)
        except FedILDError as error:
            found.append(f"{place}: {error}")

    look("model", MODELS, "model", plain := parted(without_lora(experiment.model))[0])
    if plain.knobs.keys() != experiment.model.knobs.keys() and plain.name in MODELS and MODELS[plain.name].fit not in NETWORK_FITS:
        found.append("model.weights and model.lora: only a network starts from weights, and has layers to adapt")
    if experiment.strategy:
        look("strategy", STRATEGIES, "strategy", experiment.strategy)
    look("federation.compression", COMPRESSIONS, "compression", experiment.federation.compression)
    look("train.optimiser", OPTIMISERS, "optimiser", experiment.train.optimiser)
    look("preparation.segmenter", SEGMENTERS, "segmenter", experiment.preparation.segmenter)
    for number, stage in enumerate(experiment.stages or (), 1):
        if stage.strategy:
            look(f"stages.{number}.strategy", STRATEGIES, "strategy", stage.strategy)
        look(f"stages.{number}.train.optimiser", OPTIMISERS, "optimiser", (train := stage.applied(experiment).train).optimiser)
        for choice in train.augment:
            look(f"stages.{number}.train.augment", AUGMENTATIONS, "augmentation", choice)
    for place, table, kind, choices in (
        ("preparation.steps", STEPS, "step", experiment.preparation.steps),
        ("preparation.features", FEATURES, "feature family", experiment.preparation.features),
        ("train.augment", AUGMENTATIONS, "augmentation", experiment.train.augment),
        ("statistics", STATISTICS, "statistic", experiment.statistics or ()),
        ("calibration", CALIBRATIONS, "calibration", experiment.calibration or ()),
    ):
        for number, choice in enumerate(choices):
            look(f"{place}.{number}", table, kind, choice)
    if not any(fault.startswith("preparation.features") for fault in found) and (twice := doubled(experiment.preparation.features)):
        found.append(f"preparation.features: {len(twice)} columns are given twice, such as {twice[0]!r}; list a family once")
    if experiment.evaluation.ensemble:
        look("evaluation.ensemble", ENSEMBLES, "ensemble", experiment.evaluation.ensemble)
    own = {"survival": SURVIVAL_METRICS, "segmentation": SEGMENTATION_METRICS, "reconstruction": RECONSTRUCTION_METRICS, "findings": FINDING_METRICS}
    metrics = own.get(experiment.data.target, METRICS)
    if experiment.evaluation.headline not in metrics:
        found.append(f"evaluation.headline: no metric {experiment.evaluation.headline!r} (choose from: {', '.join(sorted(metrics))})")
    if experiment.model.name in MODELS:
        spec = spec_of(experiment.model)
        try:
            inputs_of(experiment.model_copy(update={"statistics": None}))
        except FedILDError as error:
            found.append(f"inputs.columns: {error}")
        try:
            spec = spec_in(experiment)
            if not spec.serves(experiment.data.target):
                found.append(f"model: {experiment.model.name!r} predicts a {spec.task}, but data.target is {experiment.data.target!r}")
        except FedILDError as error:
            found.append(f"data.horizons: {error}")
        found += _gaps(experiment)
        if experiment.model.name == "visit_transformer" and experiment.inputs.visits != "course":
            found.append("inputs.visits: 'visit_transformer' reads the visits of a patient; set visits = \"course\"")
        if (odds := experiment.model.knobs.get("proportional", 0)) and odds != (intervals := len(experiment.data.intervals)):
            found.append(f"model.proportional: the hazards of all {intervals} intervals move together, or none do; set it to {intervals}, or to 0")
        kinds = {"patch": ("patches",), "slices": ("studies", "patches"), "table": ("table", "studies", "patches")}.get(spec.takes, ("studies",))
        if experiment.data.kind not in kinds:
            found.append(f"model: {experiment.model.name!r} takes a {spec.takes}, but data.kind is {experiment.data.kind!r}")
        if spec.takes == "slices" and experiment.data.kind == "studies" and experiment.inputs.size < spec.least_px:
            found.append(f"inputs.size: {experiment.model.name!r} needs slices of at least {spec.least_px} pixels; found {experiment.inputs.size}")
        if experiment.data.kind == "patches" and spec.takes == "table" and experiment.preparation.grid_mm is None:
            found.append("preparation.grid_mm: features of patches need the size of their pixels; its first number is the slice")
        if spec.fit not in NETWORK_FITS and experiment.federation.compression.name != "none":
            found.append(f"federation.compression: a model fitted by {spec.fit} sends exact numbers; leave compression out")
        if experiment.privacy.at_sites and spec.fit not in PRIVATE_FITTERS:
            found.append(f"privacy: {experiment.model.name!r} is fitted by {spec.fit}, which no noise can hide; choose another model")
        if spec.summed_only and experiment.federation.secure_sum is None and not experiment.privacy.at_sites:
            found.append(f"federation.secure_sum: sums of {experiment.model.name!r} tell of groups as small as one patient; set secure_sum = true")
        found += _private_sums(experiment)
        found += _objective(experiment)
        found += _segmentation(experiment)
        if experiment.model.name == "mean_teacher" and experiment.strategy is not None and experiment.strategy.name != "fedavg":
            found.append("strategy: the teacher of 'mean_teacher' is a mean of weights, which 'fedavg' alone keeps; leave [strategy] out")
        found += _survival(experiment)
        if experiment.data.target in ("reconstruction", "survival") and experiment.calibration:
            found.append(f"calibration: {experiment.data.target} gives no probabilities of classes; leave [[calibration]] out")
        if spec.maps != (experiment.data.target == "diagnosis" and experiment.data.annotation == "lung"):
            what = f"{experiment.model.name!r} {'finds' if spec.maps else 'does not find'} the lungs before it names the class"
            found.append(f"data.annotation: {what}; " + ('set annotation = "lung"' if spec.maps else "leave it out"))
        found += _findings(experiment)
        if experiment.privacy.unit == "site" and (spec.fit not in NETWORK_FITS or experiment.federation.secure_sum is not None):
            found.append("privacy: the privacy of sites is made on weights that the server sees site by site: no other model, and no secure sum")
        found += _phases(experiment)
        if not found and (small := size_fault(experiment)) is not None:
            found.append(small)
    if experiment.simulation is not None:
        try:
            settings = simulation_of(experiment)
            training = len(settings.hospitals) - len(settings.held_out) if isinstance(settings, Phantoms) else settings.sites
            survival = experiment.data.target == "survival"
            if isinstance(settings, OneTable) != survival and not (survival and isinstance(settings, Phantoms)):
                found.append("simulation.kind: 'one_table' simulates data.target = 'survival', which but it phantoms alone do; change one of them")
            if experiment.federation.quorum > training:
                found.append(f"federation.quorum: {experiment.federation.quorum} valid updates cannot come from {training} training hospitals")
        except BadExperiment as error:
            found += [f"simulation.{fault}" for fault in error.faults]
        except FedILDError as error:
            found.append(f"simulation: {error}")
    return found


def _gaps(experiment: Experiment) -> list[str]:
    """Return which columns nobody can know: where missing values stay missing, a misspelt column would be missing in every patient."""
    from client.cases.clinical import COLUMNS
    from client.features import feature_names

    if experiment.inputs.missing != "mask" or experiment.data.kind != "studies":
        return []
    try:
        known = {*feature_names(experiment.preparation.features), *COLUMNS, "male", "ever_smoker"}
    except FedILDError:
        return []  # the feature family is named already
    unknown = [name for name in experiment.inputs.columns if name not in known]
    return [f"inputs.columns: {unknown} are neither features of preparation.features nor clinical columns; correct or remove them"] if unknown else []


def _phases(experiment: Experiment) -> list[str]:
    """Return what is wrong with statistics and stages, and with the strategy of each stage."""
    from server.combines import conflicts
    from server.phases import phase_conflicts
    from server.strategies import STRATEGIES

    spec, chosen = spec_of(experiment.model), experiment.statistics or ()
    found = list(map(str, phase_conflicts(experiment)))
    found += [
        f"preparation.steps: {choice.name} are of Hounsfield units, which {step.name!r} leaves; leave the step out"
        for choice in chosen
        if choice.name in ("landmarks", "fuzzy_centres")
        for step in experiment.preparation.steps
        if step.name in NO_LONGER_HU
    ]
    for phase in phases_of(experiment.model_copy(update={"statistics": None, "calibration": None})):
        settings = phase.settings
        if settings.strategy and settings.strategy.name in STRATEGIES and not STRATEGIES[settings.strategy.name].serves(spec.fit):
            found.append(f"strategy: {settings.strategy.name!r} does not serve a model fitted by {spec.fit}; leave [strategy] out for the default")
        found += map(str, conflicts(settings))
        found += _shared_noise(settings)
        if phase.train_only and spec.fit in NETWORK_FITS and not found:
            try:
                state = initial_state(_unread(experiment.model), inputs=inputs_of(experiment), outputs=experiment.data.outputs, seed=0)
                phase.changed(state)
            except FedILDError as error:
                found.append(f"{phase.name}: {error}")
    return list(dict.fromkeys(found))


def _unread(model: Choice) -> Choice:
    """Return a model's choice without its weights: its arrays have the same names, and their file need not be here."""
    return Choice.model_validate({"name": model.name, **{name: value for name, value in model.knobs.items() if name != "weights"}})


def _private_sums(experiment: Experiment) -> list[str]:
    """Return why a model of sums cannot be private: nobody has worked out what one patient changes, or its columns have no public scale."""
    if spec_of(experiment.model).fit != "sums" or not experiment.privacy.at_sites:
        return []
    try:
        model = build(experiment.model, inputs=(inputs := inputs_of(experiment)), outputs=experiment.data.outputs)
        if not isinstance(model, PrivateSums):
            return [f"privacy: model {experiment.model.name!r} has no bound on what one patient changes; choose another model"]
        start = initial_state(experiment.model, inputs=inputs, outputs=experiment.data.outputs, seed=0)
        model.lengths(start, np.zeros((0, inputs)), np.zeros(0, int))
    except FedILDError as error:
        return [f"privacy: {error}"]
    return []


def _objective(experiment: Experiment) -> list[str]:
    """Return the settings that a network with an objective of its own does not read, in ``[train]`` and in every stage."""
    try:
        if spec_in(experiment).objective is None:
            return []
    except FedILDError:  # the horizons are missing, and named already
        return []
    name, found = experiment.model.name, []
    if experiment.privacy.at_sites:
        found.append(f"privacy: {name!r} has a loss of its own, which private training does not take; set federation.secure_sum = true instead")
    places = [("train", experiment.train)]
    places += [(f"stages.{number}.train", stage.applied(experiment).train) for number, stage in enumerate(experiment.stages or (), 1)]
    weighs = () if experiment.data.target != "survival" else ("balanced", "effective")  # events against non-events
    for place, train in places:
        unread = train.class_weights not in ("none", *weighs)
        set_here = {"class_weights": unread, "focal": train.focal is not None, "label_smoothing": train.label_smoothing > 0}
        found += [f"{place}.{key}: {name!r} has a loss of its own, which does not read it; leave it out" for key, value in set_here.items() if value]
    return found


def _segmentation(experiment: Experiment) -> list[str]:
    """Return what does not go with classes of pixels."""
    if experiment.data.target != "segmentation":
        return []
    found = []
    if experiment.calibration:
        found.append("calibration: it is of probabilities of patients, not of pixels; leave it out")
    if experiment.evaluation.ensemble:
        found.append("evaluation.ensemble: models that label pixels are not united; leave it out")
    if any(choice.name != "landmarks" for choice in experiment.statistics or ()):
        found.append("statistics: a network that labels pixels sees images; 'landmarks' alone are of images")
    annotated = {**(experiment.simulation or {}).get("defaults", {})}.get("annotated", 0)
    hospitals = (experiment.simulation or {}).get("hospitals", ())
    if experiment.inputs.unlabelled is not None:  # hospitals without drawings train, too; none is judged without them
        hospitals = [hospital for hospital in hospitals if hospital.get("name") in (experiment.simulation or {}).get("held_out", ())]
    if experiment.data.annotation == "patterns" and (bare := [h.get("name") for h in hospitals if not h.get("annotated", annotated)]):
        found.append(f"simulation.hospitals: {bare} have no annotated slices; set annotated = 0.25 (1.0 where it is held out)")
    return found


def _survival(experiment: Experiment) -> list[str]:
    """Return what does not go with survival as a target."""
    if experiment.data.target != "survival":
        return []
    found = []
    if experiment.evaluation.ensemble:
        found.append("evaluation.ensemble: of survival it is the mean of the hospitals' risks; leave it out")
    kind = (experiment.simulation or {}).get("kind", "phantoms")
    if experiment.data.diagnoses and spec_of(experiment.model).fit not in NETWORK_FITS:
        found.append(f"data.diagnoses: {experiment.model.name!r} has no second head; choose a network, or leave them out")
    if kind == "courses" and (experiment.data.kind != "table" or experiment.inputs.visits != "course"):
        found.append('simulation.kind: \'courses\' are tables of visits; set data.kind = "table" and inputs.visits = "course"')
    if experiment.simulation is not None and kind in ("phantoms", "courses") and not experiment.data.horizons:
        found.append("data.horizons: phantoms are judged at horizons; name them in years")
    if kind == "one_table" and spec_of(experiment.model).fit in NETWORK_FITS:
        found.append("simulation.kind: 'one_table' compares hazard ratios, which a network has none of; choose 'cox'")
    return found


def _findings(experiment: Experiment) -> list[str]:
    """Return what does not go with several findings at once: settings that speak of the one class of a patient."""
    if experiment.data.target != "findings":
        return []
    found = ["evaluation.ensemble: models of findings are not united; leave it out"] if experiment.evaluation.ensemble else []
    places = [("train", experiment.train)]
    places += [(f"stages.{number}.train", stage.applied(experiment).train) for number, stage in enumerate(experiment.stages or (), 1)]
    for place, train in places:
        set_here = {"focal": train.focal is not None, "label_smoothing": train.label_smoothing > 0, "sampler": train.sampler is not None}
        found += [f"{place}.{key}: it is of one class a patient; leave it out" for key, value in set_here.items() if value]
        if train.class_weights not in ("none", "balanced"):
            found.append(f"{place}.class_weights: of findings they are 'none' or 'balanced'; found {train.class_weights!r}")
    if (experiment.simulation or {}).get("kind", "phantoms") != "phantoms":
        found.append("simulation.kind: findings are simulated on phantoms")
    told = {**(experiment.simulation or {}).get("defaults", {})}.get("findings", 0)
    if bare := [h.get("name") for h in (experiment.simulation or {}).get("hospitals", ()) if not h.get("findings", told)]:
        found.append(f"simulation.hospitals: {bare} report no findings; set findings = 0.9 (1.0 where it is held out)")
    return found


def _shared_noise(experiment: Experiment) -> list[str]:
    """Return why the noise of `noise_share` sites would not add up to the noise of one mechanism."""
    from client.training.units import noise_adds_up

    if experiment.privacy.noise_share == 1 or not experiment.privacy.at_sites:
        return []
    if experiment.federation.secure_sum is None:
        return ["privacy.noise_share: without federation.secure_sum a site's share is all the noise that there is; leave one of them out"]
    if not noise_adds_up(experiment, experiment.train.steps or 0):
        return [
            "privacy.noise_share: the noise of several sites adds up in exact sums, and in networks with train.steps = 1, the optimiser 'sgd', "
            "no train.clip_norm and a strategy with weighting = 'equal'; elsewhere each site makes all of its noise: leave noise_share out"
        ]
    return []


def load_checked(name: str, settings: list[str]) -> Experiment:
    """Load an experiment and raise all its faults at once.

    Raises
    ------
    BadExperiment
        From the schema, or from the tables.
    """
    path = path_of(name)
    experiment = Experiment.load(path, settings)
    if wrong := faults(experiment):
        raise BadExperiment(f"experiment {path.name}", faults=wrong)
    return experiment


def check(name: str, site: Path | None, settings: list[str]) -> str:
    """Return a line that says the experiment is sound (and accepted by `site`), or raise all its faults.

    Raises
    ------
    BadExperiment
        Faults of the experiment, or the rules of the site's policy that it breaks.
    """
    experiment = load_checked(name, settings)
    if site is None:
        return f"{experiment.name}: sound; digest {experiment.digest[:12]}"
    from client.privacy.foresight import foreseen
    from client.privacy.policy import breaches
    from client.site import Site

    place = Site.load(site)
    if broken := breaches(experiment, place.policy) or foreseen(experiment, place):
        raise BadExperiment(f"site {place.site.name} would refuse {experiment.name}", faults=[f"{b.code}: {b}" for b in broken])
    return f"{experiment.name}: sound; digest {experiment.digest[:12]}; {place.site.name} would accept it"
