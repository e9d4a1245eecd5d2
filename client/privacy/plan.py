"""Choosing noise: how much it takes for an epsilon at one site, how many steps that is, and what other choices would cost."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

from client.privacy.accountant import epsilon
from shared_models.catalogue import spec_of
from shared_models.core.errors import BadInput
from shared_models.drawing import DASHES, Chart, nice_ticks
from shared_models.experiment import Experiment

FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Noise multipliers and numbers of rounds of the trade-off table, as factors of the planned ones."""


@dataclass(frozen=True)
class Plan:
    """What private training of an experiment means at a site of `patients` training patients.

    Parameters
    ----------
    sigma : float
        Noise multiplier.
    q : float
        Share of patients drawn in a step; `batch` of them are expected.
    steps_a_round, rounds : int
        Steps of one round, and rounds.
    epsilon, tighter : float
        Of the whole run at `delta`, by Renyi and by numerical composition (NaN where that has no answer).
    """

    patients: int
    sigma: float
    q: float
    batch: int
    steps_a_round: int
    rounds: int
    delta: float
    epsilon: float
    tighter: float

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_a_round * self.rounds

    @property
    def noise_to_clip(self) -> float:
        """Standard deviation of the noise in a mean gradient over the clipping norm: what the batch leaves of sigma."""
        return self.sigma / self.batch

    def table(self) -> list[list[float]]:
        """Return epsilon for each noise of FACTORS (rows) and each number of rounds (columns)."""
        return [[epsilon([(factor * self.sigma, self.q, max(1, round(self.steps * share)))], self.delta) for share in FACTORS] for factor in FACTORS]


def steps_of(experiment: Experiment, patients: int) -> tuple[float, int]:
    """Return the sampling rate and the steps of a round at a site of `patients`; a model of sums asks everybody once.

    Raises
    ------
    BadInput
        No patients.
    """
    if patients < 1:
        raise BadInput("a plan needs the number of training patients", value=patients)
    if spec_of(experiment.model).fit != "gradient":
        return 1.0, 1
    train = experiment.train
    return min(1.0, train.batch / patients), train.steps or train.epochs * math.ceil(patients / train.batch)


def plan(experiment: Experiment, patients: int, *, target: float | None = None, sigma: float | None = None) -> Plan:
    """Return the plan that reaches epsilon `target`, or the one of noise `sigma` (None: the experiment's).

    Parameters
    ----------
    experiment : Experiment
        Its `[train]`, `[federation]` and `[privacy]`.
    patients : int
        Training patients of the site.
    target : float, optional
        Epsilon of the whole run.
    sigma : float, optional
        Noise multiplier.

    Raises
    ------
    BadInput
        Neither a target nor a noise, or a target that no noise reaches; a delta that is not below 1/(10 n); a run of several phases.

    Source: the search is Opacus' `get_noise_multiplier`.
    """
    if experiment.statistics or experiment.stages:
        raise BadInput(
            "a plan is of a run that spends alike in every round",
            value="statistics or stages",
            remedy="plan without them, then `fedild check EXPERIMENT --site SITE` adds up what the whole run spends",
        )
    q, steps_a_round = steps_of(experiment, patients)
    rounds, delta = experiment.federation.rounds, experiment.privacy.delta
    if not delta < 1 / (10 * patients):
        raise BadInput("delta stays below 1/(10 n)", value=delta, remedy=f"privacy.delta = {0.5 / (10 * patients):.0e}")
    if target is not None:
        from opacus.accountants.utils import get_noise_multiplier

        steps, tolerance = steps_a_round * rounds, min(0.01, 0.01 * target)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # as in the accountant: the largest order may be the best one
                sigma = get_noise_multiplier(
                    target_epsilon=target, target_delta=delta, sample_rate=q, steps=steps, accountant="rdp", epsilon_tolerance=tolerance
                )
        except ValueError:
            raise BadInput("an epsilon must be one that noise can reach", value=target, remedy="a larger one, or fewer rounds") from None
    sigma = float(sigma) if sigma is not None else experiment.privacy.noise_multiplier
    if sigma is None:
        raise BadInput("a plan needs an epsilon to reach or a noise multiplier", remedy="--epsilon 4")
    history = [(sigma, q, steps_a_round * rounds)]
    spent, tighter = epsilon(history, delta), epsilon(history, delta, accountant="prv")
    return Plan(patients, sigma, q, min(experiment.train.batch, patients), steps_a_round, rounds, delta, spent, tighter)


