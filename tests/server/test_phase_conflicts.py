"""What statistics and stages do not go together with: `fedild check` names it with the way out, and the server refuses it."""

from __future__ import annotations

from typing import Any

import pytest

from client.privacy.policy import breaches
from client.site import Policy
from server.app import strategies_of
from server.phases import CLUSTERING, phase_conflicts
from shared_models.core.choices import knobs_of
from shared_models.core.errors import BadChoice, BadExperiment
from shared_models.experiment import Experiment
from shared_models.phases import phases_of
from shared_models.statistics import STATISTICS
from sim.check import NO_LONGER_HU, faults
from sim.tables import rows
from tests.server.phase_sites import COLUMNS, experiment_of

RANGES = {"scale": "range", "columns": COLUMNS, "ranges": dict.fromkeys(COLUMNS, (0.0, 1.0))}
PRIVACY = {"unit": "patient", "noise_multiplier": 1.0}
STANDARD = {"steps": [{"name": "standardise", "standard_hu": list(range(13))}]}
IMAGES = {"data": {"classes": ["a", "b"]}, "model": {"name": "mil_cnn"}, "inputs": {}}
FUZZY = {"segmenter": {"name": "fuzzy_cmeans"}}


def statistics(*names: str, **sections: Any) -> dict[str, Any]:
    known = {"pca": {"components": 2}}
    return {"statistics": [{"name": name, **known.get(name, {})} for name in names], **sections}


