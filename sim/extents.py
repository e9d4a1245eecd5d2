"""How extents by a model that labels pixels agree with drawn ones, part by part: for the report, the card and the zoo."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.hrct.extents import PARTS
from client.hrct.quantities import BINS
from shared_models.experiment import Data
from shared_models.metrics.agreement import agreement_of, quadratic_kappa
from shared_models.metrics.segmentation import extents
from shared_models.taxonomy import PATTERNS


def classes_of_parts(data: Data) -> dict[str, tuple[int, ...]]:
    """Return the class numbers that make up each part of `client.hrct.extents.PARTS`; parts that the classes cannot tell are left out.

    Examples
    --------
    >>> merge = {"ggo_reticulation": "reticulation"}
    >>> data = Data.model_validate({"target": "segmentation", "classes": ["normal", "ggo", "reticulation", "honeycombing"], "merge": merge})
    >>> classes_of_parts(data)
    {'reticulation': (2,), 'ggo': (1,), 'fibrosis': (2, 3), 'honeycombing': (3,)}
    """
    held = {name: {pattern for pattern in PATTERNS if data.merge.get(pattern, pattern) == name} for name in data.classes}
    out = {}
    for part, patterns in PARTS.items():
        chosen = [name for name, of in held.items() if of & set(patterns)]
        if set().union(*(held[name] for name in chosen)) == set(patterns):
            out[part] = tuple(data.classes.index(name) for name in chosen)
    return out


def part_agreement(tables: NDArray[Any], data: Data) -> dict[str, dict[str, Any]]:
    """Return for each part how called extents agree with drawn ones over patients, in percentage points of the lung.

    Parameters
    ----------
    tables : ndarray of int, shape (n, classes, classes)
        Pixels (drawn, called) of each patient.
    data : Data
        Classes and what was merged into them.

    Returns
    -------
    dict of part to dict
        `agreement_of`; ``drawn``, the mean drawn extent; ``kappa`` of the bins below 5, 5 to 29 and from 30 %, quadratic weights.
    """
    drawn, called = extents(tables)
    out = {}
    for part, classes in classes_of_parts(data).items():
        truth, found = drawn[:, classes].sum(1), called[:, classes].sum(1)
        uppers = [upper for upper, _ in BINS[:-1]]
        kappa = quadratic_kappa(np.digitize(truth, uppers), np.digitize(found, uppers), grades=len(BINS))
        out[part] = agreement_of(truth, found) | {"drawn": float(truth.mean()) if len(truth) else None, "kappa": kappa}
    return out
