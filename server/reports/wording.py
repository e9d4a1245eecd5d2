"""Numbers, durations and lists as readers expect them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup, escape

from shared_models.metrics import METRICS
from shared_models.metrics.findings import FINDING_METRICS
from shared_models.metrics.prognosis import prognosis_title
from shared_models.metrics.segmentation import SEGMENTATION_METRICS


def shown(value: float | None, digits: int = 3) -> str:
    """Return a number for readers; None is *undefined*.

    Examples
    --------
    >>> shown(0.87654), shown(None), shown(-0.0001), shown(-0.5, 2)
    ('0.877', 'undefined', '0.000', '−0.50')
    """
    if value is None:
        return "undefined"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def interval_text(cell: dict[str, Any], digits: int = 3) -> str:
    """Return ``0.877 (0.801 to 0.930)``, or what there is of it.

    Examples
    --------
    >>> interval_text({"value": 0.9, "low": 0.8, "high": 1.0}, 2), interval_text({"value": 0.9, "low": None, "high": None}, 2)
    ('0.90 (0.80 to 1.00)', '0.90')
    """
    value = shown(cell["value"], digits)
    return value if cell.get("low") is None else f"{value} ({shown(cell['low'], digits)} to {shown(cell['high'], digits)})"


def coded(text: str) -> Markup:
    """Return a sentence for a page, what stands between backticks as code; all of it is escaped.

    Examples
    --------
    >>> str(coded("`fedild evaluate` tells <them>"))
    '<code>fedild evaluate</code> tells &lt;them&gt;'
    """
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a single backtick stands for itself
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece) for place, piece in enumerate(pieces))


def metric_title(name: str) -> str:
    """Return the name of a metric for readers.

    Examples
    --------
    >>> metric_title("brier"), metric_title("auroc_UIP"), metric_title("volume_bias")
    ('Brier score', 'AUROC, UIP against the rest', 'Volume bias')
    """
    if (spec := (FINDING_METRICS | SEGMENTATION_METRICS | METRICS).get(name)) is not None:
        return spec.title
    if (title := prognosis_title(name)) is not None:
        return title
    if name.startswith("dice_"):
        return f"Dice, {name.removeprefix('dice_').replace('_', ' ')}"
    if name.startswith("auroc_"):
        return f"AUROC, {name.removeprefix('auroc_')} against the rest"
    return name.replace("_", " ").capitalize()


def duration_text(seconds: float | None) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> duration_text(0.42), duration_text(75), duration_text(7384), duration_text(None)
    ('0.4 s', '1 min 15 s', '2 h 3 min', 'not recorded')
    """
    if seconds is None:
        return "not recorded"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size_text(size: float | None) -> str:
    """Return a number of bytes in words.

    Examples
    --------
    >>> size_text(812), size_text(4_200_000)
    ('812 B', '4.2 MB')
    """
    if size is None:
        return "not recorded"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"


def ranges_text(numbers: Iterable[int]) -> str:
    """Return whole numbers with runs joined.

    Examples
    --------
    >>> ranges_text([3, 5, 6, 7])
    '3, 5–7'
    """
    runs: list[list[int]] = []
    for one in sorted(set(numbers)):
        if runs and one == runs[-1][1] + 1:
            runs[-1][1] = one
        else:
            runs.append([one, one])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)


def listed(names: Iterable[str]) -> str:
    """Return names as a phrase.

    Examples
    --------
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *most, last = list(names) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "hospital"), counted(1200, "patient")
    ('1 hospital', '1,200 patients')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
