"""Networks that learn survival: hazards from any network, risks that never fall, at a site and between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.cases.cohort import Case, Cohort, Visit
from client.privacy.policy import enforce
from client.site import Policy, Site
from client.training import PREDICTORS, diagnosis_probabilities
from client.training.gradient import fit_gradient, loss_of_each
from client.training.hazards import risks
from client.training.objective import aims_of, augmented
from client.training.records import Records
from client.training.rules import Plain
from client.worker import Worker
from shared_models.catalogue import initial_state, spec_in, spec_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadCohort, Refused
from shared_models.experiment import Data, Evaluation, Experiment, Inputs, Train
from shared_models.messages import Job
from shared_models.metrics.prognosis import score_prognosis
from sim.check import faults

HORIZONS = (1.0, 3.0, 5.0)
SURVIVAL = Data.model_validate({"target": "survival", "horizons": list(HORIZONS)})


def experiment_of(**changes: object) -> Experiment:
    base = Experiment(
        name="hazards",
        data=SURVIVAL,
        inputs=Inputs(columns=("whole_haa_percent", "age"), visits="all"),
        model=Choice.model_validate({"name": "multimodal", "width": 8, "hidden": 16, "dropout": 0.0, "modality_dropout": 0.0}),
        train=Train(epochs=20, batch=32, optimiser=Choice.model_validate({"name": "adamw", "lr": 0.01})),
        evaluation=Evaluation(validation=0.3, bootstrap=0, headline="harrell_c"),
    )
    return base.model_copy(update=changes)


def planted(count: int, seed: int) -> Records:
    """Exponential times whose hazard rises with the first column; censoring hangs on nothing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 2))
    death, last = rng.exponential(6 * np.exp(-1.2 * x[:, 0])), rng.uniform(0.5, 8, count)
    return Records(x, (death <= last).astype(np.int64), tuple(map(str, range(count))), times=np.minimum(death, last))


def start_of(experiment: Experiment) -> dict[str, np.ndarray]:
    return initial_state(experiment.model, inputs=2, outputs=experiment.data.outputs, seed=0)


def test_a_network_learns_planted_hazards_and_states_risks_that_never_fall() -> None:
    experiment, train, held = experiment_of(), planted(400, 0), planted(400, 1)
    fitted = fit_gradient(experiment, start_of(experiment), train, rule=Plain(), factor=1.0, seed=0)
    found = PREDICTORS["gradient"](experiment, fitted.state, held)
    assert found.shape == (400, 3) and (np.diff(found, axis=1) >= 0).all() and (found > 0).all() and (found < 1).all()
    scores = score_prognosis(held.outcome, found, HORIZONS, bootstrap=0)
    assert scores["harrell_c"]["value"] > 0.7
    truth = 1 - np.exp(-np.array(HORIZONS) / (6 * np.exp(-1.2 * held.inputs[:, :1])))
    assert np.abs(found.mean(0) - truth.mean(0)).max() < 0.05  # those who left early neither raise the risk nor lower it
    assert fitted.loss is not None and fitted.loss < 2.0
    assert PREDICTORS["gradient"](experiment, fitted.state, held.take([])).shape == (0, 3)


def test_augmentation_moves_images_and_leaves_outcomes() -> None:
    records = replace(planted(4, 0), inputs=np.zeros((4, 1, 2, 2)))
    aims = aims_of(records, range(4))
    assert aims.dtype == torch.float64 and np.array_equal(aims.numpy(), records.outcome[:, :2])
    moved = augmented(torch.zeros(4, 1, 2, 2), aims, [(True, lambda batch, generator, unit: batch.flip(-1))], torch.Generator(), 1.0)[1]
    assert torch.equal(moved, aims)


def test_horizons_and_intervals() -> None:
    assert SURVIVAL.intervals == tuple(np.arange(1, 11) / 2) and SURVIVAL.outputs == 10
    assert Data.model_validate({"target": "survival", "horizons": [0.8]}).intervals == (0.5, 0.8)
    own = Data.model_validate({"target": "survival", "horizons": [1, 3], "intervals": [1, 4]})
    assert own.outputs == 2 and risks(torch.full((1, 2), 3.0).double(), data=own).numpy()[0] == pytest.approx([0.5, 1 - 0.5 ** (1 + 2 / 3)])
    assert Data.model_validate({"target": "survival", "horizons": [365, 1825]}).intervals == ()  # of days they are to be named
    for wrong in ({"horizons": [3, 1]}, {"horizons": [3], "intervals": [1, 2]}, {"intervals": [1]}, {"horizons": [-1]}):
        with pytest.raises(ValueError, match=r"horizons|intervals"):
            Data.model_validate({"target": "survival", **wrong})
    with pytest.raises(ValueError, match="horizons"):
        Data.model_validate({"classes": ["a", "b"], "horizons": [1]})


