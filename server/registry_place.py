"""Which registry holds a release: the one that was named, the one that its bundle lies in, or the one of the working folder."""

from __future__ import annotations

from pathlib import Path

from server.registry import DATABASE, Registry
from shared_models.core.errors import BadInput


def registry_of(bundle: str, place: Path, *, here: Path, named: Path | None = None) -> Registry | None:
    """Return the registry that keeps what becomes of a release; None where there is none.

    Parameters
    ----------
    bundle : str
        Digest of the release.
    place : Path
        Where it was read: ``REGISTRY/MODEL/VERSION/bundle`` names its registry itself.
    here : Path
        Folder that is looked at next.
    named : Path, optional
        Folder of a registry, which must hold the release.

    Raises
    ------
    BadInput
        The named folder holds no registry, or the registry does not hold the release.
    """
    if named is not None:
        if not (named / DATABASE).is_file():
            raise BadInput(f"a registry is a folder with {DATABASE}", value=str(named), remedy="`fedild registry add RUN --folder FOLDER` makes one")
        found = Registry(named)
        found.of_bundle(bundle)
        return found
    for folder in (*place.resolve().parents[2:3], here):
        if (folder / DATABASE).is_file():
            found = Registry(folder)
            if any(one.bundle == bundle for one in found.versions()):
                return found
    return None
