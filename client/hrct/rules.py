"""From measures to the HRCT category: an ordered table of rules, the first that holds names the category and itself.

Deterministic and without learning. What is not known is not taken for 0: a rule that reads an unknown measure, and does not fail by a known one,
stays open, and with an open rule before the first that holds the data are insufficient. Research use only; the thresholds are the project's
operational reading of the guideline, which gives none.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared_models.core.errors import BadInput
from shared_models.taxonomy import HRCT_CATEGORIES

COMPARES: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, ">": operator.gt, "<": operator.lt}

GUIDELINE = "Raghu et al., AJRCCM 2022;205:e18, table of HRCT patterns"
OWN = "threshold chosen by the project (methods 2.1); distribution after " + GUIDELINE


@dataclass(frozen=True)
class Condition:
    """A measure, how it is compared, and with what."""

    measure: str
    compare: str
    threshold: float

    def holds(self, measures: Mapping[str, float | None]) -> bool | None:
        """Say whether it holds; None where the measure is not known."""
        value = measures[self.measure]
        return None if value is None else COMPARES[self.compare](value, self.threshold)


@dataclass(frozen=True)
class Rule:
    """A category, the conditions that must all hold for it, what it looks for, and where it comes from."""

    category: str
    conditions: tuple[Condition, ...]
    means: str
    source: str = OWN

    def holds(self, measures: Mapping[str, float | None]) -> bool | None:
        """Say whether all conditions hold: no as soon as one fails, None where it hangs on what is not known."""
        found = [condition.holds(measures) for condition in self.conditions]
        if False in found:
            return False
        return None if None in found else True


RULES: dict[str, Rule] = {
    "honeycombing": Rule(
        "UIP",
        (Condition("honeycombing_percent", ">=", 1.0), Condition("subpleural_basal_index", ">=", 1.3)),
        "honeycombing, with fibrosis that is subpleural and basal",
    ),
    "traction": Rule(
        "probable_UIP",
        (
            Condition("reticulation_percent", ">=", 5.0),
            Condition("traction_index", ">=", 1.2),
            Condition("subpleural_basal_index", ">=", 1.3),
            Condition("ggo_over_reticulation", "<", 1.0),
        ),
        "subpleural and basal reticulation with traction bronchiectasis, and less ground glass than reticulation",
    ),
    "consolidation": Rule("alternative", (Condition("consolidation_percent", ">=", 5.0),), "consolidation"),
    "micronodules": Rule("alternative", (Condition("micronodules_percent", ">=", 2.0),), "profuse micronodules"),
    "ground_glass": Rule(
        "alternative",
        (Condition("ggo_percent", ">=", 10.0), Condition("ggo_over_reticulation", ">", 1.5)),
        "predominant ground glass",
    ),
    "upper_or_middle": Rule(
        "alternative",
        (Condition("ild_percent", ">=", 5.0), Condition("upper_middle_index", ">=", 1.5)),
        "disease of the upper or middle lung",
    ),
    "mosaic": Rule("alternative", (Condition("mosaic", ">=", 1.0),), "marked mosaic attenuation"),
    "unspecific_fibrosis": Rule("indeterminate", (Condition("fibrosis_percent", ">=", 1.0),), "fibrosis without features of another category"),
    "unspecific_ild": Rule("indeterminate", (Condition("ild_percent", ">=", 5.0),), "little or no fibrosis, but 5 % of the lung is not normal"),
    "none": Rule("no_ILD", (), "less than 1 % of fibrosis and less than 5 % of any pattern", "the project's"),
}
"""In the order in which they are asked; the last always holds."""


@dataclass(frozen=True)
class Suggestion:
    """What the rules say of a pattern map.

    Parameters
    ----------
    category : str or None
        A line of HRCT_CATEGORIES; None where the data are insufficient.
    rule : str or None
        The line of RULES that fired.
    otherwise : tuple of str or None
        Where data are insufficient: category and rule that follow if no open rule holds.
    open : dict of rule to tuple of str
        The rules that hang on what is not known, and what that is.
    measures : dict
        What was read.
    """

    category: str | None
    rule: str | None
    otherwise: tuple[str, str] | None
    open: dict[str, tuple[str, ...]]
    measures: dict[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite ratio is null with its name in ``unbounded``."""
        numbers = {name: None if value is None or math.isinf(value) else round(value, 4) for name, value in self.measures.items()}
        told = {"category": self.category, "rule": self.rule, "means": None if self.rule is None else RULES[self.rule].means}
        unbounded = [name for name, value in self.measures.items() if value is not None and math.isinf(value)]
        otherwise = None if self.otherwise is None else dict(zip(("category", "rule"), self.otherwise, strict=True))
        undecided = [{"rule": name, "category": RULES[name].category, "not_known": list(missing)} for name, missing in self.open.items()]
        return {**told, "otherwise": otherwise, "open": undecided, "measures": numbers, "unbounded": unbounded}


def categorise(measures: Mapping[str, float | None], rules: Mapping[str, Rule] = RULES) -> Suggestion:
    """Return the category that the first rule names, or what is not known to decide it.

    Parameters
    ----------
    measures : mapping
        Of `measures_of`.
    rules : mapping
        In order; the last must hold whatever the measures.

    Raises
    ------
    BadInput
        A measure that a rule reads is not there, or is NaN.

    Examples
    --------
    >>> from client.hrct.extents import PARTS
    >>> nothing = {f"{name}_percent": 0.0 for name in PARTS}
    >>> nothing |= dict.fromkeys(("subpleural_basal_index", "upper_middle_index", "ggo_over_reticulation", "traction_index", "mosaic"), 0.0)
    >>> found = categorise(nothing | {"honeycombing_percent": 4.0, "fibrosis_percent": 4.0, "subpleural_basal_index": 2.0})
    >>> found.category, found.rule
    ('UIP', 'honeycombing')
    >>> open_ = categorise(nothing | {"reticulation_percent": 6.0, "fibrosis_percent": 6.0, "subpleural_basal_index": 2.0, "traction_index": None})
    >>> open_.category, open_.otherwise, open_.open
    (None, ('indeterminate', 'unspecific_fibrosis'), {'traction': ('traction_index',)})
    """
    wanted = {condition.measure for rule in rules.values() for condition in rule.conditions}
    if bad := sorted(name for name in wanted if name not in measures or (measures[name] is not None and math.isnan(measures[name] or 0.0))):
        raise BadInput("the rules need every measure, or None where it is not known", value=bad)
    undecided: dict[str, tuple[str, ...]] = {}
    for name, rule in rules.items():
        held = rule.holds(measures)
        if held is None:
            undecided[name] = tuple(condition.measure for condition in rule.conditions if measures[condition.measure] is None)
        elif held:
            if rule.category not in HRCT_CATEGORIES:
                raise BadInput("a rule names a category of the guideline", value=rule.category)
            # rules that lead to the same category need not be decided
            hanging = {key: missing for key, missing in undecided.items() if rules[key].category != rule.category}
            if hanging:
                return Suggestion(None, None, (rule.category, name), hanging, dict(measures))
            return Suggestion(rule.category, name, None, {}, dict(measures))
    raise BadInput("the last rule must hold whatever the measures", value=list(rules)[-1:])
