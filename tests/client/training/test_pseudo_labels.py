"""Labels of a site's own for slices that nobody has drawn on: which slices are shown, which are steady, and when a stage learns them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.cases.prepared import Prepared
from client.training.maps import predict_maps
from client.training.pseudo_labels import Checkpoints, labelled, looked_at, steadiness, with_pseudo_labels
from client.training.records import Records
from client.training.targets import images_and_classes
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput
from shared_models.experiment import Experiment, Inputs
from shared_models.phases import phase_at
from tests.client.training.test_mean_teacher import with_open
from tests.client.training.test_targets import PATTERNS, experiment_of, records_of, start, study

INPUTS = Inputs(slices=2, unlabelled=3, size=24)


def staged() -> Experiment:
    document = experiment_of("unet").model_dump(mode="json", exclude_none=True)
    stages = [{"rounds": 3}, {"rounds": 2, "train": {"pseudo_labels": 0.5}}, {"rounds": 1, "train": {"pseudo_labels": 1.0}}]
    return Experiment.model_validate(document | {"stages": stages, "federation": {}, "inputs": INPUTS.model_dump(exclude_none=True)})


def shaken(experiment: Experiment, much: float, seed: int) -> State:
    rng = np.random.default_rng(seed)
    return {key: value + much * rng.standard_normal(value.shape).astype(np.float32) for key, value in start(experiment).items()}


class TestShown:
    def test_drawn_slices_come_first_and_the_lung_of_the_others_is_open(self) -> None:
        images, classes = images_and_classes(study(), PATTERNS, INPUTS)
        assert images.shape == classes.shape == (5, 24, 24)
        alone, drawn = images_and_classes(study(), PATTERNS, Inputs(slices=2, size=24))
        np.testing.assert_array_equal(images[:2], alone)
        np.testing.assert_array_equal(classes[:2], drawn)
        assert set(np.unique(classes[2:])) == {254, 255}
        assert not (classes[:2] == 254).any()

    @pytest.mark.parametrize("annotation", [None, 255])
    def test_a_study_without_a_drawing_is_open_as_a_whole(self, annotation: int | None) -> None:
        bare: Prepared = replace(study(), annotation=None if annotation is None else np.full((12, 40, 48), annotation, np.uint8))
        _, classes = images_and_classes(bare, PATTERNS, INPUTS)
        assert classes.shape == (5, 24, 24)
        assert set(np.unique(classes)) == {254, 255}


class TestSteadiness:
    def test_it_is_the_mean_intersection_over_union_of_the_classes_there(self) -> None:
        rng = np.random.default_rng(0)
        before, after = rng.integers(0, 4, (2, 2, 3, 6, 6)).astype(np.uint8)
        where = rng.random((2, 3, 6, 6)) < 0.7
        where[1, 2] = False
        found = steadiness(before, after, where)
        for row in range(2):
            for column in range(3):
                one, other = before[row, column][where[row, column]], after[row, column][where[row, column]]
                each = [((one == c) & (other == c)).sum() / ((one == c) | (other == c)).sum() for c in np.union1d(one, other)]
                assert found[row, column] == pytest.approx(np.mean(each) if each else 1.0)
        assert (steadiness(after, after, where) == 1).all()

    def test_the_steadiest_are_labelled_by_the_last_model(self) -> None:
        experiment, records = staged(), with_open(records_of(4), 2)
        last, earlier = shaken(experiment, 0.3, 0), [shaken(experiment, 0.3, 1), shaken(experiment, 0.3, 2)]
        assert records.targets is not None
        open_ = records.targets == 254
        steady = np.mean([steadiness(predict_maps(experiment, one, records), predict_maps(experiment, last, records), open_) for one in earlier], 0)
        found = labelled(experiment, records, [*earlier], last, 0.5).targets
        assert found is not None
        taken = (found[:, 2:] != 254).all((2, 3))
        assert taken.sum() == 4
        assert steady[:, 2:][taken].min() >= steady[:, 2:][~taken].max()
        maps = predict_maps(experiment, last, records)
        np.testing.assert_array_equal(found[:, 2:][taken], maps[:, 2:][taken])
        np.testing.assert_array_equal(found[:, :2], records.targets[:, :2])
        whole = labelled(experiment, records, [None, None], last, 1.0).targets
        assert whole is not None
        assert not (whole == 254).any()


def test_a_stage_learns_what_the_stage_before_says(tmp_path: Path) -> None:
    experiment, records = staged(), with_open(records_of(3))
    kept, states = Checkpoints(tmp_path, "run.0123"), {number: shaken(experiment, 0.3, number) for number in range(1, 7)}

    def taught(number: int, some: Checkpoints | dict[int, State] = kept) -> Records:
        return with_pseudo_labels(experiment, phase_at(experiment, number), number, states[number], records, some)

    assert looked_at(phase_at(experiment, 1)) == (2, 3, 4)
    assert [taught(number) is records for number in range(1, 5)] == [True, True, True, False]
    assert list(kept) == [2, 3, 4]
    in_memory = {number: states[number] for number in (2, 3, 4)}
    np.testing.assert_array_equal(taught(5).targets, taught(5, in_memory).targets)
    np.testing.assert_array_equal(taught(4).targets, taught(5).targets)  # a round later the labels are those of the stage's beginning
    late = taught(5, {}).targets
    np.testing.assert_array_equal(late, labelled(experiment, records, [], states[5], 0.5).targets)
    (tmp_path / "run.0123-000002.safetensors").write_bytes(b"damaged")
    assert kept.get(2) is None
    Checkpoints(tmp_path, "other")[1] = states[1]
    assert len(kept) == 0
    assert (tmp_path / "other-000001.safetensors").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadInput, match="a run is named by"):
        Checkpoints(tmp_path, "../run")[1] = states[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": {"pseudo_labels": 0.5}}, "stages after the first"),
        ({"stages": [{"rounds": 1, "train": {"pseudo_labels": 0.5}}]}, "stages after the first"),
        ({"inputs": {"slices": 2}}, "set inputs.unlabelled"),
        ({"data": {"target": "segmentation", "annotation": "lung"}, "inputs": {"unlabelled": 2, "pixel_mm": 3.0}}, "nobody has drawn patterns"),
    ],
)
def test_what_the_schema_refuses(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Experiment.model_validate(staged().model_dump(mode="json", exclude_none=True) | {"federation": {}} | change)
