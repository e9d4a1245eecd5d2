"""The transformer over visits: padding changes nothing, order does not matter, time does, and the ablation sees the first visit alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.blocks.visits import CHANGE, SHRINK_YEARS2, VisitTransformer, trend_of
from shared_models.core.errors import BadChoice
from shared_models.networks.visit_transformer import visit_transformer

COLUMNS, NONE = 3, float("nan")


def network(visits: int = 4, *, history: bool = True) -> VisitTransformer:
    """A network that has learnt something: at its start the attention adds nothing to the linear path."""
    torch.manual_seed(1)
    made = visit_transformer(visits * (1 + COLUMNS), 5, visits=visits, width=16, depth=2, heads=2, hidden=8, history=history)
    assert isinstance(made, VisitTransformer)
    torch.nn.init.normal_(made.head.weight, std=0.1)
    return made.eval()


def course(*years: float, seed: int = 0) -> torch.Tensor:
    """Visits (1, visits, 1 + columns) at those years; NaN is a visit that did not happen."""
    torch.manual_seed(seed)
    found = torch.randn(1, len(years), 1 + COLUMNS)
    found[0, :, 0] = torch.tensor(years)
    return found


@torch.inference_mode()
def test_padding_changes_nothing_whatever_stands_in_it() -> None:
    model = network()
    padded = course(0.0, 0.7, NONE, NONE)
    other = padded.clone()
    other[0, 2:, 1:] = torch.tensor([1e9, -7.0, NONE])
    assert torch.equal(model(padded.flatten(1)), model(other.flatten(1)))
    # the same weights over as many places as there are visits: they hang on no number of places
    short = network(2)
    short.load_state_dict(model.state_dict())
    torch.testing.assert_close(short(padded[:, :2].flatten(1)), model(padded.flatten(1)), atol=1e-6, rtol=0)
    assert model(course(NONE, NONE, NONE, NONE).flatten(1)).isfinite().all()  # nobody came: the class token is there


def test_padding_and_what_is_missing_get_no_gradient_and_are_not_attended_to() -> None:
    model, rows = network(), course(0.0, 0.7, 1.2, NONE)
    rows[0, 1, 2] = NONE
    given_rows = rows.flatten(1).requires_grad_()
    logits, attention = model.look(given_rows)
    logits.sum().backward()
    reached = (given_rows.grad if given_rows.grad is not None else torch.zeros(0)).reshape(rows.shape)
    assert torch.count_nonzero(reached[0, 3]) == 0 and reached[0, 1, 2] == 0 and torch.count_nonzero(reached[0, 0]) > 0
    assert attention.shape == (1, 4) and attention[0, 3] == 0 and (attention[0, :3] > 0).all() and attention.sum() < 1


@given(st.permutations(range(4)), st.integers(0, 20))
@settings(max_examples=10, deadline=None)
@torch.inference_mode()
def test_visits_with_their_times_come_in_any_order(order: list[int], seed: int) -> None:
    model, rows = network(), course(0.0, 0.5, 1.1, NONE, seed=seed)
    torch.testing.assert_close(model(rows[:, order].flatten(1)), model(rows.flatten(1)), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_getting_worse_is_not_getting_better_and_late_is_not_soon() -> None:
    model, rows = network(), course(0.0, 0.5, 1.1, 1.5)
    turned = torch.cat([rows[..., :1], rows[..., 1:].flip(1)], dim=-1)
    later = rows.clone()
    later[0, 3, 0] = 3.0
    before = model(rows.flatten(1))
    assert float((model(turned.flatten(1)) - before).abs().max()) > 1e-3 < float((model(later.flatten(1)) - before).abs().max())


@torch.inference_mode()
def test_without_history_the_first_visit_is_all() -> None:
    model, rows = network(history=False), course(0.5, 0.0, 1.1, NONE)
    first = torch.full_like(rows, NONE)
    first[:, 0] = rows[:, 1]
    torch.testing.assert_close(model(rows.flatten(1)), network()(first.flatten(1)), atol=1e-6, rtol=0)


def test_the_trend_is_the_slope_of_the_known_visits() -> None:
    rows = torch.cat([course(0.0, 0.7, 1.2, NONE, seed=2), course(0.0, NONE, 2.0, 3.5, seed=3), course(0.0, NONE, NONE, NONE)]).double()
    rows[0, 1, 2] = rows[1, 3, 3] = NONE
    years, values = rows[..., 0], rows[..., 1:]
    known = ~torch.isnan(values) & ~torch.isnan(years)[..., None]
    found = trend_of(years, values, known)
    for patient in range(3):
        for column in range(COLUMNS):
            here = known[patient, :, column]
            when, what = years[patient, here].numpy(), values[patient, here, column].numpy()
            centred = when - when.mean()
            slow = (centred * (what - what.mean())).sum() / ((centred**2).sum() + SHRINK_YEARS2)
            assert float(found[patient, column]) == pytest.approx(slow, abs=1e-12)


@torch.inference_mode()
def test_the_linear_path_reads_first_values_and_trends_and_proportional_outputs_share_a_score() -> None:
    torch.manual_seed(0)
    model = visit_transformer(4 * (1 + COLUMNS), 5, visits=4, width=16, depth=1, heads=2, hidden=8, proportional=3)
    assert isinstance(model, VisitTransformer) and model.trend is not None and model.constants is not None
    model.eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    one, other = course(0.0, 0.5, 1.1, NONE, seed=1).flatten(1), course(0.0, 0.4, NONE, NONE, seed=2).flatten(1)
    model.constants.copy_(torch.tensor([0.0, 1.0, -2.0]))
    apart = model(one) - model(other)
    torch.testing.assert_close(apart[:, 1:3], apart[:, :1].expand(1, 2))  # intervals move together, diagnoses on their own
    assert (apart[:, 3:] - apart[:, :1]).abs().min() > 1e-4
    before, reading = model(one), torch.zeros_like(model.trend.weight)
    reading[1, COLUMNS] = 1.0  # the second score now reads the first column's trend
    model.trend.weight.copy_(reading)
    values = one.unflatten(1, (4, -1))
    trend = trend_of(values[..., 0], values[..., 1:], ~torch.isnan(values[..., 1:]) & ~torch.isnan(values[..., :1]))
    torch.testing.assert_close(model(one) - before, CHANGE * trend[:, :1] * torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0]]))


@torch.inference_mode()
def test_the_linear_path_reads_the_columns_that_come_first() -> None:
    torch.manual_seed(0)
    model = visit_transformer(4 * (1 + COLUMNS), 5, visits=4, width=16, depth=1, heads=2, hidden=8, trend_columns=2).eval()
    assert isinstance(model, VisitTransformer) and model.trend is not None and model.trend.weight.shape == (5, 4)
    torch.nn.init.normal_(model.trend.weight)
    rows = course(0.0, 0.5, 1.1, NONE, seed=1)  # the attention still says nothing
    for column, counts in ((1, True), (2, True), (3, False)):
        for visit in (0, 2):
            other = rows.clone()
            other[0, visit, column] += 1.0
            assert bool((model(other.flatten(1)) != model(rows.flatten(1))).all()) is counts, (column, visit)


@torch.inference_mode()
@pytest.mark.parametrize("trend", [True, False])
def test_beside_the_linear_path_the_attention_starts_from_nothing(trend: bool) -> None:
    torch.manual_seed(0)
    model = visit_transformer(4 * (1 + COLUMNS), 5, visits=4, width=16, depth=1, heads=2, hidden=8, trend=trend).eval()
    said = model(torch.cat([course(0.0, 0.5, 1.1, NONE, seed=seed).flatten(1) for seed in range(3)]))
    assert bool((said == 0).all()) is trend  # what the attention says on the first day would be noise on the linear path


@pytest.mark.parametrize(
    ("inputs", "knobs", "words"),
    [
        (9, {"visits": 4}, "as many numbers"),
        (4, {"visits": 4}, "at least one column"),
        (8, {"heads": 3}, "heads"),
        (8, {"proportional": 3}, "some of the outputs"),
        (8, {"trend_columns": 2}, "some of the columns"),
    ],
)
def test_what_does_not_fit_is_named(inputs: int, knobs: dict[str, int], words: str) -> None:
    with pytest.raises(BadChoice, match=words):
        visit_transformer(inputs, 2, **knobs)
