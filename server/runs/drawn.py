"""What the card of a bundle with a generator says of the slices that it draws: each site's numbers, or that there are none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared_models.catalogue import spec_of
from shared_models.experiment import Experiment

PREFIX = "drawn_"
"""Of the numbers about drawn slices that a site's gate lets out."""
READ_SO = "distance of a drawn slice to the nearest training slice over that of a held-out one; well below 1 patients are repeated"
UNCHECKED = "no site told its numbers (too few patients behind them, or its policy): nobody has checked here whether patients are repeated"


def drawn_facts(experiment: Experiment, told: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the card's part about drawn slices from what each site told; nothing for a model that draws none.

    Examples
    --------
    >>> from shared_models.core.choices import Choice
    >>> from shared_models.experiment import Data
    >>> asked = Experiment(name="x", data=Data(classes=("a", "b")), model=Choice(name="dcgan"))
    >>> drawn_facts(asked, {"alpha": {"drawn_memory_ratio": 1.2, "val_loss": 0.5}})["drawn_slices"]["alpha memory_ratio"]
    1.2
    """
    if not spec_of(experiment.model).draws:
        return {}
    numbers = [(site, name, value) for site, found in told.items() for name, value in found.items() if name.startswith(PREFIX)]
    cells = {f"{site} {name.removeprefix(PREFIX)}": value for site, name, value in numbers}
    return {"drawn_slices": cells | {"memory ratio" if cells else "unchecked": READ_SO if cells else UNCHECKED}}
