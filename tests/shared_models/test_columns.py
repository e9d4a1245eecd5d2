"""Short lists of columns: what braces stand for, that an experiment holds the whole list, and what is refused."""

from __future__ import annotations

import itertools

import pytest

from shared_models.columns import MOST, expanded
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice
from shared_models.experiment import Data, Experiment, Inputs


def test_braces_are_every_combination_in_the_order_of_nested_loops() -> None:
    wanted = tuple(f"{a}_{b}_{c}" for a, b, c in itertools.product(("x", "y"), range(2, 5), ("p", "q", "r")))
    assert expanded(["{x,y}_{2..4}_{p,q,r}"]) == wanted
    assert expanded(["cp=2", "a b", ""]) == ("cp=2", "a b", "")


def test_an_experiment_holds_and_sends_the_whole_list() -> None:
    experiment = Experiment(name="x", data=Data(classes=("a", "b")), model=Choice(name="svm"), inputs=Inputs(columns=("age", "v{0..2}")))
    assert experiment.inputs.columns == ("age", "v0", "v1", "v2")
    assert '["age","v0","v1","v2"]' in experiment.to_json()
    assert Experiment.from_json(experiment.to_json()) == experiment


@pytest.mark.parametrize("name", ["{a", "a}", "{}", "{a}", "{a,}", "{3..1}", "{1..1}", "{{a,b},c}", "{0..99}{0..99}{0..99}", "{0..99999}"])
def test_what_stands_for_nothing_or_too_much(name: str) -> None:
    with pytest.raises(BadChoice):
        expanded([name])
    with pytest.raises(ValueError, match="column"):
        Inputs(columns=(name,))


def test_the_limit_counts_all_names_together() -> None:
    assert len(expanded([f"{{1..{MOST // 2}}}", f"b{{1..{MOST // 2}}}"])) == MOST
    with pytest.raises(BadChoice, match="at most"):
        expanded([f"{{1..{MOST // 2}}}", f"b{{1..{MOST // 2}}}", "one more"])
