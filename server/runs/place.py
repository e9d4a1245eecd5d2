"""Where a run's files are: found by the server's environment and the run's identifier, so that no path of this machine has to travel.

The configuration of a run is part of the app that every site receives; it names the run and nothing of the machine that it runs on.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from shared_models.core.errors import BadInput

HOME = "FEDILD_SERVER"
"""Environment variable that names the server folder; the superexec hands it on to every server app."""


def folder_of(run: str) -> Path:
    """Return the folder of a run of the server that the environment names.

    Raises
    ------
    BadInput
        No server in the environment, no identifier of a run, or no such run.
    """
    home = Path(os.environ.get(HOME, ""))
    if not home.is_absolute():
        raise BadInput(f"{HOME} must name the server folder", remedy="runs are started by `fedild server up`")
    folder = home / "runs" / run
    if re.fullmatch(r"[0-9a-f]{16}", run) is None or not folder.is_dir():
        raise BadInput("a run's identifier is 16 hexadecimal digits of a run on this server", value=run)
    return folder
