"""The one page of a prediction: everything inside it, nothing fetched, the warning first."""

from __future__ import annotations

import base64
import functools
import math
from pathlib import Path
from typing import Any

import jinja2

from client.hrct.rules import RULES
from client.prediction import Prediction, SeenSlice, SeriesPrediction
from client.reference import REFERENCE
from shared_models.bundle import NOTICE
from shared_models.explanations.sanity import MOST_ALIKE
from shared_models.metrics import METRICS
from shared_models.metrics.prognosis import prognosis_title
from shared_models.taxonomy import HRCT_CATEGORIES

MEASURES: tuple[tuple[str, str, str, int, str], ...] = (
    ("whole_volume_l", "Lung volume", "L", 2, "falls with fibrosis, and with a poor breath"),
    ("whole_mld_hu", "Mean lung density", "HU", 0, "rises with fibrosis and ground glass, and with a poor breath"),
    ("whole_haa_percent", "High attenuation, −600 to −250 HU", "%", 1, "not an extent of disease: consolidation lies above it"),
    ("whole_laa950_percent", "Low attenuation, below −950 HU", "%", 2, "emphysema; a sharp kernel or noise raises it"),
    ("whole_perc15_hu", "15th percentile", "HU", 0, "falls with emphysema"),
    ("whole_skewness", "Skewness", "", 2, "falls with fibrosis"),
    ("whole_kurtosis", "Kurtosis (excess)", "", 2, "falls with fibrosis"),
    ("whole_sd_hu", "Standard deviation", "HU", 0, ""),
    ("whole_mass_g", "Lung mass", "g", 0, "water weighs 1 g/mL, air nothing"),
)
"""Feature, its title, unit, digits, and what its reader should know."""

REGIONS = ("right", "left", "upper", "middle", "lower")
REGION_MEASURES = (
    ("volume_l", "Volume, L", 2),
    ("mld_hu", "Mean density, HU", 0),
    ("haa_percent", "High attenuation, %", 1),
    ("laa950_percent", "Low attenuation, %", 2),
)


EXPLAINED: dict[str, tuple[str, str]] = {
    "grad_cam": ("Grad-CAM", "Bright: places of the last feature map that raised the score of this class."),
    "attention": ("Attention", "Bright: where the network attended to, whatever the class."),
    "attention_relevance": ("Attention relevance", "Bright: places whose attention raised the score of this class."),
    "integrated_gradients": ("Integrated gradients", "Bright: values that raised the score of this class; all parts add up to it."),
    "occlusion": ("Occlusion", "Bright: blanking this place lowered the score of this class."),
    "shapley": ("Shapley values", "What each column added to the score, compared with the training patients’ mean; all parts add up to it."),
}
"""Line of EXPLANATIONS to its title and how its reader should take it."""


EXTENTS = (
    ("honeycombing", "Honeycombing"),
    ("reticulation", "Reticulation"),
    ("ggo", "Ground glass"),
    ("consolidation", "Consolidation"),
    ("micronodules", "Micronodules"),
    ("emphysema", "Emphysema"),
)
"""Extents of a pattern map that the page shows, with their titles."""


def part_title(part: str) -> str:
    """Return the name of an extent for readers.

    Examples
    --------
    >>> part_title("ggo"), part_title("ild")
    ('Ground glass', 'All but normal lung and emphysema')
    """
    return {**dict(EXTENTS), "fibrosis": "Fibrosis", "ild": "All but normal lung and emphysema"}.get(part, part)


def render(prediction: Prediction) -> str:
    """Return the page as HTML."""
    model = prediction.model
    return _template().render(
        notice=NOTICE,
        prediction=prediction,
        model=model,
        performance=[(metric_title(name), name, cell) for name, cell in _ordered(model["performance"], model["headline_metric"])],
        lead_metric=metric_title(model["headline_metric"]),
        measures=MEASURES,
        regions=REGIONS,
        region_measures=REGION_MEASURES,
        reference=REFERENCE,
        extents=EXTENTS,
        categories=HRCT_CATEGORIES,
        rules=RULES,
    )


