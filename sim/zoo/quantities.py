"""Whether extents measured on images are those that were planted: the whole way, with the hospital's own lung mask, at unseen hospitals."""

from __future__ import annotations

from typing import Any

import numpy as np

from client.cases.cache import load
from client.cases.cohort import Cohort
from client.cases.identity import Pseudonyms
from client.hrct.extents import PARTS
from client.hrct.quantities import known_parts, quantities_of
from client.pattern_maps import source_of
from client.selection import training_names
from client.site import Site
from shared_models.bundle import load_bundle
from shared_models.core.files import read_json, write_json
from shared_models.metrics.agreement import agreement_of
from sim.hospital.key import phantom_secret
from sim.zoo.criteria import Criterion
from sim.zoo.ran import Ran


def measured(ran: Ran) -> list[dict[str, Any]]:
    """Return what was planted and what the release measures in the first CT of every unseen patient; what was found once is read again.

    Unseen are the patients of held-out hospitals; the table by site that is kept beside them has those whom training hospitals kept for validation.

    Returns
    -------
    list of dict
        Of held-out hospitals: ``site``, ``scanner``, ``kernel``; ``planted`` and ``measured`` (percent of the lung by part: of the true lung, and
        of the mask that the hospital's client made), ``fvc_percent`` as drawn with the patient.
    """
    note = ran.folder / "quantities.json"
    if note.exists():
        return read_json(note)["patients"]
    source = source_of(load_bundle(ran.folder / "bundle"))
    parts, patients = known_parts(source.told), []
    for path in (*ran.held_out, *ran.training):
        place = Site.load(path)
        trained = set(training_names(place, ran.experiment)) if path in ran.training else set()
        truth = read_json(ran.folder / "truth" / place.site.name / "truth.json")
        names = Pseudonyms(phantom_secret(ran.experiment.seed, place.site.name))
        known = {names.patient(visit["patient_id"]): visit for visit in reversed(truth["visits"])}
        for case in Cohort.load(place.workspace / "cohort.json").cases:
            if case.pseudonym in trained:
                continue
            visit, stored = known[case.pseudonym], load(place.workspace / case.visits[0].prepared)
            prepared = stored.prepared
            if prepared.mask is None:
                continue
            found = quantities_of(source.map_of(prepared), prepared.mask, prepared.volume.spacing_mm, told=source.told)["whole"]["percent"]
            planted = {part: sum(visit["extents"].get(pattern, 0.0) for pattern in PARTS[part]) for part in parts}
            scan = {"scanner": truth["hospital"]["scanner"], "kernel": stored.note["acquisition"].get("kernel_class")}
            patients.append({"site": place.site.name, **scan, "planted": planted, "measured": found, "fvc_percent": visit["fvc_percent"]})
    sites = sorted({line["site"] for line in patients})
    table = {site: {part: _agreement([line for line in patients if line["site"] == site], part) for part in parts} for site in sites}
    unseen = [line for line in patients if line["site"] in {path.parent.name for path in ran.held_out}]
    write_json(note, {"patients": unseen, "sites": table}, durable=False)
    return unseen


def _agreement(patients: list[dict[str, Any]], part: str) -> dict[str, Any]:
    return agreement_of([line["planted"][part] for line in patients], [line["measured"][part] for line in patients])


def _figure(part: str, name: str) -> Any:
    return lambda ran: _agreement(measured(ran), part)[name]["value"]


def _size_of_bias(part: str) -> Any:
    return lambda ran: abs(float(_figure(part, "bias")(ran)))


def planted_extent(part: str = "fibrosis", *, bias: float = 2.5, error: float = 3.0, concordance: float = 0.95) -> tuple[Criterion, ...]:
    """Ask that measured extents are the planted ones (methods S06): bias and mean error in points of the lung, Lin's concordance."""
    return (
        Criterion(f"planted {part}: size of the bias, points", _size_of_bias(part), most=bias),
        Criterion(f"planted {part}: mean absolute error, points", _figure(part, "mae"), most=error),
        Criterion(f"planted {part}: concordance (CCC)", _figure(part, "ccc"), least=concordance),
    )


def bins_agree(part: str, least: float = 0.85) -> Criterion:
    """Ask that the bins of extent (below 5, 5 to 29, from 30 %) agree with those drawn: quadratic kappa (methods S08)."""
    return Criterion(f"bins of {part}: weighted kappa with drawn ones", lambda ran: ran.metrics["agreement"]["held_out"][part]["kappa"], least=least)


def lung_function(part: str = "fibrosis", most: float = 0.1) -> Criterion:
    """Ask that measured extents correlate with the forced vital capacity as the planted ones do: what was planted lies at -0.6 to -0.75."""

    def figure(ran: Ran) -> float:
        patients = measured(ran)
        function = [line["fvc_percent"] for line in patients]
        planted, found = (float(np.corrcoef(function, [line[which][part] for line in patients])[0, 1]) for which in ("planted", "measured"))
        return abs(planted - found)

    return Criterion(f"correlation of {part} with lung function: measured minus planted, size", figure, most=most)
