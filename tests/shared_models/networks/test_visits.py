"""The transformer over visits: padding changes nothing, order does not matter, time does, and the ablation sees the first visit alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.blocks.visits import VisitTransformer
from shared_models.core.errors import BadChoice
from shared_models.networks.visit_transformer import visit_transformer

COLUMNS, NONE = 3, float("nan")


def network(visits: int = 4, *, history: bool = True) -> VisitTransformer:
    torch.manual_seed(1)
    made = visit_transformer(visits * (1 + COLUMNS), 5, visits=visits, width=16, depth=2, heads=2, hidden=8, history=history)
    assert isinstance(made, VisitTransformer)
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


@pytest.mark.parametrize(
    ("inputs", "knobs", "words"), [(9, {"visits": 4}, "as many numbers"), (4, {"visits": 4}, "at least one column"), (8, {"heads": 3}, "heads")]
)
def test_what_does_not_fit_is_named(inputs: int, knobs: dict[str, int], words: str) -> None:
    with pytest.raises(BadChoice, match=words):
        visit_transformer(inputs, 2, **knobs)
