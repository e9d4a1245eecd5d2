"""What the calibrations of a release say of it: for its card."""

from __future__ import annotations

from typing import Any

from shared_models.calibration import CALIBRATIONS
from shared_models.core.arrays import State
from shared_models.experiment import Experiment
from shared_models.phases import fit_of


def calibration_facts(experiment: Experiment, state: State) -> dict[str, Any]:
    """Return, by calibration, its knobs and what was found: a temperature, or the patients, the threshold and the bounds of the coverage.

    Examples
    --------
    >>> import numpy as np
    >>> from shared_models.core.choices import Choice
    >>> from shared_models.experiment import Data
    >>> experiment = Experiment(name="x", data=Data(classes=("a", "b")), model=Choice(name="linear"), calibration=(Choice(name="temperature"),))
    >>> calibration_facts(experiment, {"calibration/temperature/beta": np.array([0.5])})
    {'temperature': {'temperature': 2.0}}
    """
    found: dict[str, Any] = {}
    for choice in experiment.calibration or ():
        fit = fit_of(state, choice.name, after=True)
        if CALIBRATIONS[choice.name].cells is None:
            found[choice.name] = {"temperature": round(1 / float(fit["beta"][0]), 4)}
        else:
            found[choice.name] = choice.knobs | {name: _shown(float(fit[name][0])) for name in CALIBRATIONS[choice.name].told}
    return found


def _shown(value: float) -> float | str:
    return round(value, 4) if value < 1e300 else "none: too few patients were held out"
