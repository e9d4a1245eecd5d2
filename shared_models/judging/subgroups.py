"""Does the model serve everybody? Its figures by sex, age, maker and kernel, and the largest gap between groups that can be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared_models.judging.by_class import FEWEST
from shared_models.judging.standing import LEAST
from shared_models.metrics import score
from shared_models.metrics.scoring import as_predictions
from shared_models.metrics.spec import number, ones

METRIC = "auroc_macro"


def subgroup_table(
    facts: Mapping[str, Sequence[str]],
    labels: Any,
    probabilities: Any,
    classes: Sequence[str],
    *,
    patients: Sequence[Any] | None = None,
    least: int = LEAST,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Return for each fact the figure of every group, and the gap between the best and the worst with an interval from resampled patients.

    A group's AUROC is the mean over the classes that exist in it. Best, worst and gap are said only of groups where at least one class has
    `least` patients with and without it, and of the classes that both of them have.

    Parameters
    ----------
    facts : mapping of str to sequence of str
        ``sex``, ``age``, ``maker`` ...: each case's group.
    labels, probabilities, classes, patients
        As in `class_table`.

    Examples
    --------
    >>> y, p = [0, 1] * 40, [[.9, .1], [.2, .8]] * 20 + [[.9, .1], [.8, .2]] * 10 + [[.1, .9], [.2, .8]] * 10
    >>> table = subgroup_table({"sex": ["F"] * 40 + ["M"] * 40}, y, p, ["no", "yes"], bootstrap=200)
    >>> table["sex"]["groups"]["F"]["value"], table["sex"]["worst"], round(table["sex"]["gap"]["value"], 2)
    (1.0, 'M', 0.5)
    """
    y, p = as_predictions(labels, probabilities, classes)
    who = np.asarray(list(range(y.size)) if patients is None else list(patients))
    found = {}
    for fact, words in facts.items():
        group = np.asarray(list(words))
        cells = {}
        for name in sorted(set(group.tolist())):
            of = group == name
            names = who[of].tolist()
            judged = bool(_kept(y[of], names, len(classes), least))
            cells[name] = _cell(y[of], p[of], classes, names, bootstrap, seed) | {"judged": judged}
        known = {name: cell["value"] for name, cell in cells.items() if cell["value"] is not None and cell["judged"]}
        told: dict[str, Any] = {"groups": cells, "worst": None, "gap": None}
        if len(known) > 1:
            best, worst = max(known, key=lambda name: (known[name], name)), min(known, key=lambda name: (known[name], name))
            told |= {"worst": worst, "best": best, "gap": _gap(y, p, classes, group == best, group == worst, who, least, bootstrap, seed)}
        found[fact] = told
    return found


def age_group(age: float | None) -> str:
    """Return the decade-wide group of an age in years that tables of the field use.

    Examples
    --------
    >>> age_group(49.0), age_group(65.0), age_group(None)
    ('under 50', '65 to 74', 'unknown')
    """
    if age is None or not np.isfinite(age):
        return "unknown"
    return next((word for end, word in ((50, "under 50"), (65, "50 to 64"), (75, "65 to 74")) if age < end), "75 and over")


def _kept(y: np.ndarray, who: list[Any], k: int, least: int) -> list[int]:
    names = np.asarray(who)
    return [c for c in range(k) if min(len(set(names[y == c].tolist())), len(set(names[y != c].tolist()))) >= least]


def _cell(y: np.ndarray, p: np.ndarray, classes: Sequence[str], who: list[Any], bootstrap: int, seed: int) -> dict[str, Any]:
    kept = _kept(y, who, len(classes), FEWEST)
    told: dict[str, Any] = {"n": len(set(who)), "classes": [classes[c] for c in kept], "value": None, "low": None, "high": None}
    if not kept:
        return {**told, "why": f"no class has {FEWEST} patients with and without it"}
    return told | score(y, p, classes, metrics=[METRIC], groups=who, seed=seed, bootstrap=bootstrap)[METRIC] | {"n": told["n"], "why": ""}


def _gap(
    y: np.ndarray,
    p: np.ndarray,
    classes: Sequence[str],
    best: np.ndarray,
    worst: np.ndarray,
    who: np.ndarray,
    least: int,
    bootstrap: int,
    seed: int,
) -> dict[str, float | None]:
    from shared_models.metrics.intervals import bootstrap_counts
    from shared_models.metrics.ranking import auroc_rows
    from shared_models.metrics.resampled_intervals import resampled_interval

    kept = sorted(set(_kept(y[best], who[best].tolist(), len(classes), least)) & set(_kept(y[worst], who[worst].tolist(), len(classes), least)))
    if not kept:
        return {"value": None, "low": None, "high": None}

    def mean_rows(of: np.ndarray, salt: int) -> np.ndarray:
        counts = np.concatenate([ones(int(of.sum())), bootstrap_counts(int(of.sum()), bootstrap, groups=who[of].tolist(), seed=seed + salt)])
        return np.mean([auroc_rows(y[of] == c, p[of][:, c], counts) for c in kept], axis=0)

    rows = mean_rows(best, 0) - mean_rows(worst, 1)
    value, fewer = number(rows[0]), min(len(set(who[of].tolist())) for of in (best, worst))
    low, high = (None if value is None else resampled_interval(rows[1:], value, fewer, scale="difference")) or (None, None)
    return {"value": value, "low": low, "high": high}