def test_what_a_network_of_hazards_is_and_what_it_refuses() -> None:
    experiment = experiment_of()
    assert (spec_in(experiment).task, spec_of(experiment.model).task) == ("survival", "diagnosis")
    assert spec_in(experiment_of(model=Choice(name="cox"))).objective is None
    bare = experiment_of(data=Data.model_validate({"target": "survival"}))
    with pytest.raises(BadChoice, match=r"data\.horizons"):
        spec_in(bare)
    assert [fault for fault in faults(bare) if "data.horizons" in fault]
    with pytest.raises(BadChoice, match="an output of its own for each hazard"):
        spec_in(experiment_of(model=Choice(name="linear")))
    with pytest.raises(BadCohort, match="no loss of logits and labels"):
        loss_of_each(experiment)
    smoothed = experiment_of(train=Train(label_smoothing=0.1), evaluation=Evaluation(ensemble=Choice(name="mean"), headline="harrell_c"))
    assert {fault.partition(":")[0] for fault in faults(smoothed)} == {"train.label_smoothing", "evaluation.ensemble"}
    with pytest.raises(Refused, match="listed tasks") as refused:
        enforce(experiment, Policy(tasks=("diagnosis",)))
    assert refused.value.code == "E_POLICY_TASK"


def site_of(folder: Path) -> Site:
    """A site of 60 patients with one to three visits; every third has no known diagnosis, the others one that their density tells."""
    records, rng, cases = planted(60, 3), np.random.default_rng(0), []
    for number in range(60):
        visits, density = [], float(records.inputs[number, 0])
        for visit in range(1 + number % 3):
            years = round(float(records.times[number]) - 0.25 * visit, 6)  # type: ignore[index]
            if years > 0:
                known: dict[str, float | str] = {"age": float(rng.normal()), "time_years": years, "event": float(records.labels[number])}
                visits.append(Visit(f"v{number}.{visit}", 91 * visit, "s", Path("x"), {"whole_haa_percent": density}, known))
        label = "not told" if number % 3 == 0 else "UIP" if density > 0 else "NSIP"
        cases.append(Case(f"p{number:02d}", tuple(visits), label))
    Cohort(tuple(cases), ("NSIP", "UIP", "not told")).save(folder / "workspace" / "cohort.json")
    (folder / "site.toml").write_text('[site]\nname = "alpha"\n')
    return Site.load(folder / "site.toml")


def test_a_site_trains_on_every_visit_and_judges_the_first(tmp_path: Path) -> None:
    experiment, worker = experiment_of(), Worker(site_of(tmp_path))
    text = experiment.to_json()
    update = worker.handle(Job(run="r", round=1, kind="fit", state=start_of(experiment), experiment=text, rule={"name": "plain", "lr_factor": 1.0}))
    assert update.code == ""
    training, validation = worker.records(experiment, {})
    assert len(training) > training.patients == update.num_cases and len(validation) == validation.patients
    assert not set(training.names) & set(validation.names)
    judged = worker.handle(Job(run="r", round=1, kind="judge", state=update.state, experiment=text, rule={"name": "plain", "lr_factor": 1.0}))
    assert set(judged.metrics) == {"val_loss", "val_harrell_c", "val_cases"} and 0 < judged.metrics["val_loss"] < 5
    poorer = worker.handle(Job(run="r", round=1, kind="judge", state=start_of(experiment), experiment=text, rule={"name": "plain", "lr_factor": 1.0}))
    assert judged.metrics["val_loss"] < poorer.metrics["val_loss"]


def test_a_second_head_learns_the_diagnosis_beside_the_hazards_of_every_visit(tmp_path: Path) -> None:
    plain = experiment_of()
    data = Data.model_validate(plain.data.model_dump() | {"diagnoses": ("NSIP", "UIP")})
    experiment = plain.model_copy(update={"data": data})
    worker, start, rule = Worker(site_of(tmp_path)), start_of(experiment), {"name": "plain", "lr_factor": 1.0}
    update = worker.handle(Job(run="r", round=1, kind="fit", state=start, experiment=experiment.to_json(), rule=rule))
    assert update.code == ""
    training, _ = worker.records(experiment, {})
    assert training.targets is not None and set(training.targets) == {-1.0, 0.0, 1.0}
    numbers = {name: {float(t) for n, t in zip(training.names, training.targets, strict=True) if n == name} for name in training.names}
    assert all(len(of) == 1 for of in numbers.values()), "all visits of a patient carry one diagnosis"
    known = training.targets >= 0
    right = [(diagnosis_probabilities(experiment, state, training).argmax(1) == training.targets)[known].mean() for state in (start, update.state)]
    assert right[1] > max(0.8, right[0])
