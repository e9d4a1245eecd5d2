"""One battery over AUGMENTATIONS, and what each does on average."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from client.training.augment import AUGMENTATIONS, MOVING
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadChoice
from shared_models.patterns import NOT_ANNOTATED

SHAPES = [(6, 1, 9, 9), (6, 3, 8, 8), (6, 1, 4, 7, 7)]
PIXEL_MOVES = tuple(sorted(MOVING - {"cut_out"}))


def change(name: str, **knobs: Any) -> Any:
    return pick(AUGMENTATIONS, Choice.model_validate({"name": name, **knobs}), kind="augmentation")


def batch(shape: tuple[int, ...] = SHAPES[0]) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", AUGMENTATIONS)
class TestEvery:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_shape_type_and_the_batch_itself_stay(self, name: str, shape: tuple[int, ...]) -> None:
        before = batch(shape)
        after = change(name)(before, seeded(0), 1100.0)
        assert after.shape == before.shape
        assert after.dtype == torch.float32
        assert torch.isfinite(after).all()
        assert torch.equal(before, batch(shape))

    def test_the_generator_alone_decides(self, name: str) -> None:
        torch.manual_seed(1)
        one = change(name)(batch(), seeded(5), 1100.0)
        torch.manual_seed(2)
        assert torch.equal(change(name)(batch(), seeded(5), 1100.0), one)
        others = [change(name)(batch(), seeded(seed), 1100.0) for seed in range(6, 12)]
        assert not all(torch.equal(other, one) for other in others)

    def test_cases_are_changed_one_by_one(self, name: str) -> None:
        same = batch()[:1].repeat(40, 1, 1, 1)
        after = change(name)(same, seeded(0), 1100.0)
        assert len({case.numpy().tobytes() for case in after}) > 1

    def test_a_bad_knob_is_named(self, name: str) -> None:
        with pytest.raises(BadChoice, match="no knob"):
            change(name, zzz=1)


@pytest.mark.parametrize("name", PIXEL_MOVES)
def test_mirrors_and_turns_move_pixels_and_invent_none(name: str) -> None:
    before = batch()
    after = change(name)(before, seeded(1), 1100.0)
    assert torch.equal(before.flatten(1).sort().values, after.flatten(1).sort().values)


@pytest.mark.parametrize(("name", "axis"), [("flip", -1), ("flip_up_down", -2)])
def test_mirrors_mirror_as_often_as_told(name: str, axis: int) -> None:
    before = batch((400, 1, 4, 4))
    assert torch.equal(change(name, probability=1.0)(before, seeded(0), 1.0), before.flip(axis))
    assert torch.equal(change(name, probability=0.0)(before, seeded(0), 1.0), before)
    moved = (change(name, probability=0.25)(before, seeded(0), 1.0) != before).flatten(1).any(1).float().mean()
    assert 0.17 < moved < 0.33


def test_all_four_turns_come_equally_often() -> None:
    one = torch.arange(9.0).reshape(1, 1, 3, 3)
    after = change("quarter_turns")(one.repeat(400, 1, 1, 1), seeded(0), 1.0)
    counts = [sum(torch.equal(case, torch.rot90(one[0], k, (-2, -1))) for case in after) for k in range(4)]
    assert sum(counts) == 400
    assert min(counts) > 70


def test_shift_is_uniform_and_in_hounsfield_units() -> None:
    zero = torch.zeros(2000, 1, 2, 2)
    after = change("shift_hu", hu=25.0)(zero, seeded(0), 1100.0) * 1100
    offsets = after[:, 0, 0, 0]
    assert (after == offsets[:, None, None, None]).all()
    assert offsets.abs().max() <= 25.001
    assert abs(offsets.mean()) < 1.0
    assert offsets.std() == pytest.approx(50 / 12**0.5, rel=0.05)


def test_noise_has_the_promised_spread() -> None:
    after = change("noise", hu=40.0)(torch.zeros(500, 1, 16, 16), seeded(0), 1100.0) * 1100
    spreads = after.flatten(1).std(1)
    assert abs(after.mean()) < 0.5
    assert spreads.max() < 48
    assert spreads.mean() == pytest.approx(20, rel=0.1)


def test_blur_softens_and_sharpen_sharpens_and_both_keep_the_mean() -> None:
    before = batch((50, 1, 32, 32))
    contrast = before.flatten(1).std(1)
    soft = change("blur_or_sharpen", blur=1.0, sharpen=0.0)(before, seeded(0), 1.0)
    hard = change("blur_or_sharpen", blur=0.0, sharpen=1.0)(before, seeded(0), 1.0)
    assert (soft.flatten(1).std(1) <= contrast).all()
    assert (hard.flatten(1).std(1) >= contrast).all()
    for after in (soft, hard):
        assert (after.mean((1, 2, 3)) - before.mean((1, 2, 3))).abs().max() < 0.02
    flat = torch.full((3, 1, 8, 8), 0.3)
    torch.testing.assert_close(change("blur_or_sharpen")(flat, seeded(0), 1.0), flat)


def test_one_rectangle_is_hidden_and_nothing_is_asked_of_it() -> None:
    images, maps = torch.rand((300, 2, 20, 30), generator=seeded(3)), torch.randint(0, 5, (300, 2, 20, 30), generator=seeded(4)).to(torch.uint8)
    hide = change("cut_out", probability=0.6, least=0.1, most=0.3)
    after, asked = hide(images, seeded(0), 1.0), hide(maps, seeded(0), 1.0)
    hidden = asked == NOT_ANNOTATED
    assert torch.equal(hidden, after != images) and torch.equal(asked[~hidden], maps[~hidden]) and asked.dtype == torch.uint8
    assert 0.5 < hidden.flatten(1).any(1).float().mean() < 0.7
    for case, mean in zip(range(300), images.flatten(1).mean(1), strict=True):
        rows, columns = (hidden[case].any(0).any(axis) for axis in (1, 0))
        assert torch.equal(hidden[case], (rows[:, None] & columns).expand(2, 20, 30))
        if rows.any():
            height, width = int(rows.sum()), int(columns.sum())
            assert rows.nonzero().flatten().diff().eq(1).all() and columns.nonzero().flatten().diff().eq(1).all()
            assert 0.08 <= height * width / 600 <= 0.34 and 0.25 <= height / width <= 4
            torch.testing.assert_close(after[case][hidden[case]], mean.expand(2 * height * width))
    with pytest.raises(BadChoice, match="least"):
        change("cut_out", least=0.5, most=0.1)(images, seeded(0), 1.0)