def metric_title(name: str) -> str:
    """Return a metric's name for readers.

    Examples
    --------
    >>> metric_title("auroc_UIP"), metric_title("brier")
    ('AUROC, UIP against the rest', 'Brier score')
    """
    if name in METRICS:
        return METRICS[name].title
    if (title := prognosis_title(name)) is not None:
        return title
    return f"AUROC, {name.removeprefix('auroc_')} against the rest" if name.startswith("auroc_") else name.replace("_", " ").capitalize()


def shown(value: float | None, digits: int = 2) -> str:
    """Return a number for readers.

    Examples
    --------
    >>> shown(-784.4, 0), shown(math.nan), shown(-0.001, 1)
    ('−784', 'undefined', '0.0')
    """
    if value is None or not math.isfinite(value):
        return "undefined"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def percent(share: float) -> str:
    """Return a share for readers; what is not 0 never reads as 0.

    Examples
    --------
    >>> percent(0.256), percent(0.0004), percent(0.9999), percent(0.0)
    ('26 %', '<1 %', '>99 %', '0 %')
    """
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def attention_chart(slices: tuple[SeenSlice, ...]) -> str:
    """Return bars of the attention from apex to base as SVG: pictured slices dark, even attention as a dashed line.

    Marks have their colours of paper as attributes: a page's style, which a browser prefers, does not reach into a drawing in the PDF.
    """
    width, height, top = 720.0, 76.0, 4.0
    weights = [one.attention or 0.0 for one in slices]
    even, most = 1 / len(slices), max([*weights, 1.5 / len(slices)])
    step = width / len(slices)
    seen, bar = 'class="seen" fill="#0b6b68"', 'class="bar" fill="#a9c4c2"'
    bars = [
        f'<rect {seen if one.picture else bar} x="{i * step + 2:.1f}" y="{top + height * (1 - weight / most):.1f}" '
        f'width="{step - 4:.1f}" height="{max(height * weight / most, 1):.1f}"><title>slice {one.number}: {weight:.3f}</title></rect>'
        for i, (one, weight) in enumerate(zip(slices, weights, strict=True))
    ]
    line = top + height * (1 - even / most)
    words = 'font-family="sans-serif" font-size="11" fill="#56616c"'
    return (
        f'<svg viewBox="0 0 {width:.0f} {height + top + 20:.0f}" role="img" aria-label="Attention of each slice from apex to base">{"".join(bars)}'
        f'<line stroke="#56616c" stroke-dasharray="4 3" x1="0" x2="{width:.0f}" y1="{line:.1f}" y2="{line:.1f}"></line>'
        f'<text {words} x="0" y="{height + top + 16:.0f}">apex</text>'
        f'<text {words} x="{width:.0f}" y="{height + top + 16:.0f}" text-anchor="end">base</text></svg>'
    )


def pictured(one: SeriesPrediction) -> list[SeenSlice]:
    """Return the slices with a picture, the most attended first, without attention from apex to base."""
    return sorted((s for s in one.slices if s.picture), key=lambda s: (-(s.attention or 0.0), s.number))


def is_even(one: SeriesPrediction) -> bool:
    """Say whether no slice has half as much attention again as an even share of it."""
    return max(s.attention or 0.0 for s in one.slices) < 1.5 / len(one.slices)


def explanation_words(one: SeriesPrediction) -> dict[str, Any]:
    """Return what the page says of a series' explanation: its title, how to read it, and whether it can be believed at all.

    Empty where there is none.
    """
    if one.explanation is None:
        return {}
    method, chance = one.explanation["method"], one.explanation["alike"]
    title, reading = EXPLAINED.get(method, (method.replace("_", " ").capitalize(), ""))
    return {
        "title": title,
        "reading": reading,
        "label": one.explanation["class"],
        "alike": chance,
        "void": chance is not None and chance >= MOST_ALIKE,
    }


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        shown=shown,
        percent=percent,
        base64=lambda data: base64.b64encode(data).decode(),
        pictured=pictured,
        chart=attention_chart,
        is_even=is_even,
        part_title=part_title,
        why=explanation_words,
    )
    return environment.get_template("prediction.html.j2")


def _ordered(performance: dict[str, Any], headline: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the metrics with a value: the headline, then in the order of ``METRICS``, then the classes."""
    order = [headline, *METRICS, *sorted(performance)]
    return [(name, performance[name]) for name in dict.fromkeys(order) if name in performance and isinstance(performance[name], dict)]
