"""A deep ensemble: the same federation run with several seeds, released as one model whose members vote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared_models.bundle import Bundle, load_bundle, write_bundle
from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput
from shared_models.ensemble import Member, is_ensemble, join


def united(bundles: Sequence[Bundle]) -> State:
    """Return the state of releases that differ in their seeds alone, as members of equal weight.

    Raises
    ------
    BadInput
        Fewer than two, other settings, equal seeds, a model that is no network, or statistics and calibrations, which are each member's own.
    """
    first = bundles[0].experiment if bundles else None
    if first is None or len(bundles) < 2:
        raise BadInput("an ensemble has at least two members", value=len(bundles), remedy="run the experiment with other seeds")
    if spec_of(first.model).fit != "gradient" or any(is_ensemble(one.state) for one in bundles):
        raise BadInput("members of a deep ensemble are networks", value=first.model.name)
    if first.data.target == "findings":
        raise BadInput("members of a deep ensemble name one class a patient", value=first.data.target, remedy="use a release of diagnoses")
    if first.statistics or first.calibration:
        raise BadInput(
            "members of a deep ensemble have no statistics and calibrations of their own", value=first.name, remedy="leave them out of the runs"
        )
    alike = {one.experiment.model_copy(update={"seed": 0}).digest for one in bundles}
    if len(alike) > 1:
        raise BadInput("members of a deep ensemble differ in their seeds alone", value=f"{len(alike)} different experiments")
    if len({one.experiment.seed for one in bundles}) < len(bundles):
        raise BadInput("members of a deep ensemble have different seeds", value=[one.experiment.seed for one in bundles])
    return join([Member(1.0, one.state) for one in bundles])


def write_ensemble(folders: Sequence[Path], out: Path) -> str:
    """Write the bundle of a deep ensemble from the folders of its members' bundles; return its digest.

    Parameters
    ----------
    folders : sequence of Path
        Bundles.
    out : Path
        New or empty folder.

    Raises
    ------
    BadInput
        As `united`, or the members come from different data.
    """
    if out.exists() and any(out.iterdir()):
        raise BadInput("the folder of a bundle must be new or empty", value=out.name, remedy="choose another --out")
    bundles = [load_bundle(Path(folder)) for folder in folders]
    state = united(bundles)
    origins = {one.card.get("trained_on") for one in bundles}
    if len(origins) > 1:
        raise BadInput("members of a deep ensemble were trained on the same data", value=sorted(map(str, origins)))
    card = {key: bundles[0].card[key] for key in ("trained_on", "intended_use", "training", "limits", "source") if key in bundles[0].card}
    told = {"seeds": [one.experiment.seed for one in bundles], "bundles": [one.digest for one in bundles]}
    limits = [*card.get("limits", []), "The ensemble as a whole was judged on no held-out hospital; its members were."]
    out.mkdir(parents=True, exist_ok=True)
    return write_bundle(out, state=state, experiment=bundles[0].experiment, card={**card, "limits": limits, "ensemble": told})
