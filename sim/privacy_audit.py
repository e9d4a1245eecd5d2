"""`fedild privacy audit`: a released model under attack. The figures go into its model card; what was not run stands there as unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.privacy.canaries import judge
from client.privacy.membership import attack, by_patient, sureness, within_classes
from client.privacy.plan import steps_of
from client.site import Site
from client.statistics import seen_records
from client.training import PREDICTORS
from client.training.canaries import CANARIES, PLANTED, Setting
from client.training.inversion import compare, gradient_in, invert, private_gradient, update_in_clear
from client.training.records import Records
from shared_models.bundle import Bundle, load_bundle, write_bundle
from shared_models.catalogue import initial_state, inputs_of, spec_in, spec_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, FedILDError
from shared_models.experiment import Experiment
from sim.masked_message import masked_gradient
from sim.references import sureness_unseen

SEEDS = (0, 1, 2)
MOST_STEPS = 400
"""Private steps that the canaries are trained for: longer runs are audited over their first rounds."""
PATIENTS = 100
"""Patients of a site where none is named: they decide how many steps a round has."""
ASSUMED = {"unit": "patient", "noise_multiplier": 1.0, "clip": 1.0}
"""Of the inversion under privacy where the experiment asks for none."""

Told = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How hard to try. 0 leaves an attack out: its figures are then unknown.

    Parameters
    ----------
    canaries : int
        Canaries of the audit of the private trainer.
    references : int
        Reference models of the calibrated membership attack, an even number; 0 leaves the calibration out.
    victims : int
        Patients a site whose input is sought in their update.
    iterations : int
        Steps of the search for each.
    """

    canaries: int = 1000
    references: int = 0
    victims: int = 8
    iterations: int = 300


def audit(folder: Path, sites: Sequence[Path] = (), *, effort: Effort | None = None, seed: int = 0, told: Told = lambda line: None) -> dict[str, Any]:
    """Attack the bundle in `folder` with the patients of `sites`, write the figures into its card, and return them.

    The bundle is written anew: its digest changes, its weights do not. The card's figures are about the sites' patients and no noise covers
    them: a site's figures are left out where fewer than its `min_cases` trained, or as few did not.

    Parameters
    ----------
    folder : Path
        A bundle.
    sites : sequence of Path
        Site TOMLs of hospitals that trained it, with the data of the training still there.
    effort : Effort, optional
        How hard to try.
    seed : int
        Of everything random but the canaries' noise.
    told : callable
        Hears what is being done.

    Raises
    ------
    BadBundle
        The bundle is not whole.
    BadInput
        Its model has an objective of its own, which no attack here reads.
    """
    effort, bundle = effort or Effort(), load_bundle(folder)
    if spec_in(bundle.experiment).objective is not None:
        raise BadInput(
            "the attacks are on models that tell classes of patients", value=bundle.experiment.model.name, remedy="none are for this release"
        )
    places = [Site.load(path) for path in sites]
    found: dict[str, Any] = {"command": _command(places, effort, seed), "bundle": bundle.digest[:12]}
    parts = [seen_records(place, bundle.experiment, bundle.state) for place in places]
    found |= _canaries(bundle.experiment, [training.patients for training, _ in parts], effort, told)
    for place, (training, validation) in zip(places, parts, strict=True):
        told(f"membership: {place.site.name}")
        found |= _membership(bundle, place, training, validation, effort, seed)
    if not places:
        found["membership attack"] = None
    found |= _inversion(bundle.experiment, places, [training for training, _ in parts], effort, seed, told)
    card = {key: value for key, value in bundle.card.items() if key not in ("notice", "experiment", "experiment_digest")}
    write_bundle(folder, state=bundle.state, experiment=bundle.experiment, card={**card, "privacy_audit": found})
    return found


def _command(places: Sequence[Site], effort: Effort, seed: int) -> str:
    named = "".join(f" --site {place.site.name}" for place in places)
    return (
        f"fedild privacy audit BUNDLE{named} --canaries {effort.canaries} --references {effort.references} --victims {effort.victims} --seed {seed}"
    )


