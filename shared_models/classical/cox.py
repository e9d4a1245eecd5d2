"""Cox's proportional hazards, stratified by site, federated exactly: sites send sums, coefficients and errors equal those of the pooled fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from shared_models.blocks.moments import Scaler, check_semidefinite, total_of
from shared_models.blocks.partial_likelihood import Ties, by_event_time, partial_likelihood
from shared_models.blocks.profile_ends import UNKNOWN, first_ends, next_ends
from shared_models.blocks.spec import ModelSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout

Clock = Literal["identity", "log"]
CLOCKS: dict[str, Callable[[float], float]] = {"identity": float, "log": math.log1p}
"""How time enters the check of proportional hazards: as it is, or as ln(1 + t)."""


class Cox:
    """Newton's method on summed gradients and information of the partial likelihood, each site a stratum with its own baseline hazard.

    Who is at risk with whom is a matter of one site, so the stratified likelihood is a sum over sites; neither times nor risk sets travel.
    Round 1 sums counts, values and squares for the scaler. Each later round sums likelihood, gradient and information at the current
    coefficients; the server takes a Newton step, or goes half the way back where the last one has made the likelihood smaller. Gradient and
    information are also summed times the clock: whether a hazard ratio changes with time is told by the same rounds (`proportionality`).
    With `profile`, once Newton's steps have become nothing, further rounds sum the same at the ends of the profile-likelihood intervals of all
    coefficients (`shared_models.survival.profile`).
    """

    def __init__(self, columns: int, ties: Ties, ridge: float, clock: Clock, profile: bool = False) -> None:
        self.columns, self.ridge, self.scaler = columns, ridge, Scaler(columns)
        self.ties: Ties = ties
        self.clock = CLOCKS[clock]
        self.profile = profile

    def start(self, *, seed: int) -> State:
        """Return zero coefficients and an empty scaler.

        `ready` is 0 until the scaler is known, 2 once a likelihood is, and 3 while the ends of intervals are looked for. `best` are the coefficients
        of the largest likelihood so far, `information` is that at `best`, and so are the sums over the clock: `drift` of the gradient, `cross` and
        `square` of the information times clock and its square. All count in standard deviations of the columns. `ends` are the coefficients where
        each lower, then each upper end is looked for, `misses` what they missed by, `patients` how many the largest likelihood is of.
        """
        del seed
        p = self.columns
        known = {"coefficients": np.zeros(p), "best": np.zeros(p), "likelihood": np.zeros(1), "information": np.zeros((p, p))}
        known |= {"drift": np.zeros(p), "cross": np.zeros((p, p)), "square": np.zeros((p, p))}
        ends = {"ends": np.zeros((2 * p, p)), "misses": np.full(2 * p, UNKNOWN), "patients": np.zeros(1)} if self.profile else {}
        return {**self.scaler.start(), **known, **ends}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return one site's sums over x (n, columns) and y (n, 3): time, event and, where sites were put together, stratum."""
        del seed
        if state["ready"][0] > 2:
            return self._at_ends(state, x, y)
        p = self.columns
        sums = {**self.scaler.sums(x), "likelihood": np.zeros(1), "gradient": np.zeros(p), "information": np.zeros((p, p))}
        sums |= {"drift": np.zeros(p), "cross": np.zeros((p, p)), "square": np.zeros((p, p))}
        if not state["ready"][0] or not len(x):
            return sums
        outcome, scaled = np.asarray(y, np.float64).reshape(len(x), 3), self.scaler.scaled(state, x)
        for stratum in np.unique(outcome[:, 2]):
            rows = outcome[:, 2] == stratum
            terms = by_event_time(scaled[rows], outcome[rows, 0], outcome[rows, 1], state["coefficients"], ties=self.ties)
            for time, value, gradient, information in terms:
                now, bend = self.clock(time), (information + information.T) / 2
                sums["likelihood"] += value
                sums["gradient"] += gradient
                sums["information"] += bend
                sums["drift"] += now * gradient
                sums["cross"] += now * bend
                sums["square"] += now * now * bend
        return sums

    def _at_ends(self, state: State, x: np.ndarray, y: np.ndarray) -> State:
        p, ends = self.columns, state["ends"]
        sums = {"n": np.array([float(len(x))]), "values": np.zeros(2 * p), "slopes": np.zeros((2 * p, p)), "bends": np.zeros((2 * p, p, p))}
        outcome, scaled = np.asarray(y, np.float64).reshape(len(x), 3), self.scaler.scaled(state, x)
        for stratum in np.unique(outcome[:, 2]):
            rows = outcome[:, 2] == stratum
            for number, end in enumerate(ends):
                found = partial_likelihood(scaled[rows], outcome[rows, 0], outcome[rows, 1], end, ties=self.ties)
                sums["values"][number] += found[0]
                sums["slopes"][number] += found[1]
                sums["bends"][number] += (found[2] + found[2].T) / 2
        return sums

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the scaler (first round), or take one safeguarded Newton step."""
        del weights
        total = total_of(contributions)
        if not state["ready"][0]:
            return self.scaler.found(state, total)
        if state["ready"][0] > 2:
            return self._ends_moved(state, total)
        here = state["coefficients"]
        value = float(total["likelihood"][0]) - 0.5 * self.ridge * float(here @ here)
        best = float(state["likelihood"][0])
        if state["ready"][0] > 1 and value < best - 1e-10 * max(1.0, abs(best)):
            return {**state, "coefficients": (here + state["best"]) / 2}
        bend = total["information"] + self.ridge * np.eye(self.columns)
        # What no site can tell (a column that never changes) has no information: the shortest step leaves its coefficient at 0.
        step = np.linalg.lstsq(bend, total["gradient"] - self.ridge * here, rcond=1e-12)[0]
        known = {"best": here, "likelihood": np.array([value]), "information": bend, "ready": np.full(1, 2.0)}
        known |= {name: total[name] for name in ("drift", "cross", "square")}
        if self.profile and float(step @ bend @ step) < 1e-12:
            known |= {"ready": np.full(1, 3.0), "ends": first_ends(here, bend), "patients": total["n"].copy()}
        return {**state, **known, "coefficients": here + step}

    def _ends_moved(self, state: State, total: State) -> State:
        if total["n"][0] != state["patients"][0]:
            return state  # of other patients than the largest likelihood: the two cannot be compared
        ends = state["ends"]
        values = total["values"] - 0.5 * self.ridge * (ends**2).sum(1)
        slopes, bends = total["slopes"] - self.ridge * ends, total["bends"] + self.ridge * np.eye(self.columns)
        following, misses = next_ends(ends, float(state["likelihood"][0]), values, slopes, bends)
        return {**state, "ends": following, "misses": misses}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, sums that are not finite, counts and likelihoods that cannot be, and an information that is none."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros((0, 3)), seed=0))
        if not is_finite(contribution) or contribution["n"][0] < 0 or (contribution.get("squares", np.zeros(1)) < 0).any():
            raise BadState("sums must be finite and counts positive")
        if (contribution["values" if "values" in contribution else "likelihood"] > 1e-9).any():
            raise BadState("a partial likelihood is a product of shares")
        # The clock is never negative.
        for bend in (*contribution.get("bends", ()), *(contribution[name] for name in ("information", "cross", "square") if name in contribution)):
            check_semidefinite(bend, what="an information")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the logarithm of the hazard relative to a patient of mean columns, shape (n, 1): higher is worse."""
        return (self.scaler.scaled(state, x) @ state["coefficients"])[:, None]


