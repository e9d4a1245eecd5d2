"""Which of the allowed transfer syntaxes this installation can decode."""

from __future__ import annotations

from pydicom.pixels import get_decoder
from pydicom.uid import UID

from client.dicom import tags


def missing_decoders() -> list[str]:
    """Return the names of the allowed transfer syntaxes whose pixels nothing installed here can decode.

    Examples
    --------
    >>> missing_decoders()
    []
    """
    return [uid.name for uid in map(UID, tags.TRANSFER_SYNTAXES) if uid.is_encapsulated and not _can(uid)]


def _can(uid: UID) -> bool:
    try:
        return get_decoder(uid).is_available
    except NotImplementedError:
        return False