def _canaries(experiment: Experiment, patients: Sequence[int], effort: Effort, told: Told) -> dict[str, Any]:
    fit, privacy = spec_of(experiment.model).fit, experiment.privacy
    if not privacy.at_sites or privacy.noise_multiplier is None:
        return {"canary audit": "not applicable: the experiment claims no differential privacy at its sites"}
    if not effort.canaries or fit not in CANARIES:
        return {"canary audit": None}
    rate, steps = steps_of(experiment, min(patients, default=PATIENTS))
    rounds = max(1, min(experiment.federation.rounds, MOST_STEPS // steps))
    setting = Setting(privacy.noise_multiplier, privacy.clip, rate, min(steps, MOST_STEPS), rounds, privacy.grad_sample)
    told(f"canaries: the trainer for {setting.rounds} rounds of {setting.steps} steps")
    verdict = judge([CANARIES[fit](effort.canaries, seed=seed, setting=setting) for seed in SEEDS])
    seen = {}
    for name, planted in PLANTED.items():
        wrong = planted(setting)
        if wrong == setting:
            continue  # everybody is drawn already
        told(f"canaries: {name}")
        blamed = judge([CANARIES[fit](effort.canaries, seed=seed, setting=wrong, claimed=setting) for seed in SEEDS])
        seen[name] = "caught" if blamed.faults() else "not seen: the audit says nothing about it at this setting"
    return {
        "canary audit": "; ".join(verdict.faults()) or "the trainer does what it claims",
        "canary setting": f"sigma {setting.noise_multiplier:g}, q {setting.rate:.3g}, {setting.steps * setting.rounds} steps, {len(SEEDS)} seeds",
        "canary AUC": f"{verdict.auc:.3f}; a correct mechanism gives {verdict.expected_auc:.3f}",
        "canary epsilon at least": f"{verdict.epsilon_at_least:.2f}; claimed for these steps: {verdict.epsilon_claimed:.2f}",
        "canary noise": f"{verdict.noise:.3f} times the promised one",
        "canary power": "; ".join(f"{name}: {words}" for name, words in seen.items()),
    }


def _membership(bundle: Bundle, place: Site, training: Records, validation: Records, effort: Effort, seed: int) -> dict[str, Any]:
    name, experiment = f"membership {place.site.name}", bundle.experiment
    least = place.policy.min_cases
    if training.patients < least or validation.patients < least:
        return {name: f"unknown: fewer than {least} patients on one side"}
    both = Records.join([training, validation])
    probabilities = PREDICTORS[spec_of(experiment.model).fit](experiment, bundle.state, both)
    patients, sure = by_patient(sureness(probabilities, both.labels), both.names)
    classes, inside = by_patient(both.labels, both.names)[1].round(), set(training.names)
    member = np.array([patient in inside for patient in patients])
    found = attack(within_classes(sure, classes), member, seed=seed).cells(f"{name} by loss:")
    if not effort.references:
        return found | {f"{name} calibrated": None}
    unseen = sureness_unseen(experiment, both, references=effort.references, seed=seed)
    return found | attack(within_classes(sure - unseen, classes), member, seed=seed).cells(f"{name} calibrated:")


def _inversion(experiment: Experiment, places: Sequence[Site], cohorts: Sequence[Records], effort: Effort, seed: int, told: Told) -> dict[str, Any]:
    if spec_of(experiment.model).fit == "adversarial":
        return {"update inversion": "not tried: the attack inverts the gradient of one loss, and players have several"}
    if spec_of(experiment.model).fit != "gradient":
        return {"update inversion": "not applicable: no gradients are sent; exact sums are guarded by the number of patients behind them"}
    if not effort.victims or not places:
        return {"update inversion": None}
    inputs, classes = inputs_of(experiment), len(experiment.data.classes)
    state = initial_state(experiment.model, inputs=inputs, outputs=classes, seed=experiment.seed)
    found: dict[str, Any] = {}
    for place, cohort in zip(places, cohorts, strict=True):
        people = cohort.first_of_each()
        if len(people) < max(3, place.policy.min_cases):
            found[f"inversion {place.site.name}"] = f"unknown: fewer than {place.policy.min_cases} patients"
            continue
        told(f"inversion: {place.site.name}")
        for message, words in invert_messages(experiment, state, people, effort=effort, seed=seed).items():
            found[f"inversion {place.site.name}, {message}"] = words
    return found


def invert_messages(experiment: Experiment, state: State, people: Records, *, effort: Effort, seed: int) -> dict[str, str]:
    """Attack one step's update in clear, under differential privacy and under the secure sum, and say what came of each.

    Parameters
    ----------
    experiment : Experiment
        Of a model that is trained by gradients.
    state : State
        Global weights of the round.
    people : Records
        One record a patient: the attacked and those among whom they must be recognised.
    effort : Effort
        `victims` and `iterations`.
    seed : int
        Who is attacked, and where the search begins.
    """
    rng = np.random.default_rng(seed)
    victims = rng.permutation(len(people))[: effort.victims].tolist()
    private = experiment
    if not experiment.privacy.at_sites:
        document = experiment.model_dump(mode="json", exclude_none=True)
        private = Experiment.model_validate(
            {**document, "privacy": ASSUMED, "train": {**document["train"], "class_weights": "none"}, "inputs": _public(document["inputs"])}
        )
    private = private.model_copy(update={"privacy": private.privacy.model_copy(update={"noise_share": 1})})

    def in_clear(number: int) -> State:
        return gradient_in(state, update_in_clear(experiment, state, people.take([number])))

    def under_noise(number: int) -> State:
        return private_gradient(private, state, people.take([number]))

    def under_masks(number: int) -> State:
        others = [other for other in rng.permutation(len(people)).tolist() if other != number][:2]
        updates = {f"site{place}": update_in_clear(experiment, state, people.take([who])) for place, who in enumerate([number, *others])}
        return masked_gradient(experiment, state, updates, site="site0")

    noise = f"differential privacy (sigma {private.privacy.noise_multiplier:g})"
    messages: dict[str, Callable[[int], State]] = {"in clear": in_clear, noise: under_noise, "secure sum": under_masks}
    shape, said = people.inputs.shape[1:], {}
    for name, message in messages.items():
        try:
            finds = [
                invert(experiment, state, message(v), shape=shape, label=int(people.labels[v]), iterations=effort.iterations, seed=seed + v)
                for v in victims
            ]
        except FedILDError as error:
            said[name] = f"unknown: {error.rule}"
            continue
        said[name] = compare(finds, victims, people.inputs).words()
    return said


def _public(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return settings of inputs that privacy allows; the records are made already."""
    return {**inputs, "scale": "none" if inputs.get("scale") == "site" else inputs.get("scale", "none"), "missing": "drop"}
