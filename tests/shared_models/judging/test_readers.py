"""A model beside readers: the exact test against the library, missing readings, and what a reader study must not be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from shared_models.core.errors import BadInput
from shared_models.judging.readers import beside_readers, mcnemar


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_exact_test_is_that_of_the_binomial_distribution(first: int, second: int) -> None:
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == mcnemar(second, first) == pytest.approx(expected, rel=1e-9)


def test_counts_are_those_of_the_cases() -> None:
    rng = np.random.default_rng(0)
    truth, model, one, two = rng.choice(["UIP", "NSIP", "OP"], (4, 40)).tolist()
    one[:7] = [""] * 7
    rows = {row["caller"]: row for row in beside_readers(truth, model, {"one": one, "two": two})}
    assert rows["model"]["cases"] == 40 and rows["one"]["cases"] == 33
    for name, called in (("one", one), ("two", two)):
        pairs = [(m == t, c == t) for t, m, c in zip(truth, model, called, strict=True) if c]
        assert rows[name]["right"] == sum(right for _, right in pairs)
        assert (rows[name]["model_alone"], rows[name]["reader_alone"]) == (pairs.count((True, False)), pairs.count((False, True)))
        assert rows[name]["p"] <= rows[name]["p_holm"] <= 1 and rows[name]["low"] < rows[name]["accuracy"] < rows[name]["high"]


def test_the_published_readers_are_intervals_of_eighteen_cases() -> None:
    truth = ["yes"] * 18
    rows = beside_readers(truth, ["yes"] * 15 + ["no"] * 3, {"nobody": [""] * 18})
    assert rows[0]["accuracy"] == pytest.approx(0.8333, abs=1e-4)
    assert rows[1]["accuracy"] is None and rows[1]["p"] == 1.0
    with pytest.raises(BadInput, match="one call a case"):
        beside_readers(truth, truth[:-1], {})