def lines_of(found: Plan, experiment: Experiment) -> list[str]:
    """Return a plan as lines for a terminal."""
    fewest = "  (fewer than 50: the batch itself tells how many there are)" if found.patients < 50 else ""
    lines = [
        f"{experiment.name}: {found.patients} training patients at the site{fewest}",
        f"  noise multiplier  {found.sigma:.4g}    privacy.noise_multiplier = {math.ceil(found.sigma * 1000) / 1000:g}",
        f"  rounds, steps     {found.rounds} rounds of {found.steps_a_round} steps, {found.steps} in all",
        f"  expected batch    {found.q * found.patients:.4g} patients, rate {found.q:.4g}, Poisson sampling",
        f"  noise in a step   {found.noise_to_clip:.3g} of the clipping norm, in every coordinate of the mean gradient",
        f"  epsilon           {found.epsilon:.3f} (Renyi), {found.tighter:.3f} (numerical) at delta {found.delta:g}",
        "  adjacency         one patient added or removed",
        "  epsilon over noise and rounds:",
        "  " + f"{'noise':>9s}" + "".join(f"{round(found.rounds * share):>9d}" for share in FACTORS),
    ]
    for factor, row in zip(FACTORS, found.table(), strict=True):
        lines.append("  " + f"{factor * found.sigma:9.3g}" + "".join(f"{value:9.3g}" for value in row))
    return lines


def as_row(found: Plan) -> dict[str, Any]:
    """Return a plan as JSON values."""
    row = {name: getattr(found, name) for name in ("patients", "sigma", "q", "batch", "steps_a_round", "rounds", "steps", "delta", "epsilon")}
    tighter = found.tighter if math.isfinite(found.tighter) else None
    return {**row, "tighter": tighter, "factors": list(FACTORS), "table": found.table()}


def picture(plans: list[Plan], target: float | None) -> str:
    """Return an SVG file: epsilon over the noise multiplier, one line a site."""
    low, high = min(p.sigma for p in plans) * FACTORS[0], max(p.sigma for p in plans) * FACTORS[-1]
    sigmas = [low * (high / low) ** (place / 24) for place in range(25)]
    lines = [[epsilon([(sigma, p.q, p.steps)], p.delta) for sigma in sigmas] for p in plans]
    most = min(max(max(line) for line in lines), 4 * (target or max(p.epsilon for p in plans)))
    ticks_x, ticks_y = nice_ticks(low, high, 7), nice_ticks(0, most)
    chart = Chart(720, 340, (ticks_x[0], ticks_x[-1]), (0, ticks_y[-1]), left=56, right=130)
    chart.axis_x(ticks_x, "Noise multiplier")
    chart.axis_y(ticks_y, f"Epsilon of {plans[0].rounds} rounds")
    for place, (found, line) in enumerate(zip(plans, lines, strict=True)):
        shown = [value if value <= ticks_y[-1] else None for value in line]
        chart.line(f"hue{place % 6}", sigmas, shown, DASHES[place % len(DASHES)])
        chart.dot(
            f"hue{place % 6}", found.sigma, found.epsilon, 4, f"{found.patients} patients: noise {found.sigma:.3g}, epsilon {found.epsilon:.3f}"
        )
        chart.label(f"hue{place % 6}", chart.width - chart.right + 8, chart.top + 14 + 16 * place, f"{found.patients} patients")
    if target is not None and target <= ticks_y[-1]:
        chart.segment("chance", chart.left, chart.at_y(target), chart.width - chart.right, chart.at_y(target))
    told = "; ".join(f"{p.patients} patients: noise {p.sigma:.3g}, epsilon {p.epsilon:.3f}" for p in plans)
    return chart.picture("Noise and privacy", f"Epsilon falls with the noise multiplier. {told}.")
