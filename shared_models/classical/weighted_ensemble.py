"""A weighted ensemble of models of sums, federated exactly: members, their out-of-fold predictions and the choice among them are all sums."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.moments import total_of
from shared_models.blocks.row_split import folds_of
from shared_models.blocks.spec import Classical, ModelSpec
from shared_models.classical.boosting import SPEC as BOOSTING
from shared_models.classical.kmeans import SPEC as KMEANS
from shared_models.classical.lda import SPEC as LDA
from shared_models.classical.logistic import SPEC as LOGISTIC
from shared_models.classical.rbf import SPEC as RBF
from shared_models.classical.ridge import SPEC as RIDGE
from shared_models.classical.svm import SPEC as SVM
from shared_models.core.arrays import State
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout
from shared_models.ensembles.caruana import Selection

MEMBERS: dict[str, ModelSpec] = {
    "boosting": BOOSTING,
    "kmeans": KMEANS,
    "lda": LDA,
    "logistic": LOGISTIC,
    "rbf": RBF,
    "ridge": RIDGE,
    "svm": SVM,
}
"""Who may be a member: models of tables whose sums add up to the pooled fit. A forest's trees do not."""

DEFAULT = tuple(Choice(name=name) for name in ("logistic", "lda", "svm", "boosting", "kmeans"))


class WeightedEnsemble:
    """Every member is fitted ``folds + 1`` times at once: on all rows, and without each fold. Then rounds of choice weigh the members.

    A round of choice sums the log-loss that the ensemble would have with each member added, each row judged by fits that never saw it; the
    server adds the best (Caruana et al.), and the best ensemble on the way is kept. So it is never worse out of fold than its best member. The
    fold of a row hangs on its own numbers alone, so any spread of the rows over sites gives the same ensemble.
    """

    def __init__(self, columns: int, members: list[Classical], folds: int, fit_rounds: int, choices: int) -> None:
        self.columns, self.members, self.folds, self.fit_rounds, self.choices = columns, members, folds, fit_rounds, choices
        self.selection = Selection(len(members))

    @property
    def rounds(self) -> int:
        """Rounds that members and choices take."""
        return self.fit_rounds + self.choices

    def start(self, *, seed: int) -> State:
        """Return members without data and nobody taken; `ready` counts the rounds."""
        fits = {f"{place}{key}": value for place, member, _ in self._fits() for key, value in member.start(seed=seed).items()}
        counts = np.zeros(len(self.members))
        return {**fits, "taken": counts, "weights": counts.copy(), "least": np.zeros(1), "ready": np.zeros(1)}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return one site's sums over x (n, columns) and y (n,) class numbers: of all fits, or of the choices."""
        n, fold = {"n": np.array([float(len(x))])}, folds_of(x, self.folds)
        if state["ready"][0] < self.fit_rounds:
            found: State = {}
            for place, member, without in self._fits():
                rows = fold != without
                part = member.contribution(_part(state, place), x[rows], y[rows], seed=seed)
                found |= {f"{place}{key}": value for key, value in part.items()}
            return {**n, **found}
        return {**n, **self.selection.contribution(state, self._unseen(state, x, fold), y)}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Let every fit take its step, or take a member; once all choices are made nothing changes."""
        total, round_ = total_of(contributions), int(state["ready"][0])
        known = {**state, "ready": state["ready"] + 1}
        if round_ < self.fit_rounds:
            for place, member, _ in self._fits():
                moved = member.combine(_part(state, place), [_part(total, place)], weights)
                known |= {f"{place}{key}": value for key, value in moved.items()}
            return known
        if round_ >= self.rounds:
            return state
        taken = self.selection.combine(state, [total])["taken"]
        loss = float(total["loss"].min()) / max(float(total["n"][0]), 1.0)
        if round_ == self.fit_rounds or loss < state["least"][0]:
            known |= {"weights": taken / taken.sum(), "least": np.array([loss])}
        return {**known, "taken": taken}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, what a member refuses, and losses that are negative."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros(0, int), seed=0))
        if not is_finite(contribution) or contribution["n"][0] < 0 or (contribution.get("loss", np.zeros(1)) < 0).any():
            raise BadState("sums must be finite, counts and losses not negative")
        if "loss" not in contribution:
            for place, member, _ in self._fits():
                member.check(_part(contribution, place), _part(state, place))

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the weighted mean of the members' class probabilities (n, classes); before any choice their plain mean."""
        weights = state["weights"] if state["weights"].any() else np.full(len(self.members), 1 / len(self.members))
        return np.einsum("m,mnc->nc", weights, self._predictions(state, x, self.folds))

    def _fits(self) -> list[tuple[str, Classical, int]]:
        """Prefix, model and left-out fold of every fit; the fold that no row is in leaves nothing out."""
        return [(f"member/{number}/{fold}/", member, fold) for number, member in enumerate(self.members) for fold in range(self.folds + 1)]

    def _predictions(self, state: State, x: np.ndarray, fold: int) -> np.ndarray:
        return np.stack([member.predict(_part(state, place), x) for place, member, without in self._fits() if without == fold])

    def _unseen(self, state: State, x: np.ndarray, fold: np.ndarray) -> np.ndarray:
        found = self._predictions(state, x, self.folds)
        for number in range(self.folds):
            found[:, fold == number] = self._predictions(state, x[fold == number], number)
        return found


