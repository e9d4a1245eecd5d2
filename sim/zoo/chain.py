"""A recipe that starts from what another one has released: the bundle's folder and the hash of its weights, for as long as it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared_models.core.files import sha256
from shared_models.pretrained import FOLDER


@contextmanager
def released(bundle: Path) -> Iterator[tuple[str, ...]]:
    """Let ``[model.weights]`` find the weights of a bundle; yield the setting that names the file that is there.

    The recipe names the hash of the machine that it was written on; another processor may round otherwise, and the file was made a moment ago.

    Parameters
    ----------
    bundle : Path
        Folder with ``model.safetensors``.
    """
    before = os.environ.get(FOLDER)
    os.environ[FOLDER] = str(bundle)
    try:
        yield (f'model.weights.sha256="{sha256((bundle / "model.safetensors").read_bytes())}"',)
    finally:
        if before is None:
            os.environ.pop(FOLDER)
        else:
            os.environ[FOLDER] = before
