"""Where a DICOM object lands: in the inbox, in a folder of its study, under keyed names, whole or not at all, for its owner alone."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from client.cases.identity import Pseudonyms
from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic

for library in ("pynetdicom", "dicomweb_client"):
    logging.getLogger(library).setLevel(logging.CRITICAL + 1)  # their messages name callers, patients and UIDs


@dataclass(frozen=True)
class Landing:
    """The inbox as receivers and retrievers see it.

    Parameters
    ----------
    inbox : Path
        The site's inbox.
    names : Pseudonyms
        Keyed names of studies (folders) and images (files).
    """

    inbox: Path
    names: Pseudonyms

    def study(self, study_uid: str) -> Path:
        """Return the folder of a study."""
        return self.inbox / self.names.item("study", study_uid)

    def place(self, study_uid: str, image_uid: str) -> Path:
        """Return the path of an image."""
        return self.study(study_uid) / f"{self.names.item('image', image_uid)}.dcm"

    def put(self, data: bytes) -> Path:
        """Write a DICOM file as it came and return its path; on the disk when this returns. The same image again replaces itself.

        Raises
        ------
        BadInput
            The bytes are no DICOM file, or it names no study or image.
        OSError
            The disk does not take it.
        """
        try:
            header = dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=["SOPInstanceUID", "StudyInstanceUID"])
            study, image = str(header.get("StudyInstanceUID") or ""), str(header.get("SOPInstanceUID") or "")
        except Exception as error:  # a damaged header may raise anything
            raise BadInput("what arrives must be DICOM", value=type(error).__name__) from None
        if not study or not image:
            raise BadInput("an image must name its study and itself")
        path = self.place(study, image)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, data, mode=0o600)
        return path

    def sweep(self) -> None:
        """Remove what a killed receiver left half-written."""
        for path in self.inbox.glob("*/.*.dcm.*.part"):
            path.unlink(missing_ok=True)
