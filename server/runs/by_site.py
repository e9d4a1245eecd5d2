"""What each site released for an evaluation, kept by site: its own histograms of scores, where no secure sum hides them from the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from server.strategies.replies import Spool
from shared_models.calibration.score_histograms import ScoreHistograms
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_json

SITE_HISTOGRAMS = "site_histograms.json"
"""In the folder of a run's rounds."""


def keep_by_site(folder: Path, model: Any, spool: Spool) -> None:
    """Write each site's patients and counts of this round to ``site_histograms.json``, where `model` counts scores; else nothing."""
    if not isinstance(model, ScoreHistograms):
        return
    found = {}
    for reply, state in zip(spool.replies, spool.states(), strict=True):
        found[reply.site] = {"patients": round(float(state["n"][0])), "cells": np.rint(state["cells"]).astype(int).tolist()}
    write_json(folder / SITE_HISTOGRAMS, found)


def read_by_site(folder: Path, classes: int) -> dict[str, tuple[np.ndarray, float]]:
    """Return of each site its counts, shape (classes, 2, 2, cells), and its patients; nothing where the run kept none.

    Raises
    ------
    BadInput
        The file holds something else.
    """
    path = folder / SITE_HISTOGRAMS
    if not path.exists():
        return {}
    found: dict[str, tuple[np.ndarray, float]] = {}
    try:
        for site, own in sorted(read_json(path).items()):
            cells = np.array(own["cells"], np.float64)
            if cells.ndim != 4 or cells.shape[:3] != (classes, 2, 2) or not np.isfinite(cells).all() or (cells < 0).any():
                raise ValueError
            found[str(site)] = (cells, float(own["patients"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadInput("a site's histograms are counts by class and cell", value=path.name, remedy="pull the run again") from None
    return found