def hazard_table(state: State) -> dict[str, np.ndarray]:
    """Return what a Cox model says of each column: log hazard ratio a unit, its standard error, z, each of shape (columns,).

    The error of a column that the data say nothing about is infinite.

    Parameters
    ----------
    state : dict
        Of a `Cox` model after its last round.
    """
    values, vectors = np.linalg.eigh(state["information"])
    told = values > 1e-12 * max(float(values.max(initial=0.0)), 1e-300)
    variance = (vectors[:, told] ** 2 / values[told]).sum(1)
    untold = (vectors[:, ~told] ** 2).sum(1) > 1e-9
    error = np.where(untold, np.inf, np.sqrt(variance)) / state["scale"]
    coefficient = state["coefficients"] / state["scale"]
    return {"coefficient": coefficient, "standard_error": error, "z": coefficient / np.where(error > 0, error, np.inf)}


def proportionality(state: State) -> dict[str, np.ndarray]:
    """Return whether hazard ratios change with time: chi-square and p of each column, shape (columns,), and of all together, shape (1,).

    The score test of a coefficient that changes linearly with the clock, at the coefficients found: with the summed Schoenfeld residuals times
    clock u, ``V = B - A I^-1 A`` of information I, its sum times clock A and times squared clock B: ``u_j^2 / V_jj`` on one degree of freedom,
    ``u' V^-1 u`` on as many as there are columns. A small p says that the ratio is not the same at all times. NaN for what the data do not tell.

    Source: Grambsch & Therneau, Biometrika 1994;81:515, without its approximation of a constant information.
    """
    from scipy.stats import chi2

    change = state["cross"] @ np.linalg.pinv(state["information"], rcond=1e-12, hermitian=True) @ state["cross"]
    spread = (state["square"] - change + (state["square"] - change).T) / 2
    own, told = np.diag(spread), np.diag(spread) > 1e-9 * np.maximum(np.diag(state["square"]), 1e-300)
    single = np.divide(state["drift"] ** 2, own, out=np.full(len(own), np.nan), where=told)
    inner = spread[np.ix_(told, told)]
    whole = float(state["drift"][told] @ np.linalg.pinv(inner, rcond=1e-12, hermitian=True) @ state["drift"][told]) if told.any() else np.nan
    together = np.array([whole])
    return {"chi2": single, "p": chi2.sf(single, 1), "all_chi2": together, "all_p": chi2.sf(together, max(1, int(told.sum())))}


