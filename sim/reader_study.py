"""A reader study in one table: ``patient``, ``truth``, ``model``, and a column of every reader."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from shared_models.core.errors import BadInput
from shared_models.judging.readers import beside_readers

REQUIRED = ("patient", "truth", "model")


def read_study(path: Path) -> list[dict[str, Any]]:
    """Return the rows of `beside_readers` of a CSV table with one line a patient; what a reader has not read is left empty.

    Raises
    ------
    BadInput
        Missing columns or calls, no reader, or a patient who stands in two lines.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file)
        columns = list(lines.fieldnames or ())
        rows = [{name: (row.get(name) or "").strip() for name in columns} for row in lines]
    readers = [name for name in columns if name not in REQUIRED]
    if not readers or not rows or set(REQUIRED) - set(columns):
        raise BadInput("a reader study has the columns patient, truth, model and one of each reader", value=columns)
    if blank := [number for number, row in enumerate(rows, 2) if not all(row[name] for name in REQUIRED)]:
        raise BadInput("patient, truth and model are known of every case", value=f"line {blank[0]}")
    if len({row["patient"] for row in rows}) < len(rows):
        remedy = "give one call a patient: slices and repeated scans are no further patients"
        raise BadInput("a patient stands in one line of a reader study", value=len(rows), remedy=remedy)
    calls = {name: [row[name] for row in rows] for name in columns}
    return beside_readers(calls["truth"], calls["model"], {name: calls[name] for name in readers})


def lines_of(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table in words: accuracy with its interval, and of each reader whether the model is right more or less often.

    Examples
    --------
    >>> print(*lines_of(beside_readers(["a", "b"], ["a", "b"], {"A": ["a", "a"]})), sep=chr(10))
    model: 2 of 2 right, 1.000 (0.342 to 1.000)
    A: 1 of 2 right, 0.500 (0.095 to 0.905); right alone: the model 1, A 0; exact McNemar p 1.000, by Holm 1.000
    """
    found = []
    for row in rows:
        share = "" if row["accuracy"] is None else f", {row['accuracy']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        text = f"{row['caller']}: {row['right']} of {row['cases']} right{share}"
        if "p" in row:
            p = f"exact McNemar p {row['p']:.3f}, by Holm {row['p_holm']:.3f}"
            text += f"; right alone: the model {row['model_alone']}, {row['caller']} {row['reader_alone']}; {p}"
        found.append(text)
    return found
