"""The fusion network: an interaction of modalities is learnt, a missing one costs little, a site without one takes part, no shortcut by default."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.cases.cohort import Visit
from client.selection import scaled
from client.training import FITTERS, PREDICTORS
from client.training.gradient import network_of
from client.training.records import Records, table_row
from client.training.rules import Plain
from shared_models.catalogue import initial_state, inputs_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadCohort
from shared_models.experiment import Data, Experiment, Inputs, Train
from shared_models.metrics import score

GROUPS = {"ct": ["haa", "skew"], "lung_function": ["fvc", "dlco"]}
COLUMNS = ("haa", "skew", "fvc", "dlco")
CT, PFT = slice(0, 2), slice(2, 4)


def experiment_of(fusion: str = "attention", groups: dict[str, list[str]] | None = None, **inputs: object) -> Experiment:
    chosen = GROUPS if groups is None else groups
    columns = tuple(name for _, names in sorted(chosen.items()) for name in names)
    knobs = {"fusion": fusion, "groups": chosen, "width": 16, "hidden": 32, "dropout": 0.0, "modality_dropout": 0.3}
    train = Train(steps=60, batch=64, optimiser=Choice.model_validate({"name": "adamw", "lr": 0.01}), schedule="constant")
    model = Choice.model_validate({"name": "multimodal", **knobs})
    read = Inputs.model_validate({"columns": columns, "missing": "mask", **inputs})
    return Experiment(name="x", data=Data(kind="table", classes=("a", "b")), model=model, inputs=read, train=train)


def patients(count: int, seed: int) -> Records:
    """Each modality says a little alone; what one means hangs on the other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4))
    logit = 0.7 * x[:, 0] + 0.7 * x[:, 2] + 2.5 * x[:, 1] * x[:, 3]
    y = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return Records(x, y, tuple(map(str, range(count))))


def without(records: Records, part: slice) -> Records:
    x = records.inputs.copy()
    x[:, part] = np.nan
    return replace(records, inputs=x)


def fitted(experiment: Experiment, sites: list[Records], rounds: int = 8) -> dict[str, np.ndarray]:
    """Federated averaging over sites, each a few steps a round."""
    state = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=2, seed=0)
    total = sum(len(site) for site in sites)
    for number in range(rounds):
        parts = [FITTERS["gradient"](experiment, state, site, rule=Plain(), factor=1.0, seed=100 * number + i).state for i, site in enumerate(sites)]
        state = {key: sum(len(s) / total * part[key] for s, part in zip(sites, parts, strict=True)).astype(state[key].dtype) for key in state}
    return state


def auroc(experiment: Experiment, state: dict[str, np.ndarray], records: Records) -> float:
    p = PREDICTORS["gradient"](experiment, state, records)
    return float(score(records.labels, p, ("a", "b"), metrics=("auroc_macro",), bootstrap=0)["auroc_macro"]["value"])


@functools.cache
def joint(fusion: str) -> dict[str, np.ndarray]:
    return fitted(experiment_of(fusion), [patients(900, 1)])


@functools.cache
def single(name: str) -> float:
    """AUROC of one modality's own model on new patients."""
    columns = {"ct": CT, "lung_function": PFT}[name]
    experiment = experiment_of(groups={name: GROUPS[name]})
    state = fitted(experiment, [replace(known := patients(900, 1), inputs=known.inputs[:, columns])])
    return auroc(experiment, state, replace(new := patients(1500, 2), inputs=new.inputs[:, columns]))


@pytest.mark.parametrize("fusion", ["attention", "concat"])
def test_an_interaction_is_worth_more_than_either_modality(fusion: str) -> None:
    found, best = auroc(experiment_of(fusion), joint(fusion), patients(1500, 2)), max(single("ct"), single("lung_function"))
    assert found >= best + 0.05, (found, best)


@pytest.mark.parametrize("fusion", ["attention", "concat"])
@pytest.mark.parametrize(("name", "gone"), [("ct", PFT), ("lung_function", CT)])
def test_a_missing_modality_costs_little_against_the_other_ones_own_model(fusion: str, name: str, gone: slice) -> None:
    assert auroc(experiment_of(fusion), joint(fusion), without(patients(1500, 2), gone)) > single(name) - 0.05


@pytest.mark.parametrize("part", [CT, PFT])
def test_each_modality_is_used(part: slice) -> None:
    records = patients(200, 3)
    mixed = records.inputs.copy()
    mixed[:, part] = mixed[np.random.default_rng(0).permutation(200), part]
    before, after = (PREDICTORS["gradient"](experiment_of(), joint("attention"), replace(records, inputs=x)) for x in (records.inputs, mixed))
    assert np.abs(before - after).mean() > 0.05


def test_late_fusion_sums_what_each_says_alone() -> None:
    experiment = experiment_of("late")
    state = initial_state(experiment.model, inputs=4, outputs=2, seed=0)
    network, x = network_of(experiment, state), torch.randn(5, 4)
    nan = torch.full((5, 2), torch.nan)
    with torch.inference_mode():
        both, nothing = network(x), network(torch.full((5, 4), torch.nan))
        parts = network(torch.cat([x[:, CT], nan], 1)), network(torch.cat([nan, x[:, PFT]], 1))
    torch.testing.assert_close(both, parts[0] + parts[1] - nothing)


