"""What `fedild predict --dicom` writes beside JSON and page: the lungs of the headline series as SEG, its numbers as SR."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from client.cases.prepared import Prepared
from client.dicom.results import Maker, Measured, on_slices, read_images, report, segment_names, segmentation
from client.dicom.scan import Series
from client.prediction import SeriesPrediction
from shared_models.core.errors import BadStudy
from shared_models.core.files import write_atomic

SEG_NAME, SR_NAME = "segmentation.dcm", "report.dcm"
UNITS = {"percent": "%", "hu": "[hnsf'U]", "l": "L", "ml": "mL", "g": "g"}
"""UCUM by the last part of a feature's name; anything else has the unit 1."""


def write_results(out: Path, one: Series, prepared: Prepared, said: SeriesPrediction, facts: dict[str, Any]) -> tuple[Path, Path]:
    """Write both objects (0600) and return their paths. They carry the patient's name as the images do: they are for the hospital's own PACS.

    Parameters
    ----------
    one : Series
        The series, from whose images the objects take patient and study.
    prepared : Prepared
        With the lung mask, on its own grid.
    said : SeriesPrediction
        Probabilities or risks, quantification and, with a pattern map, extents.
    facts : dict
        Of the release: ``experiment`` and ``bundle`` are written.

    Raises
    ------
    BadStudy
        No lung in the mask.
    BadInput
        Images for which no results are written.
    """
    if prepared.mask is None or not prepared.mask.any():
        raise BadStudy("NO_LUNG", "results need lung in the mask", value=0)
    maker = Maker(str(facts["experiment"]), str(facts["bundle"]), version("fedild"))
    images = read_images([Path(part.path) for part in one.slices])
    found = segmentation(images, on_slices(prepared.mask, prepared.volume, images), segment_names(), maker)
    told = said.probabilities or {f"death or event by {horizon} years": risk for horizon, risk in (said.risks or {}).items()}
    objects = (found, report(images, found, told, measured_of(said), maker))
    paths = (out / SEG_NAME, out / SR_NAME)
    for path, written in zip(paths, objects, strict=True):
        write_atomic(path, _bytes_of(written), mode=0o600)
    return paths


def measured_of(said: SeriesPrediction) -> dict[str, list[Measured]]:
    """Return the numbers of a prediction for the report, by segment: ``right lung``, ``left lung`` or ``lungs`` for both.

    Examples
    --------
    >>> said = SeriesPrediction("s", 1, {}, [], {"right_volume_l": 2.5, "whole_haa_percent": 7.0, "mystery": 1.0}, {}, {}, ())
    >>> {name: [(one.name, one.unit) for one in numbers] for name, numbers in measured_of(said).items()}
    {'right lung': [('volume', 'L')], 'lungs': [('haa', '%')]}
    """
    places = {"right": "right lung", "left": "left lung", "whole": "lungs"}
    found: dict[str, list[Measured]] = {}
    for name, value in said.quantification.items():
        place, _, rest = name.partition("_")
        if place in places and rest:
            what, _, unit = rest.rpartition("_")
            known = UNITS.get(unit)
            found.setdefault(places[place], []).append(Measured((what if known and what else rest).replace("_", " "), float(value), known or "1"))
    for region, numbers in ((said.quantities or {}).get("regions") or {}).items():
        if region in places:
            for pattern, value in numbers["percent"].items():
                if value is not None:
                    found.setdefault(places[region], []).append(Measured(f"{pattern.replace('_', ' ')} extent", float(value), "%"))
    return found


def _bytes_of(written: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    written.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
