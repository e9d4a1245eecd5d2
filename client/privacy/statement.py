"""What is said of every private run: epsilon never stands alone, but with all that it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from client.privacy.accountant import epsilon
from client.privacy.spending import Spend
from shared_models.core.errors import BadInput


def statement(spends: Sequence[Spend], *, accountant: str = "rdp") -> dict[str, Any]:
    """Return what a run's spends add up to, with everything the number depends on.

    Parameters
    ----------
    spends : sequence of Spend
        Of one site and cohort, one a round; of one unit, clip and delta.
    accountant : str
        A line of ACCOUNTANTS.

    Raises
    ------
    BadInput
        No spend, or spends of different units or deltas: their epsilons do not add up to one statement.

    Examples
    --------
    >>> said = statement([Spend(1.0, 0.1, 30, 400, "patient", 1.0, 1e-5, "a")] * 2)
    >>> round(said["epsilon"], 2), said["unit"], said["steps"]
    (6.33, 'patient', 60)
    """
    kinds = {(spent.unit, spent.delta) for spent in spends}
    if len(kinds) != 1:
        raise BadInput("a statement is about spends of one unit and one delta", value=sorted(kinds))
    ((unit, delta),) = kinds
    history = [(spent.sigma, spent.q, spent.steps) for spent in spends]
    return {
        "epsilon": epsilon(history, delta, accountant=accountant),
        "delta": delta,
        "unit": unit,
        "adjacency": f"one {unit} added or removed",
        "accountant": accountant,
        "sigma": sorted({spent.sigma for spent in spends}),
        "q": sorted({spent.q for spent in spends}),
        "steps": sum(spent.steps for spent in spends),
        "clip": sorted({spent.clip for spent in spends}),
        "sampling": "Poisson" if any(spent.q < 1 for spent in spends) else "everybody in every step",
    }


def spoken(said: dict[str, Any]) -> str:
    """Return a statement as one line.

    Examples
    --------
    >>> spoken(statement([Spend(2.0, 0.1, 30, 400, "patient", 1.0, 1e-5, "a")]))
    'epsilon 1.46 at delta 1e-05; unit patient (one patient added or removed); accountant rdp; sigma 2; q 0.1; 30 steps; clip 1; sampling Poisson'
    """
    several = {key: ", ".join(f"{value:g}" for value in said[key]) for key in ("sigma", "q", "clip")}
    return (
        f"epsilon {said['epsilon']:.2f} at delta {said['delta']:g}; unit {said['unit']} ({said['adjacency']}); accountant {said['accountant']}; "
        f"sigma {several['sigma']}; q {several['q']}; {said['steps']} steps; clip {several['clip']}; sampling {said['sampling']}"
    )
