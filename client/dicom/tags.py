"""The tables of the DICOM reader: what it decodes, what it lets in, and the words for what it turns away.

Sources: transfer syntaxes PS3.5 section 10 and PS3.6 table A-1; SOP classes PS3.4 table B.5-1; image type PS3.3 C.7.6.1.1.2 and C.8.2.1.1.1.
"""

from __future__ import annotations

from typing import Final

CT_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT: Final = frozenset({"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
"""Enhanced and legacy-converted enhanced CT: all slices in one file."""

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"

TRANSFER_SYNTAXES: Final[dict[str, str]] = {
    IMPLICIT_LITTLE: "raw",
    EXPLICIT_LITTLE: "raw",
    DEFLATED: "lossless",
    "1.2.840.10008.1.2.2": "lossless",  # explicit big endian, retired but still in archives
    "1.2.840.10008.1.2.5": "lossless",  # RLE
    "1.2.840.10008.1.2.4.57": "lossless",  # JPEG lossless, process 14
    "1.2.840.10008.1.2.4.70": "lossless",  # JPEG lossless, selection value 1
    "1.2.840.10008.1.2.4.80": "lossless",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": "lossy",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.90": "lossless",  # JPEG 2000 lossless only
    "1.2.840.10008.1.2.4.91": "lossy",  # JPEG 2000
    "1.2.840.10008.1.2.4.201": "lossless",  # high-throughput JPEG 2000 lossless
    "1.2.840.10008.1.2.4.202": "lossless",
    "1.2.840.10008.1.2.4.203": "lossy",
    "1.2.840.10008.1.2.4.50": "lossy",  # JPEG baseline, 8 bit
    "1.2.840.10008.1.2.4.51": "lossy",  # JPEG extended, 12 bit
}
"""Transfer syntaxes that may be parsed, and what they do to the pixels. Any other is turned away by name (`TRANSFER_SYNTAX`)."""

IMAGE_TYPES_TURNED_AWAY: Final[dict[str, str]] = {
    "LOCALIZER": "LOCALIZER",
    "SCOUT": "LOCALIZER",
    "TOPOGRAM": "LOCALIZER",
    "DERIVED": "DERIVED",
    "SECONDARY": "SECONDARY",
    "DOSE_INFO": "SECONDARY",
    "SCREEN SAVE": "SECONDARY",
}
"""Value of Image Type (0008,0008) to the reason for which the image is skipped; the first that matches wins."""

MIN_SLICES: Final = 20
MAX_SLICES: Final = 5_000
MAX_FILE_BYTES: Final = 512 << 20
MAX_INFLATED_BYTES: Final = 64 << 20
MAX_ELEMENT_BYTES: Final = 1 << 20
MAX_SIDE: Final = 4096

SKIPPED: Final[dict[str, str]] = {
    "NOT_DICOM": "no DICOM preamble",
    "EMPTY_FILE": "a file of no bytes",
    "LINK": "a symbolic link or special file",
    "DICOMDIR": "a directory of DICOM files, not an image",
    "NOT_CT": "not a CT image",
    "LOCALIZER": "a localizer image",
    "DERIVED": "derived from other images",
    "SECONDARY": "a secondary capture, dose page or screen shot",
    "MULTI_FRAME": "several slices in one file",
    "NO_PIXELS": "no pixel data",
    "NOT_AXIAL": "not an axial series",
    "TOO_FEW_SLICES": "fewer slices than a lung has",
    "DUPLICATE_FILE": "the same image is already there under another name",
    "UNPACKED": "an archive; the files in it were taken in",
}
"""Reason to meaning: what is not for us. Nothing is wrong and nothing needs to be done."""

QUARANTINED: Final[dict[str, tuple[str, str]]] = {
    "UNREADABLE": ("the DICOM header is damaged", "send the file again from the archive"),
    "TRUNCATED": ("the pixel data end too early", "send the file again from the archive"),
    "TOO_LARGE": ("larger than any CT slice, or more memory than one study may take", "export single CT slices; else raise memory_mb of the site"),
    "TOO_SLOW": ("preparation took longer than one study may take", "raise seconds of the site, then `fedild site queue retry`"),
    "ARCHIVE_DAMAGED": ("the archive is cut short or spoilt", "copy the archive again"),
    "ARCHIVE_ENCRYPTED": ("the archive is encrypted", "unpack it, and put its files into the inbox"),
    "ARCHIVE_UNSAFE": ("the archive holds links, devices or names that lead out of it", "find out where it comes from; unpack it by hand"),
    "ARCHIVE_LIMITS": ("the archive holds more than an archive of studies may", "split it, or unpack it by hand"),
    "NO_ROOM": ("the disk has no room for what the archive holds", "make room"),
    "TRANSFER_SYNTAX": ("the pixels are encoded in a way that is not on the list", "export as explicit little endian or lossless JPEG 2000"),
    "UNDECODABLE": ("the compressed pixels cannot be decoded", "send again, uncompressed"),
    "PIXEL_FORMAT": ("the pixels are not one grey value each", "export the original CT slices"),
    "NO_GEOMETRY": ("position, orientation or pixel spacing is missing", "export the original CT slices with their geometry"),
    "NO_PATIENT_ID": ("the patient id is empty", "give the patient an id before export, so that a patient stays one patient"),
    "BURNED_IN": ("the header says that names are burned into the image", "export the series without annotations"),
    "TWO_PATIENTS": ("one series carries two patient ids", "correct the ids in the archive and send again"),
    "TOO_MANY_SLICES": ("more slices than a chest CT has", "split the series"),
    "CORRUPT_SLICES": ("too many damaged slices", "send the whole series again"),
    "GAP": ("slices are missing in the middle", "send the whole series again"),
    "DUPLICATE_POSITIONS": ("several different images at one position", "export each acquisition as its own series"),
    "UNEVEN_GEOMETRY": ("the slices do not lie on one stack", "export the original axial series"),
    "NOT_HU": ("the pixels are not Hounsfield units", "export the original CT slices with rescale slope and intercept"),
    "NO_LUNG": ("no lung was found", "check that this is a chest CT"),
    "CORRUPT_SLICE": ("a damaged slice; its series went on without it", "send the file again from the archive"),
    "OTHER_GRID": ("size or orientation differs from the rest of its series", "none needed unless the slice matters"),
    "OTHER_ACQUISITION": ("another acquisition inside the same series", "export each acquisition as its own series"),
    "FAILED": ("preparation failed", "see the site's own log"),
}
"""Reason to (meaning, remedy): what should have been usable, and what a person can do about it."""
