"""What a prediction leaves in its folder: JSON that keeps its schema, the page, and on request a PDF and the pictures; each private (0600)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from client.prediction import Prediction, SeenSlice
from client.prediction_page import render
from client.prediction_pdf import pdf_of, require_pdf
from client.prediction_schema import check_prediction
from client.returned import PATTERNS_NAME, SEG_NAME, SR_NAME
from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic, write_json

JSON_NAME, PAGE_NAME, PDF_NAME, PICTURES_NAME = "prediction.json", "prediction.html", "prediction.pdf", "pictures"


def clear(out: Path, *, pdf: bool = False) -> None:
    """Make the folder for a prediction and remove an earlier one from it, so that a failure never leaves another patient's result behind.

    Raises
    ------
    BadInput
        It is no folder, or a PDF is wanted and cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput("the output must be a folder", value=out.name, remedy="choose another name") from None
    for name in (JSON_NAME, PAGE_NAME, PDF_NAME, SEG_NAME, SR_NAME, PATTERNS_NAME):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / PICTURES_NAME, ignore_errors=True)
    if pdf:
        require_pdf()


def write_outputs(found: Prediction, out: Path, *, pdf: bool = False, pictures: bool = False) -> None:
    """Write a prediction into a folder that `clear` has made.

    Raises
    ------
    FedILDError
        E_SCHEMA: it does not keep its schema, and nothing is written.
    """
    told = found.as_dict()
    check_prediction(told)
    page = render(found)
    if pictures:
        (out / PICTURES_NAME).mkdir(mode=0o700)
        for name, picture in pictures_of(found):
            write_atomic(out / PICTURES_NAME / name, picture, mode=0o600, durable=False)
    if pdf:
        write_atomic(out / PDF_NAME, pdf_of(page), mode=0o600)
    write_json(out / JSON_NAME, told, mode=0o600)
    write_atomic(out / PAGE_NAME, page.encode(), mode=0o600)


def pictures_of(found: Prediction) -> Iterator[tuple[str, bytes]]:
    """Yield name and PNG of every picture on the page: the slices, the explanation and the patterns laid over them.

    Examples
    --------
    >>> from client.prediction import SeriesPrediction
    >>> one = SeriesPrediction("ab12cd34ef", 1, {}, [], {}, {}, {}, (SeenSlice(7, 40, 50.0, picture=b"x"), SeenSlice(9, 40, 30.0)))
    >>> list(pictures_of(Prediction((one,), (), {})))
    [('ab12cd34-slice-007.png', b'x')]
    """
    for one in found.series:
        kinds: tuple[tuple[str, tuple[SeenSlice, ...]], ...] = (("slice", one.slices), ("patterns", one.pattern_slices))
        for kind, slices in kinds:
            for seen in slices:
                if seen.picture:
                    yield f"{one.series[:8]}-{kind}-{seen.number:03d}.png", seen.picture
                if seen.overlay:
                    yield f"{one.series[:8]}-explanation-{seen.number:03d}.png", seen.overlay