def stages(*two: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {"stages": [{"rounds": 1, **stage} for stage in two], "federation": {"quorum": 3}, **sections}


WRONG = {
    "no such statistic": (statistics("scalar"), "did you mean 'scaler'?"),
    "a table statistic for images": (statistics("scaler", **IMAGES), "leave it out"),
    "an image statistic for a table": (statistics("landmarks"), "choose a model of slices or volumes"),
    "scaled at the site already": (statistics("scaler", inputs={"columns": COLUMNS, "scale": "site"}), "inputs.scale = 'none'"),
    "ComBat after its columns are gone": (statistics("pca", "combat"), "name combat first"),
    "more components than columns": ({"statistics": [{"name": "pca", "components": 9}]}, "the table has 5"),
    "landmarks twice": (
        statistics("landmarks", **IMAGES, preparation=STANDARD),
        "leave the step",
    ),
    "no longer HU": (statistics("landmarks", **IMAGES, preparation={"steps": [{"name": "clahe"}]}), "leave the step out"),
    "centres of a segmenter that has none": (statistics("fuzzy_centres", **IMAGES), "preparation.segmenter.name is one of enfcm"),
    "centres twice": (
        statistics("fuzzy_centres", **IMAGES, preparation={"segmenter": {"name": "enfcm", "centres_hu": [-850.0, 40.0]}}),
        "leave centres_hu out",
    ),
    "centres of other clusters": (
        statistics("fuzzy_centres", **IMAGES, preparation={"segmenter": {"name": "frfcm", "clusters": 3}}),
        "set both alike",
    ),
    "centres after landmarks": (statistics("landmarks", "fuzzy_centres", **IMAGES, preparation=FUZZY), "name fuzzy_centres first"),
    "centres of standardised images": (
        statistics("fuzzy_centres", **IMAGES, preparation={**FUZZY, **STANDARD}),
        "name the statistic 'landmarks' after it",
    ),
    "centres of no HU": (statistics("fuzzy_centres", **IMAGES, preparation={**FUZZY, "steps": [{"name": "clahe"}]}), "leave the step out"),
    "centres under privacy": (statistics("fuzzy_centres", **IMAGES, preparation=FUZZY, privacy=PRIVACY), "centres_hu with public centres"),
    "ComBat under privacy": (statistics("combat", inputs=RANGES, privacy=PRIVACY), "leave it out; inputs.ranges"),
    "raw columns under privacy": (statistics("scaler", privacy=PRIVACY), "inputs.scale = 'range'"),
    "statistics and the privacy of sites": (statistics("scaler", privacy={**PRIVACY, "unit": "site"}), "privacy.unit = 'patient'"),
    "stages of sums": (stages({}, {}, model={"name": "logistic"}), "leave [[stages]] out"),
    "stages and the privacy of sites": (stages({}, {}, privacy={**PRIVACY, "unit": "site"}), "leave [[stages]] out"),
    "a layer that is not there": (stages({}, {"train_only": ["heads.*"]}), "the network has 0.bias, 0.weight"),
    "everything": (stages({}, {"train_only": ["*"]}), "not none and not all"),
    "frozen and private": (stages({"train_only": ["0.bias"]}, privacy=PRIVACY), "leave one of them out"),
    "a personal head that is lost": (stages({"strategy": {"name": "fedbn"}}, {}), "use it in the last stage"),
    "two that keep": (stages({"strategy": {"name": "scaffold"}}, {"strategy": {"name": "ditto"}}), "use it in the last stage"),
    "personal and frozen": (stages({}, {"strategy": {"name": "fedper"}, "train_only": ["0.bias"]}), "leave train_only out"),
    "a strategy's own limits": (stages({}, {"strategy": {"name": "krum"}}), "raise the quorum"),
    "stages that stop early": (
        stages({}, {}, federation={"quorum": 3, "stopping": {"metric": "val_loss", "patience": 2}}),
        "leave it out, or [[statistics]], [[stages]] and [[calibration]]",
    ),
    "statistics of rounds that do not wait": (statistics("scaler", strategy={"name": "fedbuff"}), "choose another strategy"),
    "a stage that is a chain": (stages({}, {"strategy": {"name": "cyclic"}}), "choose another strategy"),
    "no such optimiser": (stages({}, {"train": {"optimiser": {"name": "sdg"}}}), "did you mean 'sgd'?"),
}


@pytest.mark.parametrize("name", WRONG)
def test_check_says_what_is_wrong_and_the_way_out(name: str) -> None:
    sections, way = WRONG[name]
    found = faults(experiment_of(**sections))
    assert [fault for fault in found if way in fault], found


SOUND = {
    "all table statistics": statistics("combat", "scaler", "pca"),
    "in private": statistics("scaler", "pca", inputs=RANGES, privacy=PRIVACY),
    "summed": statistics("combat", "scaler", federation={"quorum": 3, "secure_sum": True}),
    "images": statistics("landmarks", **IMAGES),
    "centres, then landmarks": statistics("fuzzy_centres", "landmarks", **IMAGES, preparation=FUZZY),
    "stages": stages({"strategy": {"name": "fedadam"}}, {"train_only": ["0.bias"], "strategy": {"name": "scaffold"}}),
    "a personal end": stages({}, {"strategy": {"name": "fedbn"}}),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_goes_together_is_sound(name: str) -> None:
    experiment = experiment_of(**SOUND[name])
    assert [fault for fault in faults(experiment) if "normal" not in fault] == []
    assert phase_conflicts(experiment) == []
    assert len(strategies_of(experiment, [phase.statistic for phase in phases_of(experiment)])) == len(phases_of(experiment))


def test_the_server_refuses_too() -> None:
    with pytest.raises(BadChoice, match="takes off what 'scaler'"):
        strategies_of(experiment_of(**WRONG["scaled at the site already"][0]), [])


@pytest.mark.parametrize(
    ("sections", "word"),
    [
        (statistics("scaler", "scaler"), "differ from one another"),
        (stages({}, {}, federation={"rounds": 9}), "leave federation.rounds out"),
        ({"stages": []}, "stages have 0 rounds"),
        (stages({"train": {"epoch": 2}}), "stages.1.train.epoch"),
        (stages({"train": {"class_weights": "balanced"}}, privacy=PRIVACY), "stages.1.train.class_weights"),
        (stages({"rounds": 0}), "greater than or equal"),
    ],
)
def test_what_the_file_itself_forbids(sections: dict[str, Any], word: str) -> None:
    text = experiment_of().model_copy(update={}).model_dump(exclude_none=True, mode="json") | sections
    with pytest.raises(BadExperiment) as told:
        from shared_models.core.choices import validated

        validated(Experiment, text, what="x")
    assert any(word in fault for fault in told.value.faults), told.value.faults


def test_a_site_allows_statistics_and_the_strategies_of_all_stages() -> None:
    experiment = experiment_of(**statistics("scaler"), **stages({"strategy": {"name": "fedavg"}}, {"strategy": {"name": "fedprox"}}))
    assert breaches(experiment, Policy()) == []
    codes = [breach.code for breach in breaches(experiment, Policy(strategies=("fedavg",), statistics=("pca",)))]
    assert codes == ["E_POLICY_STRATEGY", "E_POLICY_STATISTIC"]


def test_the_table_is_listed() -> None:
    assert [row[0] for row in rows("statistics")] == list(STATISTICS)
    assert all(row[1] and row[3] for row in rows("statistics"))


def test_segmenters_that_take_centres_are_named() -> None:
    from client.segmentation import SEGMENTERS

    assert {name for name, segmenter in SEGMENTERS.items() if "centres_hu" in knobs_of(segmenter)} == set(CLUSTERING)


def test_steps_that_leave_hounsfield_units_are_named() -> None:
    from pathlib import Path

    import client.preprocessing

    folder = Path(client.preprocessing.__file__).parent
    assert {path.stem for path in folder.glob("*.py") if "is_hu=False" in path.read_text()} == NO_LONGER_HU | {"standardise"}
