"""What *works when* asks of a prognosis: risks near the best that planted risks allow, and hazard ratios that hold the planted one."""

from __future__ import annotations

import math

import numpy as np

from client.cases.cohort import Cohort
from client.cases.identity import Pseudonyms
from client.site import Site
from shared_models.core.files import read_json
from sim.hospital.key import phantom_secret
from sim.prognosis import PLANTED, PLANTED_FIBROSIS
from sim.zoo.criteria import Criterion, title_of
from sim.zoo.ran import Ran

Z95 = 1.959963984540054


ARMS = {PLANTED: "the planted risk", PLANTED_FIBROSIS: "planted fibrosis"}


def near_planted(metric: str, least: float | None = None, *, arm: str = PLANTED) -> Criterion:
    """Ask a metric to come near that of the planted risk on the same unseen patients; 0 is as good as knowing what was planted.

    The planted risk knows age and sex; what images alone can tell is that of `PLANTED_FIBROSIS`.
    """

    def figure(ran: Ran) -> float | None:
        ours, theirs = ran.value(metric), ran.value(metric, arm)
        return None if ours is None or theirs is None else ours - theirs

    return Criterion(f"{title_of(metric)} minus that of {ARMS[arm]}", figure, least=least)


def measured_on_planted(ran: Ran, column: str) -> float:
    """Return by how much a measured column rises for 1 % more of planted fibrosis: the slope over the training patients, hospital by hospital.

    Raises
    ------
    KeyError
        The column was not measured.
    """
    above = below = 0.0
    for path in ran.training:
        place = Site.load(path)
        names = Pseudonyms(phantom_secret(ran.experiment.seed, place.site.name))
        visits = read_json(ran.folder / "truth" / place.site.name / "truth.json")["visits"]
        known = {names.patient(visit["patient_id"]): visit["fibrosis"] for visit in reversed(visits)}
        cases = Cohort.load(place.workspace / "cohort.json").cases
        planted = np.array([known[case.pseudonym] for case in cases])
        measured = np.array([case.visits[0].features[column] for case in cases])
        above += float(((planted - planted.mean()) * (measured - measured.mean())).sum())
        below += float(((planted - planted.mean()) ** 2).sum())
    return above / below


def planted_ratio(column: str, *, ratio: float = 1.9) -> Criterion:
    """Ask that the planted hazard ratio of 10 % of fibrosis lies within the 95 % interval of the federated fit.

    The fit's ratio is of one unit of `column`; what 10 % of planted fibrosis are in its units is read off the training patients (Prentice, Biometrika
    1982;69:331: regression calibration, here the other way round). The figure is how many standard errors lie between the two.
    """

    def figure(ran: Ran) -> float | None:
        hazards = ran.metrics["hazards"]
        place = hazards["columns"].index(column)
        found = {key: values[place] for key, values in hazards["federated"]["columns"].items()}
        if found["coefficient"] is None or found["standard_error"] is None:
            return None
        ten = 10 * measured_on_planted(ran, column)
        return abs(found["coefficient"] * ten - math.log(ratio)) / abs(found["standard_error"] * ten)

    return Criterion(f"standard errors between the hazard ratio of 10 % of fibrosis and the planted {ratio:g}", figure, most=Z95)
