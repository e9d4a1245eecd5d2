"""What a prediction says of the HRCT category: the suggestion of the rules where a pattern map is at hand, or that it needs one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.cases.prepared import Prepared
from client.hrct.extents import extents_of, measures_of
from client.hrct.rules import categorise
from client.segmentation.network import Weights, load_weights
from client.segmentation.patterns import check_patterns, pattern_map
from shared_models.core.errors import BadInput
from shared_models.core.files import sha256_file

NEEDED = {"category": None, "needs": "a pattern map"}
"""What is said where no network of patterns was named."""

REGIONS = ("whole", "upper", "middle", "lower", "subpleural", "central")
"""Regions whose extents a prediction shows."""


@dataclass(frozen=True)
class PatternNetwork:
    """The weights of a network of patterns, and the SHA-256 of their file, by which a prediction names them."""

    weights: Weights
    sha256: str

    @staticmethod
    def load(path: Path) -> PatternNetwork:
        """Read a file of `client.segmentation.network.save_weights`.

        Raises
        ------
        BadInput
            No such file, or a network that does not tell the patterns apart.
        """
        if not Path(path).is_file():
            raise BadInput("the weights of a network of patterns must be a file", value=str(path), remedy="check the path")
        digest = sha256_file(Path(path))
        weights = load_weights(Path(path), digest)
        check_patterns(weights)
        return PatternNetwork(weights, digest)


def suggested(prepared: Prepared, network: PatternNetwork | None) -> dict[str, Any]:
    """Return what ``prediction.json`` says of the category of one series.

    Parameters
    ----------
    prepared : Prepared
        The series with its lung mask.
    network : PatternNetwork or None
        Makes the pattern map; without it the answer is that it needs one.
    """
    if network is None:
        return dict(NEEDED)
    if prepared.mask is None:
        raise BadInput("a pattern map needs a lung mask", remedy="name a segmenter in [preparation]")
    extents = extents_of(pattern_map(prepared, network.weights), prepared.mask, prepared.volume.spacing_mm)
    shown = {region: {name: round(value, 3) for name, value in extents[region].items()} for region in REGIONS}
    return {"needs": None, **categorise(measures_of(extents)).as_dict(), "extents": shown, "network": network.sha256}
