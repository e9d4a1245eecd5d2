"""What the zoo says of one system: its figures, and each thing that *works when* asks."""

from __future__ import annotations

from typing import Any

from shared_models.core.errors import FedILDError
from shared_models.experiment import Experiment
from sim.zoo.criteria import FEDERATED, Criterion
from sim.zoo.ran import Ran
from sim.zoo.systems import system_of


def named(experiment: Experiment) -> dict[str, Any]:
    """Return what is known of a recipe before it runs."""
    return {
        "name": experiment.name,
        "title": experiment.title,
        "task": system_of(experiment.name).task,
        "source": experiment.source,
        "model": experiment.model.name,
        "digest": experiment.digest,
    }


def findings(ran: Ran) -> dict[str, Any]:
    """Return the row of a finished run: figures on unseen patients, and every criterion with its figure."""
    asked = [_asked(criterion, ran) for criterion in (*system_of(ran.experiment.name).asked, *FEDERATED)]
    headline = ran.headline
    return named(ran.experiment) | {
        "parameters": ran.facts["parameters"],
        "bytes_a_round": ran.bytes_a_round,
        "seconds": ran.seconds,
        "headline": headline,
        "federated": ran.cell(headline),
        "pooled": ran.cell(headline, "pooled"),
        "alone": ran.alone(headline),
        "asked": asked,
        "works": all(one["met"] is not False for one in asked),
    }


def _asked(criterion: Criterion, ran: Ran) -> dict[str, Any]:
    """Return one criterion with its figure; what goes wrong with one is told and does not hide the others."""
    found: dict[str, Any] = {"says": criterion.says, "bound": criterion.bound}
    try:
        value = criterion.figure(ran)
    except (FedILDError, LookupError, ValueError, OSError) as error:
        return found | {"value": None, "met": False, "error": str(error)[:500]}
    return found | {"value": value, "met": criterion.met(value)}