def cox(
    inputs: int,
    outputs: int,
    *,
    ties: Ties = "efron",
    ridge: Annotated[float, Field(ge=0, le=1e6)] = 0.0,
    clock: Clock = "identity",
    profile: bool = False,
) -> Cox:
    """Build Cox's proportional hazards over `inputs` columns; the target is survival (``data.target = "survival"``).

    Parameters
    ----------
    ties : str
        How events at one time count: ``efron`` or ``breslow``.
    ridge : float
        Penalty ``ridge/2 * |coefficients|^2`` on standardised columns; 0 is the plain partial likelihood.
    clock : str
        How time enters the check of proportional hazards: ``identity``, or ``log`` for ln(1 + t).
    profile : bool
        Find profile-likelihood intervals in the rounds that are left once the coefficients stand still: some five more.

    Examples
    --------
    >>> import numpy as np
    >>> model = cox(1, 2)
    >>> x, y = np.array([[0.0], [1.0], [0.5], [2.0]]), np.array([[4.0, 1, 0], [2.0, 1, 0], [1.0, 1, 0], [3.0, 0, 0]])
    >>> state = model.start(seed=0)
    >>> for _ in range(8):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [4])
    >>> hazard_table(state)["coefficient"].round(6).tolist()
    [-0.32074]
    """
    del outputs
    return Cox(inputs, ties, ridge, clock, profile)


SPEC = ModelSpec(
    build=cox,
    takes="table",
    fit="sums",
    task="survival",
    counts={"n": "all"},
    source="Cox, J R Stat Soc B 1972;34:187; strata and sums over sites: design of the federation modes (F-stat)",
)
