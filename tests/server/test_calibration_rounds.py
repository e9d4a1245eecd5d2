"""Calibrations after training: on the rails of any other round, equal to the pooled fit, and silent about few patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.calibration import calibrated, logits_of, representation_of
from client.privacy.policy import enforce
from client.selection import split_records
from client.site import Site
from client.statistics import seen_records
from client.training.records import Records
from client.worker import Worker
from server.app import run_experiment
from server.phases import phase_conflicts, strategy_in_words
from server.reports.released import evaluate_released
from server.runs import exchange
from server.runs.log import last_of_training, read_rounds
from shared_models.calibrated import calibration_facts
from shared_models.calibration.cells import counted, quantile
from shared_models.calibration.conformal import conformal
from shared_models.calibration.temperature import ROUNDS, temperature
from shared_models.core.choices import Choice
from shared_models.core.errors import BadExperiment, Interrupted, Refused
from shared_models.core.files import read_json, read_state, write_atomic
from shared_models.experiment import Experiment
from shared_models.judging.released import exact_figures
from shared_models.messages import Job, Update
from shared_models.phases import fit_of, phases_of, rounds_of, trained, training_of
from sim.evaluation import is_deployed
from tests.server.loop_grid import LoopGrid
from tests.server.phase_sites import experiment_of, knobs, site

ROWS = {"alpha": 60, "beta": 90, "gamma": 75}
ALL = (Choice(name="temperature"), knobs("conformal", coverage=0.8, cells=50), knobs("unfamiliar", familiar=0.9, cells=40))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.001, 0.005))


def sites_of(folder: Path, rows: dict[str, int] = ROWS, toml: str = "") -> dict[str, Path]:
    return {name: site(folder, name, seed, count, toml) for seed, (name, count) in enumerate(rows.items())}


def run(experiment: Experiment, sites: dict[str, Path], folder: Path) -> tuple[dict[str, np.ndarray], list[tuple[Job, Update]]]:
    """Run an experiment; return the final state and every answer that left."""
    answers: list[tuple[Job, Update]] = []

    def answering(worker: Worker) -> Any:
        def handle(job: Job) -> Update:
            answers.append((job, worker.handle(job)))
            return answers[-1][1]

        return handle

    grid = LoopGrid({name: answering(Worker(Site.load(path))) for name, path in sites.items()})
    state = run_experiment(grid, experiment, folder, durable=False).state
    return {key: value.copy() for key, value in state.items()}, answers


def experiment(secure: bool = False, **sections: Any) -> Experiment:
    federation = {"rounds": 3, "quorum": 3, "deadline_s": 60.0, "secure_sum": {"largest_change": 8.0} if secure else None}
    return experiment_of(Choice(name="scaler"), **{"federation": federation, "calibration": ALL, **sections})


@pytest.mark.parametrize("secure", [False, True])
def test_calibrations_of_a_run_equal_the_pooled_fit(secure: bool, tmp_path: Path) -> None:
    sites, asked = sites_of(tmp_path / "sites"), experiment(secure)
    state, answers = run(asked, sites, tmp_path / "run")
    lines = read_rounds(tmp_path / "run" / "rounds.jsonl")
    phases = ["scaler"] * 2 + ["training"] * 3 + ["temperature"] * 6 + ["conformal"] + ["unfamiliar"] * 3
    assert [line["phase"] for line in lines] == phases and rounds_of(asked) == len(phases)
    assert last_of_training(lines)["round"] == 5

    split = [seen_records(Site.load(path), asked, state) for path in sites.values()]
    held = [one[1] for one in split]
    plain = asked.model_copy(update={"calibration": None})
    logits, y = np.concatenate([logits_of(plain, state, records) for records in held]), np.concatenate([records.labels for records in held])
    slow = temperature(2)
    beta = slow.start(2)
    for _ in range(ROUNDS):
        beta = slow.combine(beta, [slow.contribution(beta, logits, y, seed=0)], [])
    loose = 1e-3 if secure else 1e-6
    np.testing.assert_allclose(fit_of(state, "temperature", after=True)["beta"], beta["beta"], rtol=1e-3)

    sets = fit_of(state, "conformal", after=True)
    fit = conformal(2, coverage=0.8, cells=50)
    scores = fit.scores(slow.seen(fit_of(state, "temperature", after=True), logits))[np.arange(len(y)), y]
    exact = quantile(counted(scores, fit.edges), fit.edges, 0.8)
    assert exact.threshold <= sets["threshold"][0] <= 1 and sets["patients"][0] == len(y)
    assert 0.8 <= sets["least"][0] <= sets["most"][0] <= 1
    found = (scores <= sets["threshold"][0]).mean()
    assert found >= 0.8 - 1 / len(y)

    rows = np.concatenate([representation_of(asked, state, one[0]) for one in split])
    far = fit_of(state, "unfamiliar", after=True)
    np.testing.assert_allclose(far["mean"], rows.mean(0), rtol=loose, atol=loose)
    shrunk = 0.9 * np.cov(rows.T, bias=True) + 0.1 * np.eye(5) * np.trace(np.cov(rows.T, bias=True)) / 5
    np.testing.assert_allclose(np.linalg.inv(far["precision"]), shrunk, rtol=10 * loose, atol=10 * loose)

    judged = read_json(tmp_path / "run" / "site_metrics.json")
    assert "val_loss" in judged["all sites" if secure else "beta"]
    assert "val_loss" not in lines[6]["sites"]["beta"]["metrics"]
    facts = calibration_facts(asked, read_state(tmp_path / "run" / "final.safetensors"))
    assert list(facts) == ["temperature", "conformal", "unfamiliar"] and facts["conformal"]["coverage"] == 0.8
    assert strategy_in_words(asked) == "scaler, then fedavg, then temperature, then conformal, then unfamiliar"
    if not secure:
        cells = [update.state["cells"] for _, update in answers if "cells" in update.state]
        assert len(cells) == 3 + 9 and any(one.any() for one in cells) and not any(((one > 0) & (one < 5)).any() for one in cells)


@pytest.mark.parametrize("secure", [False, True])
def test_a_deployed_run_is_judged_by_its_released_histograms_within_bounds(secure: bool, tmp_path: Path) -> None:
    calibration = (knobs("score_histograms", cells=50), knobs("operating_point", label=1))
    sites, asked = sites_of(tmp_path / "sites"), experiment(secure, calibration=calibration)
    folder = tmp_path / "run"
    folder.mkdir()
    write_atomic(folder / "experiment.json", asked.for_sites().to_json().encode())
    state, answers = run(asked, sites, folder)
    if not secure:
        cells = [update.state["cells"] for job, update in answers if job.round == 6]
        assert len(cells) == 3 and not any(((one > 0) & (one < 5)).any() for one in cells)
    split = [seen_records(Site.load(path), asked, state)[1] for path in sites.values()]
    plain = asked.model_copy(update={"calibration": None})
    p, y = np.concatenate([np.exp(logits_of(plain, state, one)) for one in split]), np.concatenate([one.labels for one in split])
    page = evaluate_released(folder)
    found = read_json(page.parent / "released.json")
    for c, name in enumerate(asked.data.classes):
        exact, row = exact_figures(y == c, p[:, c]), found["by_class"][name]
        assert row["positives"] == (y == c).sum() and row["missing"] == 0
        for figure in ("auroc", "auprc", "sensitivity", "brier", "intercept", "ece"):
            assert row[figure]["low"] - 1e-9 <= exact[figure] <= row[figure]["high"] + 1e-9
        low, high = row["slope"]["low"], row["slope"]["high"]
        assert (low is None or low <= exact["slope"]) and (high is None or exact["slope"] <= high)
    # Each hospital by itself, where its counts are not hidden: they add up to the whole.
    assert set(found["by_site"]) == (set() if secure else set(sites)) and secure != (folder / "site_histograms.json").exists()
    for place, name in enumerate(asked.data.classes):
        counted = [table[name]["positives"] for table in found["by_site"].values()]
        assert secure or sum(counted) == found["by_class"][name]["positives"]
        for (own, table), one in zip(found["by_site"].items(), split, strict=not secure):
            assert table[name]["positives"] == (one.labels == place).sum(), own
            assert table[name]["auroc"]["value"] is not None or table[name]["why"]
    assert found["operating_point"]["specificity"]["n"] > 0 and ("beta" in found["sites"]) != secure
    assert "Research use only" in page.read_text() and is_deployed(folder)


def test_a_new_patient_gets_a_set_and_a_stranger_a_flag(tmp_path: Path) -> None:
    sites, asked = sites_of(tmp_path / "sites"), experiment()
    state, _ = run(asked, sites, tmp_path / "run")
    known = seen_records(Site.load(sites["beta"]), asked, state)[1]
    one = known.take([0])
    p, said = calibrated(asked, state, one)
    assert p.sum() == pytest.approx(1) and said.classes and set(said.classes) <= {"a", "b"}
    assert said.coverage is not None and said.coverage["wanted"] == 0.8 and said.temperature is not None
    flagged = [calibrated(asked, state, known.take([number]))[1].unfamiliar for number in range(len(known))]
    assert np.mean(flagged) <= 0.3  # one in ten is meant to be
    np.testing.assert_allclose(np.log(p), logits_of(asked, state, one)[0])
    stranger = Records(known.inputs[:1] + 50.0, known.labels[:1], ("x",))
    assert calibrated(asked, state, stranger)[1].unfamiliar
    plain = asked.model_copy(update={"calibration": None})
    assert calibrated(plain, state, one)[1].as_dict()["unfamiliar"] is None
    assert trained(state).keys() == {"0.weight", "0.bias"}


def test_a_site_with_few_held_out_patients_sends_nothing(tmp_path: Path) -> None:
    sites = sites_of(tmp_path / "sites", {"alpha": 60, "beta": 90, "gamma": 27})  # nine held out
    asked = experiment(federation={"rounds": 1, "quorum": 3, "deadline_s": 60.0, "retries": 0})
    assert len(split_records(Site.load(sites["gamma"]), asked)[1]) == 9
    with pytest.raises(Interrupted):
        run(asked, sites, tmp_path / "run")
    refused = read_rounds(tmp_path / "run" / "rounds.jsonl")
    assert [line["phase"] for line in refused] == ["scaler", "scaler", "training"]  # and no round of a calibration


def test_a_site_asks_for_cells_that_hold_enough(tmp_path: Path) -> None:
    path = sites_of(tmp_path, {"alpha": 60}, toml="[policy]\nmin_per_class = 7\n")["alpha"]
    policy = Site.load(path).policy
    with pytest.raises(Refused, match="least = 7") as caught:
        enforce(experiment(), policy)
    assert caught.value.code == "E_POLICY_STATISTIC"
    enforce(experiment(calibration=(knobs("conformal", least=7), Choice(name="temperature"))), policy)
    listed = Site.load(sites_of(tmp_path / "b", {"alpha": 60}, toml='[policy]\nstatistics = ["scaler"]\n')["alpha"]).policy
    with pytest.raises(Refused, match="temperature"):
        enforce(experiment(), listed)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"calibration": (Choice(name="conformal"), Choice(name="temperature"))}, "temperature before conformal"),
        ({"strategy": {"name": "ditto"}}, "a model of its own"),
        ({"privacy": {"unit": "patient", "noise_multiplier": 1.0}}, "carry no noise"),
        (
            {"model": {"name": "texture_kernel"}, "data": {"kind": "patches", "classes": ["a", "b"]}, "evaluation": {"validation": 0.2}},
            "no representation",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(sections: dict[str, Any], words: str) -> None:
    asked = experiment(**sections)
    assert any(words in str(conflict) for conflict in phase_conflicts(asked)), list(map(str, phase_conflicts(asked)))


def test_what_cannot_be_read_is_refused() -> None:
    base = experiment().model_dump(mode="json", exclude_none=True)
    for change, words in (
        ({"calibration": [{"name": "temperature"}, {"name": "temperature"}]}, "differ from one another"),
        ({"data": {"kind": "studies", "classes": ["a", "b"]}, "evaluation": {"validation": 0.0}}, "held-out patients"),
    ):
        with pytest.raises((BadExperiment, ValueError), match=words):
            Experiment.model_validate(base | change)


def test_phases_say_which_round_is_which() -> None:
    asked = experiment()
    assert [(phase.name, phase.first, phase.last, phase.after) for phase in phases_of(asked)][1:] == [
        ("training", 3, 5, False),
        ("temperature", 6, 11, True),
        ("conformal", 12, 12, True),
        ("unfamiliar", 13, 15, True),
    ]
    assert training_of(asked).name == "training"
