"""What `fedild predict --dicom` writes beside JSON and page: lungs and pattern map of the headline series as SEG, its numbers as SR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.dicom.results import SERIES_PATTERNS, Maker, Measured, on_slices, read_images, report, segment_names, segmentation
from client.dicom.scan import Series
from client.pattern_pictures import PATTERN_COLOURS
from client.prediction import SeriesPrediction
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadStudy
from shared_models.core.files import write_atomic
from shared_models.taxonomy import PATTERN_CODES, PATTERNS

SEG_NAME, SR_NAME, PATTERNS_NAME = "segmentation.dcm", "report.dcm", "patterns.dcm"
UNITS = {"percent": "%", "hu": "[hnsf'U]", "l": "L", "ml": "mL", "g": "g"}
"""UCUM by the last part of a feature's name; anything else has the unit 1."""


def write_results(
    out: Path,
    one: Series,
    prepared: Prepared,
    said: SeriesPrediction,
    facts: dict[str, Any],
    change: dict[str, Any] | None = None,
    mapped: tuple[Volume, Mask] | None = None,
) -> tuple[Path, ...]:
    """Write the objects (0600) and return their paths. They carry the patient's name as the images do: they are for the hospital's own PACS.

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
    change : dict, optional
        Since the visit before, as in ``prediction.json``.
    mapped : (Volume, ndarray of uint8), optional
        The pattern map: its grid, and codes of `PATTERNS` on it. Where it shows normal lung alone there is nothing to segment, and no file.

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
    patterns = None if mapped is None else _patterns_of(images, *mapped, maker)
    measured = measured_of(said, change) | ({} if mapped is None else volumes_of(*mapped))
    told = report(images, found, outputs_of(said), measured, maker, patterns=patterns, said=statements_of(said))
    objects = {SEG_NAME: found, PATTERNS_NAME: patterns, SR_NAME: told}
    paths = {out / name: written for name, written in objects.items() if written is not None}
    for path, written in paths.items():
        write_atomic(path, _bytes_of(written), mode=0o600)
    return tuple(paths)


def _patterns_of(images: Sequence[Any], grid: Volume, labels: Mask, maker: Maker) -> Any:
    marked = on_slices(labels, grid, images)
    if not np.any(marked):
        return None
    colours = {name: (int(hue[1:3], 16), int(hue[3:5], 16), int(hue[5:7], 16)) for name, (_, hue) in PATTERN_COLOURS.items()}
    return segmentation(images, marked, segment_names(patterns=True), maker, series_number=SERIES_PATTERNS, colours=colours)


def volumes_of(grid: Volume, labels: Mask) -> dict[str, list[Measured]]:
    """Return the volume of each pattern that a map shows, in mL; each voxel counts to one pattern, as the segments do.

    Examples
    --------
    >>> grid, labels = Volume(np.zeros((1, 2, 2), np.float32), (10.0, 10.0, 10.0)), np.array([[[1, 1], [0, 3]]], np.uint8)
    >>> {name: one.value for name, (one,) in volumes_of(grid, labels).items()}
    {'ggo': 2.0, 'honeycombing': 1.0}
    """
    counts, voxel_ml = np.bincount(labels.ravel(), minlength=len(PATTERNS)), math.prod(grid.spacing_mm) / 1000.0
    return {name: [Measured("volume", float(counts[code]) * voxel_ml, "mL")] for name, code in PATTERN_CODES.items() if code and counts[code]}


def outputs_of(said: SeriesPrediction) -> dict[str, float]:
    """Return what the model puts out: probabilities, or risks and, of an ensemble, the lowest and highest of its members; distance, disagreement.

    Examples
    --------
    >>> spread = {"interval": None, "why_none": "", "members": 2, "spread": {"5": [0.1, 0.3]}}
    >>> outputs_of(SeriesPrediction("s", 1, {}, [], {}, {}, {}, (), risks={"5": 0.2}, risk_uncertainty=spread))
    {'event by 5 years': 0.2, 'event by 5 y, lowest member': 0.1, 'event by 5 y, highest member': 0.3}
    """
    told = dict(said.probabilities) | {f"event by {horizon} years": risk for horizon, risk in (said.risks or {}).items()}
    for horizon, bounds in ((said.risk_uncertainty or {}).get("spread") or {}).items():
        told |= {f"event by {horizon} y, {which} member": bound for which, bound in zip(("lowest", "highest"), bounds, strict=True)}
    for horizon, bounds in ((said.risk_uncertainty or {}).get("interval") or {}).items():
        told |= {f"event by {horizon} y, {which} end": bound for which, bound in zip(("lower", "upper"), bounds, strict=True)}
    if said.calibration and said.calibration["distance"] is not None:
        told["distance from training"] = said.calibration["distance"]
    if said.disagreement is not None:
        told["disagreement, nats"] = said.disagreement
    return told


def statements_of(said: SeriesPrediction) -> list[tuple[str, str]]:
    """Return what is said in words: the classes of the prediction set, whether the scan is unlike the training patients', the operating point.

    Examples
    --------
    >>> calibration = {"classes": ["UIP", "HP"], "unfamiliar": False, "operating_point": None}
    >>> statements_of(SeriesPrediction("s", 1, {}, [], {}, {}, {}, (), calibration=calibration))
    [('In the prediction set', 'UIP'), ('In the prediction set', 'HP'), ('Unlike the training patients', 'no')]
    """
    c = said.calibration or {}
    told = [("In the prediction set", name) for name in c.get("classes") or ()]
    if c.get("unfamiliar") is not None:
        told.append(("Unlike the training patients", "yes" if c["unfamiliar"] else "no"))
    if point := c.get("operating_point"):
        told.append((f"{point['label']} at the frozen operating point", "positive" if point["exceeded"] else "negative"))
    if said.risk_uncertainty and said.risk_uncertainty["interval"] is None:
        told.append(("Interval of the risks", "none: not measured"))
    return told


def measured_of(said: SeriesPrediction, change: dict[str, Any] | None = None) -> dict[str, list[Measured]]:
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
    for part, line in ((change or {}).get("parts") or {}).items():
        found.setdefault("lungs", []).append(Measured(f"{part.replace('_', ' ')} change since the CT before, points", float(line["change"]), "%"))
    return found


def _bytes_of(written: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    written.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