@pytest.mark.parametrize("fusion", ["attention", "concat", "late"])
def test_an_absent_modality_teaches_its_encoder_nothing(fusion: str) -> None:
    experiment = experiment_of(fusion)
    network = network_of(experiment, initial_state(experiment.model, inputs=4, outputs=2, seed=0)).train()
    x = torch.from_numpy(without(patients(20, 4), PFT).inputs).float()
    network(x)[:, 1].sum().backward()
    gone, there = (network.encoders[number].layers[0].weight.grad for number in (1, 0))  # type: ignore[index]
    assert gone is None or not gone.any()
    assert there is not None and there.any()


def test_a_site_without_lung_function_takes_part() -> None:
    parts = [patients(450, 11), patients(450, 12), without(patients(450, 13), PFT)]
    experiment, new = experiment_of(), patients(1500, 2)
    together = fitted(experiment, parts)
    assert auroc(experiment, together, new) >= max(single("ct"), single("lung_function")) + 0.05
    assert auroc(experiment, together, without(new, PFT)) > single("ct") - 0.05


def test_attention_is_shared_by_what_is_there() -> None:
    network = network_of(experiment_of(), joint("attention"))
    x = torch.from_numpy(patients(6, 5).inputs).float()
    seen: list[torch.Tensor] = []
    weights = network.weights
    network.weights = lambda *given: seen.append(weights(*given)) or seen[-1]  # type: ignore[operator,func-returns-value,assignment]
    with torch.inference_mode():
        network(x)
        x[:, PFT] = torch.nan
        network(x)
        x[:] = torch.nan
        logits = network(x)
    torch.testing.assert_close(seen[0].sum(1), torch.ones(6))
    assert seen[1].tolist() == [[1.0, 0.0]] * 6 and not seen[2].any() and logits.isfinite().all()


def test_modality_dropout_never_drops_all() -> None:
    experiment = experiment_of()
    network = network_of(experiment, joint("attention")).train()
    network.modality_dropout = 0.9  # type: ignore[assignment]
    seen: list[torch.Tensor] = []
    weights = network.weights
    network.weights = lambda *given: seen.append(weights(*given)) or seen[-1]  # type: ignore[operator,func-returns-value,assignment]
    network(torch.from_numpy(without(patients(400, 6), PFT).inputs).float())
    network(torch.from_numpy(patients(400, 6).inputs).float())
    assert (seen[0][:, 0] == 1).all()
    torch.testing.assert_close(seen[1].sum(1), torch.ones(400))
    assert 0.1 < float((seen[1] == 1).any(1).float().mean()) < 0.5


VENDOR = ("vendor=sharp",)


def test_the_scanner_is_no_shortcut_by_default() -> None:
    with pytest.raises(ValueError, match="acquisition_columns = true"):
        Inputs(columns=("haa", *VENDOR))
    assert Inputs(columns=("haa", *VENDOR), acquisition_columns=True).columns == ("haa", *VENDOR)

    def at(count: int, seed: int, *, tied: bool) -> Records:
        """Patients whose scanner tells the label, in the training hospitals alone."""
        plain = patients(count, seed)
        vendor = plain.labels if tied else np.random.default_rng(seed).integers(0, 2, count)
        return replace(plain, inputs=np.column_stack([plain.inputs, vendor]))

    groups = {**GROUPS, "scanner": list(VENDOR)}
    shortcut = experiment_of(groups=groups, acquisition_columns=True)
    fooled = auroc(shortcut, fitted(shortcut, [at(900, 1, tied=True)], rounds=3), at(1500, 2, tied=False))
    honest = auroc(experiment_of(), joint("attention"), patients(1500, 2))
    tied = at(900, 1, tied=True)
    default = fitted(experiment_of(), [replace(tied, inputs=tied.inputs[:, :4])])
    assert auroc(experiment_of(), default, patients(1500, 2)) >= 0.9 * honest
    assert fooled < 0.9 * honest  # the shortcut is there to be taken


def test_groups_are_the_columns() -> None:
    experiment = experiment_of()
    again = Experiment.from_json(experiment.to_json())
    assert inputs_of(again) == 4 and list(again.inputs.columns) == list(COLUMNS)
    swapped = experiment.model_copy(update={"inputs": Inputs(columns=COLUMNS[::-1], missing="mask")})
    with pytest.raises(BadChoice, match="alphabetical order"):
        inputs_of(swapped)


def test_missing_values_stay_missing_on_the_way() -> None:
    visit = Visit("v", 0, "s", Path("x"), {"haa": 3.0, "skew": float("nan")}, {"fvc": 80.0, "sex": "F"})
    row = table_row(visit, COLUMNS, gaps=True)
    assert np.isnan(row).tolist() == [False, True, False, True] and row[[0, 2]].tolist() == [3.0, 80.0]
    with pytest.raises(BadCohort, match="'skew'"):
        table_row(visit, COLUMNS)
    with pytest.raises(BadCohort, match="'sex'"):
        table_row(visit, ("sex",), gaps=True)


def test_scaling_at_the_site_reads_what_is_known() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, 5.0], [5.0, np.nan]])
    training = np.array([True, True, True, False])
    out = scaled(values, Inputs(columns=("a", "b"), missing="mask", scale="site"), training=training)
    np.testing.assert_allclose(out, [[-1, np.nan], [1, np.nan], [np.nan, 0], [3, np.nan]])
    ranged = scaled(values, Inputs(columns=("a", "b"), missing="mask", scale="range", ranges={"a": (0, 10), "b": (0, 10)}), training=training)
    np.testing.assert_allclose(ranged[:2], [[-0.8, np.nan], [-0.4, np.nan]])
