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

RETIRED_SYNTAXES: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (52, 53, 54, 55, 56, 58, 59, 60, 61, 62, 63, 64, 65, 66))
"""JPEG processes that PS3.5 no longer knows (spectral selection, full progression, hierarchical); no decoder for them is kept up."""

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
MAX_VOXELS: Final = 512 * 512 * 2048
"""Voxels of a series or a multi-frame file: 2,048 slices of 512 x 512; more would not go into memory."""

SKIPPED: Final[dict[str, tuple[str, str]]] = {
    "NOT_DICOM": ("no DICOM preamble", "none needed; leave it out of the inbox"),
    "EMPTY_FILE": ("a file of no bytes", "send the file again if it should be an image"),
    "LINK": ("a symbolic link or special file", "copy the file itself into the inbox"),
    "DICOMDIR": ("a directory of DICOM files, not an image", "none needed"),
    "NOT_CT": ("not a CT image", "none needed"),
    "LOCALIZER": ("a localizer image", "none needed"),
    "DERIVED": ("derived from other images", "none needed; the original series is wanted"),
    "SECONDARY": ("a secondary capture, dose page or screen shot", "none needed"),
    "MULTI_FRAME": ("several slices in a file of a class for one", "export as Enhanced CT or as one file a slice"),
    "NOT_AXIAL": ("not an axial series", "none needed; the axial series is wanted"),
    "TOO_FEW_SLICES": ("fewer slices than a lung has", "send the whole series if slices are missing"),
    "DUPLICATE_FILE": ("the same image is already there under another name", "none needed"),
    "DUPLICATE_SERIES": ("the same images are already there under another series id", "none needed"),
    "UNPACKED": ("an archive; the files in it were taken in", "none needed"),
}
"""Reason to (meaning, remedy): what is not for us. Nothing is wrong."""

QUARANTINED: Final[dict[str, tuple[str, str]]] = {
    "UNREADABLE": ("the DICOM header is damaged", "send the file again from the archive"),
    "NO_PIXELS": ("a CT image without pixel data", "send the file again from the archive"),
    "TRUNCATED": ("the pixel data end too early", "send the file again from the archive"),
    "TOO_LARGE": ("larger than any CT slice, or more memory than one study may take", "export single CT slices; else raise memory_mb of the site"),
    "TOO_SLOW": ("preparation took longer than one study may take", "raise seconds of the site, then `fedild site queue retry`"),
    "ARCHIVE_DAMAGED": ("the archive is cut short or spoilt", "copy the archive again"),
    "ARCHIVE_ENCRYPTED": ("the archive is encrypted", "unpack it, and put its files into the inbox"),
    "ARCHIVE_UNSAFE": ("the archive holds links, devices or names that lead out of it", "find out where it comes from; unpack it by hand"),
    "ARCHIVE_LIMITS": ("the archive holds more than an archive of studies may", "split it, or unpack it by hand"),
    "NO_ROOM": ("the disk has no room for what the archive holds", "make room"),
    "TRANSFER_SYNTAX": ("the pixels are encoded in a way that is not on the list", "export as explicit little endian or lossless JPEG 2000"),
    "RETIRED_SYNTAX": ("the pixels are in a JPEG process that the standard has retired", "export as explicit little endian or lossless JPEG 2000"),
    "UNDECODABLE": ("the compressed pixels cannot be decoded", "send again, uncompressed"),
    "PIXEL_FORMAT": ("the pixels are not one grey value each", "export the original CT slices"),
    "NO_GEOMETRY": ("position, orientation or pixel spacing is missing", "export the original CT slices with their geometry"),
    "NO_PATIENT_ID": ("the patient id is empty", "give the patient an id before export, so that a patient stays one patient"),
    "BURNED_IN": ("the header says that names are burned into the image", "export the series without annotations"),
    "TWO_PATIENTS": ("one series carries two patient ids", "correct the ids in the archive and send again"),
    "SAME_IMAGES_TWO_PATIENTS": ("the same images carry two patient ids", "find out whose they are and leave one copy in the inbox"),
    "RESIDUE": ("a name or id was still there after de-identification", "report it, and leave the series out"),
    "TOO_MANY_SLICES": ("more slices than a chest CT has", "split the series"),
    "CORRUPT_SLICES": ("too many damaged slices", "send the whole series again"),
    "GAP": ("slices are missing in the middle", "send the whole series again"),
    "DUPLICATE_POSITIONS": ("several different images at one position", "export each acquisition as its own series"),
    "UNEVEN_GEOMETRY": ("the slices do not lie on one stack", "export the original axial series"),
    "NOT_HU": ("the pixels are not Hounsfield units", "export the original CT slices with rescale slope and intercept"),
    "NO_LUNG": ("no lung was found", "check that this is a chest CT"),
    "NO_EDGES": ("too little lung border to tell how sharp the scan is", "leave `harmonise` out, or export the whole chest"),
    "NO_AIR": ("too little air around the patient to set the scale by, or it is far off", "leave `calibrate_air` out, or export a wider view"),
    "CORRUPT_SLICE": ("a damaged slice; its series went on without it", "send the file again from the archive"),
    "OTHER_GRID": ("size or orientation differs from the rest of its series", "none needed unless the slice matters"),
    "OTHER_ACQUISITION": ("another acquisition inside the same series", "export each acquisition as its own series"),
    "FAILED": ("preparation failed", "see the site's own log"),
}
"""Reason to (meaning, remedy): what should have been usable, and what a person can do about it."""
