"""What *works when* may ask of a system: a figure computed from its run, and the bound that it must keep.

Source: the levels of `works when` of the field survey: L2 truth, beats a trivial comparator; L3 federated, no worse than each hospital alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared_models.metrics import METRICS
from shared_models.metrics.findings import FINDING_METRICS
from shared_models.metrics.prognosis import prognosis_title
from sim.zoo.locating import located
from sim.zoo.ran import Ran

Figure = Callable[[Ran], float | None]


@dataclass(frozen=True)
class Criterion:
    """One thing that must hold.

    Parameters
    ----------
    says : str
        What the figure is.
    figure : callable
        Computes it from a finished run; None is undefined, and not met.
    least, most : float, optional
        Its bound; without either it is only told.
    """

    says: str
    figure: Figure
    least: float | None = None
    most: float | None = None

    def met(self, value: float | None) -> bool | None:
        """Return whether a figure keeps the bound; None where there is none.

        Examples
        --------
        >>> asked = Criterion("x", lambda ran: 0.9, least=0.85)
        >>> asked.met(0.9), asked.met(0.8), asked.met(None), Criterion("x", lambda ran: 1.0).met(1.0)
        (True, False, False, None)
        """
        if self.least is None and self.most is None:
            return None
        return value is not None and (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def bound(self) -> str:
        """The bound in signs.

        Examples
        --------
        >>> Criterion("x", lambda ran: 0.9, least=0.85).bound, Criterion("x", lambda ran: 0.9).bound
        ('≥ 0.85', '')
        """
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}" if self.most is not None else ""


def title_of(metric: str) -> str:
    """Return a metric's name for readers."""
    known = FINDING_METRICS | METRICS
    return known[metric].title if metric in known else prognosis_title(metric) or metric.replace("_", " ")


def metric(name: str, least: float) -> Criterion:
    """Ask a metric of unseen patients, at a hospital that did not train."""
    return Criterion(f"{title_of(name)}, unseen patients", lambda ran: ran.value(name), least=least)


def told(name: str) -> Criterion:
    """Tell a metric without asking anything of it."""
    return Criterion(f"{title_of(name)}, unseen patients", lambda ran: ran.value(name))


def over(name: str, other: str, *, least: float) -> Criterion:
    """Ask a metric of unseen patients that is better than another one of the same run, such as that of a trivial answer."""

    def figure(ran: Ran) -> float | None:
        ours, theirs = ran.value(name), ran.value(other)
        return None if ours is None or theirs is None else ours - theirs

    return Criterion(f"{title_of(name)} minus {title_of(other)[:1].lower()}{title_of(other)[1:]}", figure, least=least)


def beside(says: str, changes: dict[str, Any], name: str, *, most: float) -> Criterion:
    """Ask that the same federation with whole sections changed does not reach more than `most`: what is asked could not be had more simply."""
    return Criterion(says, lambda ran: ran.again("beside", changes)[name], most=most)


def _over_alone(ran: Ran) -> float | None:
    ours, theirs = ran.value(ran.headline), ran.alone(ran.headline)
    return None if ours is None or theirs is None else ours - theirs


def _over_pooled(ran: Ran) -> float | None:
    ours, theirs = ran.value(ran.headline), ran.value(ran.headline, "pooled")
    return None if ours is None or theirs is None else ours - theirs


FEDERATED = (
    Criterion("headline metric minus the mean of hospitals alone", _over_alone, least=0.0),
    Criterion("headline metric minus that of all data pooled", _over_pooled, least=-0.05),
)
"""L3, asked of every system."""


def over_density(least: float) -> Criterion:
    """Ask more AUROC than the federated logistic regression of one number: the share of lung voxels of high attenuation (HAA)."""

    def figure(ran: Ran) -> float | None:
        plain: dict[str, Any] = {"model": {"name": "logistic"}, "strategy": None, "stages": None, "train": {}, "federation": {"rounds": 8}}
        plain |= {"inputs": {"columns": ["whole_haa_percent"]}}
        # every patient trains: hospitals count no class with fewer than five, and this model is not chosen by validation patients
        plain |= {"evaluation": ran.experiment.evaluation.model_dump(mode="json", exclude_none=True) | {"validation": 0.0}}
        ours, theirs = ran.value("auroc_macro"), ran.again("density", plain)["auroc_macro"]
        return None if ours is None or theirs is None else ours - theirs

    return Criterion("AUROC minus that of high attenuation alone", figure, least=least)


def on_disease(method: str, least: float = 1.5) -> Criterion:
    """Ask that a system's maps lie on planted disease."""
    return Criterion(f"{method}: map inside planted disease over outside, median", lambda ran: located(ran, method)["mass_ratio"], least=least)


def points(method: str) -> tuple[Criterion, Criterion]:
    """Tell the pointing game on planted disease, with what pointing anywhere would reach, and whether the answer hangs on hot places first."""
    return (
        Criterion(f"{method}: hottest place in planted disease minus share of the lungs that is diseased", lambda ran: _over_anywhere(ran, method)),
        Criterion(f"{method}: probability with hot places put in first minus taken out first, median", lambda ran: located(ran, method)["faithful"]),
    )


def _over_anywhere(ran: Ran, method: str) -> float | None:
    found = located(ran, method)
    return None if found["pointed"] is None or found["diseased"] is None else found["pointed"] - found["diseased"]


def learnt(method: str, most: float = 0.5) -> Criterion:
    """Ask that a network with random weights gives other maps (Adebayo et al., NeurIPS 2018)."""
    return Criterion(f"{method}: rank correlation with maps of random weights", lambda ran: located(ran, method)["alike"], most=most)
