"""One battery over MODELS: the contract of every model (L0), and that it learns what can be learnt and nothing else (L1)."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from client.training import FITTERS, PREDICTORS
from client.training.device import training_on
from client.training.gradient import network_of
from client.training.per_unit import refuse_shared_statistics
from client.training.records import Records
from client.training.rules import Plain
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.catalogue import MODELS, build, initial_state, inputs_of
from shared_models.core.choices import Choice, knobs_of
from shared_models.core.errors import BadChoice, BadInput, BadState, FedILDError
from shared_models.core.files import pack_state, unpack_state
from shared_models.core.state import digest
from shared_models.experiment import Data, Experiment, Inputs, Train
from shared_models.networks import NETWORKS
from tests.shared_models.tiny import TINY, shape_of

CLASSES = ("a", "b")
RATES = {"linear": 0.1, "visit_transformer": 0.01}
"""Learning rates of models that need another one than 0.003."""
NAMES = sorted(name for name, spec in MODELS.items() if spec.task == "diagnosis")
"""Models of survival have no classes to tell apart: `classical/test_cox.py`, and the battery of exact sums."""
NETS = sorted(NETWORKS)


def experiment_of(name: str) -> Experiment:
    columns = tuple(f"c{number}" for number in range(1, shape_of(name)[0] + 1)) if MODELS[name].takes == "table" else ()
    kind = "patches" if MODELS[name].takes == "patch" else "studies"
    optimiser = Choice.model_validate({"name": "adamw", "lr": RATES.get(name, 0.003)})
    train = Train(epochs=1, batch=8, optimiser=optimiser, schedule="constant")
    model = Choice.model_validate({"name": name, **TINY.get(name, {})})
    return Experiment(name="battery", data=Data(kind=kind, classes=CLASSES), model=model, inputs=Inputs(columns=columns), train=train)


def samples(name: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise whose mean differs between the classes, in the values that the model reads."""
    spec = MODELS[name]
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    x = rng.normal(0.3, 0.1, (count, *shape_of(name))) + 0.3 * y.reshape(-1, *(1,) * len(shape_of(name)))
    if spec.units == "hu" and spec.takes != "table":
        x = x * 600 - 1000
    return x.astype(np.float64 if spec.takes == "table" else np.float32), y


