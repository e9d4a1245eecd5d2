"""Where a pattern map comes from: a release that labels pixels or windows, a network's weights file, or what readers have drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.cases.prepared import Prepared
from client.hrct.extents import PARTS
from client.segmentation.network import load_weights
from client.segmentation.patterns import check_patterns, pattern_map
from shared_models.bundle import Bundle, load_bundle
from shared_models.catalogue import spec_of
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadBundle, BadInput
from shared_models.core.files import sha256_file
from shared_models.experiment import Data, Preparation
from shared_models.taxonomy import PATTERN_CODES, PATTERNS


@dataclass(frozen=True)
class PatternSource:
    """What makes pattern maps of prepared studies.

    Parameters
    ----------
    map_of : callable
        ``map_of(prepared) -> codes of PATTERNS``, uint8, shape (z, y, x); 0 outside the lung.
    digest : str
        SHA-256 by which a prediction names it: of the weights file, or of the release.
    told : tuple of str
        Patterns whose extents its maps tell.
    preparation : Preparation or None
        How a study is prepared for it; None where any preparation that leaves Hounsfield units will do.
    agreement : dict
        How extents by its maps agreed with drawn ones where that was measured, by part; empty where nobody measured it.
    """

    map_of: Callable[[Prepared], Mask]
    digest: str
    told: tuple[str, ...]
    preparation: Preparation | None = None
    agreement: dict[str, dict[str, Any]] | None = None


def load_source(path: Path) -> PatternSource:
    """Read the folder of a release, or a file of `client.segmentation.network.save_weights`.

    Raises
    ------
    BadInput
        No such file, or a network that does not tell the patterns apart.
    BadBundle
        The release is damaged, or labels no patterns.
    """
    if Path(path).is_dir():
        return source_of(load_bundle(Path(path)))
    if not Path(path).is_file():
        raise BadInput("the weights of a network of patterns must be a file, or the folder of a release", value=str(path), remedy="check the path")
    digest = sha256_file(Path(path))
    weights = load_weights(Path(path), digest)
    check_patterns(weights)
    return PatternSource(lambda prepared: pattern_map(prepared, weights), digest, tuple(PATTERNS))


def source_of(bundle: Bundle) -> PatternSource:
    """Return the source that a release is.

    Raises
    ------
    BadBundle
        It labels no patterns, or a class of its own is no pattern.
    """
    experiment = bundle.experiment
    if experiment.data.target != "segmentation" or experiment.data.annotation != "patterns":
        remedy = 'name one that was trained with data.target = "segmentation", annotation = "patterns"'
        raise BadBundle("a pattern map is made by a release that labels patterns", value=experiment.name, remedy=remedy)
    if strange := sorted(set(experiment.data.classes) - set(PATTERN_CODES)):
        raise BadBundle("the classes of a pattern map are names of patterns", value=strange, remedy="merge patterns into one of them")
    if experiment.statistics:
        raise BadBundle("a pattern map is made of a study as it was prepared", value=experiment.name, remedy="use a release without statistics")
    codes = np.array([PATTERN_CODES[name] for name in experiment.data.classes], np.uint8)
    told = _told(experiment.data)

    def map_of(prepared: Prepared) -> Mask:
        return np.where(np.asarray(prepared.mask) > 0, codes[_called(bundle, prepared)], 0).astype(np.uint8)

    return PatternSource(map_of, bundle.digest, told, experiment.preparation, dict(bundle.card.get("agreement") or {}))


def _told(data: Data) -> tuple[str, ...]:
    """Return the patterns whose extents a release tells: its classes, and with them what was merged where every extent counts both or neither."""
    groups = [{name for name in PATTERNS if data.merge.get(name, name) == label} for label in data.classes]
    whole = [group for group in groups if all(group <= set(part) or not group & set(part) for part in PARTS.values())]
    return tuple(name for name in PATTERNS if any(name in group for group in whole))


def _called(bundle: Bundle, prepared: Prepared) -> Mask:
    if prepared.mask is None or not prepared.mask.any() or not prepared.is_hu:
        raise BadInput("a pattern map is made of Hounsfield units inside a lung mask", remedy="name a segmenter, and no step that changes units")
    if spec_of(bundle.experiment.model).fit == "trees":
        from client.training.windows import called_map

        return called_map(bundle.experiment, bundle.state, prepared)
    from client.training.maps import called_slices  # torch is imported by the first network, not by the first forest

    return called_slices(bundle.experiment, bundle.state, prepared)


def drawn_map(prepared: Prepared) -> Mask:
    """Return what readers have drawn in the lung; every slice of it must be drawn.

    Raises
    ------
    BadInput
        No annotation, or lung that nobody has looked at.
    """
    if prepared.mask is None or prepared.annotation is None:
        raise BadInput("extents of what readers drew need an annotation and a lung mask", remedy="name a release that makes pattern maps")
    inside = prepared.mask > 0
    if (prepared.annotation[inside] >= len(PATTERNS)).any():
        raise BadInput("extents of what readers drew need every slice of the lung drawn", remedy="name a release that makes pattern maps")
    return np.where(inside, prepared.annotation, 0).astype(np.uint8)