def _part(state: State, place: str) -> State:
    return {key.removeprefix(place): value for key, value in state.items() if key.startswith(place)}


def weighted_ensemble(
    inputs: int,
    outputs: int,
    *,
    members: Annotated[tuple[Choice, ...], Field(min_length=2, max_length=16)] = DEFAULT,
    folds: Annotated[int, Field(ge=2, le=10)] = 3,
    fit_rounds: Annotated[int, Field(ge=2, le=2000)] = 12,
    choices: Annotated[int, Field(ge=1, le=1000)] = 20,
) -> WeightedEnsemble:
    """Build an ensemble that weighs its members by greedy selection on out-of-fold predictions; ``fit_rounds + choices`` rounds, the secure sum.

    Several records of one patient may fall into different folds: give it one a patient.

    Parameters
    ----------
    members : tuple
        Names of `MEMBERS` with their knobs; one may come twice with other knobs.
    folds : int
        Folds of the rows; each member is fitted once more than there are folds.
    fit_rounds : int
        Rounds of the members' fits: as many as the slowest needs.
    choices : int
        Rounds that each take one member, with replacement.

    Raises
    ------
    BadChoice
        An unknown member, or a knob that it does not have.

    Examples
    --------
    >>> model = weighted_ensemble(1, 2, members=(Choice(name="ridge"), Choice(name="kmeans", clusters=4, steps=3)), fit_rounds=5, choices=3)
    >>> x, y = np.linspace(-2, 2, 60)[:, None], (abs(np.linspace(-2, 2, 60)) < 1).astype(int)
    >>> state = model.start(seed=0)
    >>> for _ in range(model.rounds):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [60])
    >>> state["weights"].tolist(), model.predict(state, np.array([[-2.0], [0.0]])).argmax(1).tolist()
    ([0.0, 1.0], [0, 1])
    """
    build = [pick(MEMBERS, choice, kind="member", get=lambda spec: spec.build) for choice in members]
    return WeightedEnsemble(inputs, [make(inputs, outputs) for make in build], folds, fit_rounds, choices)


SPEC = ModelSpec(
    build=weighted_ensemble,
    takes="table",
    fit="sums",
    counts={"n": "all"},
    summed_only=True,
    source="Caruana et al., Ensemble selection from libraries of models, ICML 2004; for lung graphs: Sun et al., J Imaging Inform Med 37:268, 2024",
)