def start(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    experiment = experiment_of(name)
    return initial_state(experiment.model, inputs=inputs_of(experiment), outputs=2, seed=seed)


def predict(name: str, state: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return PREDICTORS[MODELS[name].fit](experiment_of(name), state, Records(x, np.zeros(len(x), np.int64), tuple(map(str, range(len(x))))))


def fitted(name: str, x: np.ndarray, y: np.ndarray, rounds: int, seed: int = 0, enough: float = 2.0) -> dict[str, np.ndarray]:
    """Fit as one site alone would, through the fitter of the client, until that share of the samples is known."""
    experiment, state = experiment_of(name), start(name)
    records = Records(x, y.astype(np.int64), tuple(map(str, range(len(x)))))
    model = None if MODELS[name].fit in NETWORK_FITS else build(experiment.model, inputs=inputs_of(experiment), outputs=2)
    for number in range(rounds):
        result = FITTERS[MODELS[name].fit](experiment, state, records, rule=Plain(), factor=1.0, seed=seed + number).state
        if model is None:
            state = result
        else:
            model.check(result, state)
            state = model.combine(state, [result], [float(len(x))])
        if enough <= 1 and (predict(name, state, x).argmax(1) == y).mean() >= enough:
            break
    return state


ROUNDS = {"gradient": 25, "adversarial": 25, "sums": 8, "trees": 1}


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_defaults_build_and_small_knobs_are_knobs(self, name: str) -> None:
        spec = MODELS[name]
        assert build(Choice(name=name), inputs=inputs_of(experiment_of(name)), outputs=2) is not None
        assert list(inspect.signature(spec.build).parameters)[:2] == ["inputs", "outputs"]
        assert set(TINY.get(name, {})) <= set(knobs_of(spec.build))
        assert spec.source
        assert (spec.loss is not None) == (spec.fit in NETWORK_FITS)
        with pytest.raises(BadChoice, match="no knob 'zzz'"):
            build(Choice.model_validate({"name": name, "zzz": 1}), inputs=1, outputs=2)

    def test_predictions_are_probabilities_and_survive_the_disk(self, name: str) -> None:
        x, y = samples(name, 8, 1)
        state = fitted(name, x, y, 1) if MODELS[name].fit not in NETWORK_FITS else start(name)
        p = predict(name, state, x)
        assert p.shape == (8, 2)
        assert np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
        np.testing.assert_array_equal(predict(name, unpack_state(pack_state(state)), x), p)
        np.testing.assert_allclose(predict(name, state, x[3:4]), p[3:4], atol=1e-5)
        assert predict(name, state, x[:0]).shape == (0, 2)

    def test_one_seed_one_start_one_fit(self, name: str) -> None:
        assert digest(start(name, 3)) == digest(start(name, 3))
        x, y = samples(name, 8, 2)
        assert digest(fitted(name, x, y, 1, seed=5)) == digest(fitted(name, x, y, 1, seed=5))
        if MODELS[name].fit != "sums":
            assert digest(fitted(name, x, y, 1, seed=5)) != digest(fitted(name, x, y, 1, seed=6))

    def test_what_travels_is_plain_and_finite(self, name: str) -> None:
        x, y = samples(name, 8, 2)
        for state in (start(name), fitted(name, x, y, 1)):
            assert all(type(value) is np.ndarray and value.dtype.kind in "fiub" for value in state.values())
            assert all(np.isfinite(value).all() for value in state.values())

    def test_wrong_keys_and_shapes_are_named(self, name: str) -> None:
        experiment, state = experiment_of(name), start(name)
        x, y = samples(name, 8, 2)
        records = Records(x, y.astype(np.int64), tuple(map(str, range(8))))
        key = sorted(state)[0]
        result = FITTERS[MODELS[name].fit](experiment, state, records, rule=Plain(), factor=1.0, seed=0).state
        if MODELS[name].fit in NETWORK_FITS:
            bad = [{}, {**state, "more": np.zeros(1)}, {k: v for k, v in state.items() if k != key}, {**state, key: np.zeros((1, 7), np.float32)}]
            for other in bad:
                with pytest.raises(BadState):
                    PREDICTORS["gradient"](experiment, other, records)
            return
        model = build(experiment.model, inputs=inputs_of(experiment), outputs=2)
        key = sorted(result)[0]
        bad = [{}, {**result, "more": np.zeros(1)}, {k: v for k, v in result.items() if k != key}, {**result, key: result[key][..., None]}]
        for other in (*bad, {**result, key: result[key].astype(np.complex128)}):
            with pytest.raises(BadState):
                model.check(other, state)

    def test_every_class_of_an_experiment_has_an_output(self, name: str) -> None:
        experiment = experiment_of(name)
        state = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=5, seed=0)
        five = experiment.model_copy(update={"data": Data(kind=experiment.data.kind, classes=("a", "b", "c", "d", "e"))})
        x, _ = samples(name, 2, 0)
        p = PREDICTORS[MODELS[name].fit](five, state, Records(x, np.zeros(2, np.int64), ("1", "2")))
        assert p.shape == (2, 5)


@pytest.mark.parametrize("name", NAMES)
class TestLearning:
    def test_separable_samples_are_learnt(self, name: str) -> None:
        x, y = samples(name, 32, 3)
        state = fitted(name, x, y, ROUNDS[MODELS[name].fit], enough=0.95)
        assert (predict(name, state, x).argmax(1) == y).mean() >= 0.95

    def test_labels_that_say_nothing_teach_nothing(self, name: str) -> None:
        x, y = samples(name, 32, 4)
        held, truth = samples(name, 32, 5)
        said = np.tile([0, 0, 1, 1], 8)  # each class is called by both names equally often
        state = fitted(name, x, said, min(3, ROUNDS[MODELS[name].fit]))
        assert abs(predict(name, state, held)[np.arange(32), truth].mean() - 0.5) < 0.2
        assert len(y) == 32


@pytest.mark.parametrize("name", NETS)
class TestNetwork:
    def test_has_a_tiny_preset(self, name: str) -> None:
        assert name in TINY

    def test_names_its_last_map_and_its_representation(self, name: str) -> None:
        spec, seen = NETWORKS[name], dict[str, torch.Tensor]()
        network, x = network_of(experiment_of(name), start(name)), torch.from_numpy(samples(name, 2, 6)[0]).float()
        if spec.feature_map is not None:
            network.get_submodule(spec.feature_map).register_forward_hook(lambda module, given, out: seen.update(map=out))
        if spec.representation is not None:
            network.get_submodule(spec.representation).register_forward_pre_hook(lambda module, given: seen.update(representation=given[0]))
        logits = network(x)
        assert (spec.feature_map is None) == (spec.takes == "table" or spec.maps)  # one of a box that was cut out lies on no pixels of the record
        if spec.feature_map is not None:
            assert seen["map"].ndim == (5 if spec.takes == "volume" else 4)
            assert len(seen["map"]) == (2 * x.shape[1] if spec.takes == "slices" else 2)
            reached = torch.autograd.grad(logits[:, 1].sum(), seen["map"])[0]
            assert float(reached.abs().sum()) > 0
        if spec.representation is not None:
            assert seen["representation"].ndim == 2
            assert len(seen["representation"]) == 2

    def test_no_statistics_of_patients_are_kept(self, name: str) -> None:
        network = network_of(experiment_of(name), start(name))
        assert network.state_dict().keys() == dict(network.named_parameters()).keys()
        refuse_shared_statistics(network)
        if "norm" in knobs_of(NETWORKS[name].build):
            mixing = build(Choice.model_validate({"name": name, **TINY[name], "norm": "batch"}), inputs=1, outputs=2)
            with pytest.raises(BadChoice, match=r'set model\.norm = "group"'):
                refuse_shared_statistics(mixing)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_a_round_on_a_gpu(self, name: str) -> None:
        x, y = samples(name, 8, 8)
        for precision in ("full", "mixed"):
            experiment = experiment_of(name)
            experiment = experiment.model_copy(update={"train": experiment.train.model_copy(update={"precision": precision})})
            with training_on("cuda"):
                records = Records(x, y.astype(np.int64), tuple(map(str, range(8))))
                fitted = FITTERS[MODELS[name].fit](experiment, start(name), records, rule=Plain(), factor=1.0, seed=0)
            assert all(np.isfinite(value).all() for value in fitted.state.values())
            assert digest(fitted.state) != digest(start(name))


@pytest.mark.parametrize("name", [name for name in NETS if NETWORKS[name].fit == "gradient"])
def test_one_full_step_of_each_of_two_sites_is_the_pooled_step(name: str) -> None:
    experiment = experiment_of(name)
    train = Train(steps=1, batch=8, optimiser=Choice.model_validate({"name": "sgd", "lr": 0.05}), schedule="constant")
    experiment = experiment.model_copy(update={"train": train})
    x, y = samples(name, 8, 7)
    pooled = Records(x, y.astype(np.int64), tuple(map(str, range(8))))

    def stepped(records: Records) -> dict[str, np.ndarray]:
        return FITTERS[MODELS[name].fit](experiment, start(name), records, rule=Plain(), factor=1.0, seed=0).state

    whole, parts = stepped(pooled), [stepped(pooled.take(range(5))), stepped(pooled.take(range(5, 8)))]
    assert digest(whole) != digest(start(name))
    for key, value in whole.items():
        np.testing.assert_allclose((5 * parts[0][key] + 3 * parts[1][key]) / 8, value, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", [name for name in NETS if NETWORKS[name].least_px > 1])
def test_too_small_an_image_is_named(name: str) -> None:
    network = network_of(experiment_of(name), start(name))
    least = getattr(getattr(network, "encoder", None), "least_px", NETWORKS[name].least_px)
    assert least >= NETWORKS[name].least_px
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, least, least)).isfinite().all()
        with pytest.raises(BadInput, match=f"at least {least} x {least} pixels"):
            network(torch.zeros(1, 1, least - 1, least))


def test_a_table_model_needs_columns() -> None:
    experiment = experiment_of("logistic").model_copy(update={"inputs": Inputs()})
    with pytest.raises(BadChoice, match=r"inputs\.columns"):
        inputs_of(experiment)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(FedILDError, match="did you mean 'densenet121'"):
        build(Choice(name="densenet12"), inputs=1, outputs=2)
