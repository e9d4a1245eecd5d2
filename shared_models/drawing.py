"""Small charts as inline SVG: scales, axes, marks. Text stays text, colours are the page's own (so they follow light, dark and print)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

HUES = ("#0b6b68", "#b3541e", "#3b5fa8", "#8a3f7d", "#7a7a12", "#5b6670")
"""Colours of the classes ``hue0``, ``hue1``, ... in a picture that stands alone: those of a report by day."""

STYLE = (
    'text{font:12px system-ui,"Liberation Sans",sans-serif;fill:#1d2733}.tick,.axis{fill:#55606e}.tick{font-size:11px}'
    ".grid{stroke:#dde2e8;stroke-width:1}.chance{stroke:#a01c1c;stroke-width:1.5;stroke-dasharray:5 3}.line{fill:none;stroke-width:2}"
    ".spread{stroke:none;fill-opacity:.16}"
    + "".join(f".line.hue{place}{{stroke:{hue}}}.dot.hue{place},text.hue{place}{{fill:{hue}}}" for place, hue in enumerate(HUES))
)

DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "4 2 1 2")
"""A line is told from its neighbours by its dashes as well as by its colour."""


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers that span `low` to `high`, about `about` of them.

    Examples
    --------
    >>> nice_ticks(0.52, 0.97)
    [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    """
    span = high - low if high > low else max(abs(high), 1.0)
    rough = span / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 10) for place in range(first, max(last, first + 1) + 1)]


def tick_text(value: float) -> str:
    """Return a tick without needless zeros.

    Examples
    --------
    >>> tick_text(0.5), tick_text(20.0)
    ('0.5', '20')
    """
    return f"{value:.6g}"


def apart(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Return places moved so that no two lie nearer than `least`, in their order and, where they have room, between `low` and `high`.

    Examples
    --------
    >>> apart([50.0, 52.0, 10.0], 12.0, 0.0, 100.0)
    [50.0, 62.0, 10.0]
    >>> apart([99.0, 98.0], 12.0, 0.0, 100.0)
    [100.0, 88.0]
    """
    order = sorted(range(len(places)), key=lambda place: places[place])
    moved = [min(max(place, low), high) for place in places]
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    if order:
        moved[order[-1]] = min(moved[order[-1]], high)
    for after, before in itertools.pairwise(reversed(order)):
        moved[before] = min(moved[before], moved[after] - least)
    return moved


@dataclass
class Chart:
    """A plot area with scales from data to pixels; marks are added in the order they are drawn.

    Parameters
    ----------
    width, height : int
        Of the whole picture, in user units of the SVG.
    x, y : tuple of float
        Lowest and highest value of each axis.
    left, right, top, bottom : int
        Margins for labels.
    """

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    left: int = 46
    right: int = 12
    top: int = 12
    bottom: int = 42
    parts: list[str] = field(default_factory=list)

    def at_x(self, value: float) -> float:
        """Return the horizontal place of `value`."""
        low, high = self.x
        return round(self.left + (value - low) / (high - low) * (self.width - self.left - self.right), 1)

    def at_y(self, value: float) -> float:
        """Return the vertical place of `value`."""
        low, high = self.y
        return round(self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom), 1)

    def add(self, tag: str, css: str, text: str = "", **attributes: object) -> None:
        """Add an element; ``stroke_width`` becomes ``stroke-width``. `text` is escaped."""
        listed = "".join(f' {key.replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items() if value != "")
        self.parts.append(f'<{tag} class="{css}"{listed}>{escape(text)}</{tag}>')

    def segment(self, css: str, x1: float, y1: float, x2: float, y2: float) -> None:
        """Add a straight line between two places in pixels."""
        self.add("line", css, x1=x1, y1=y1, x2=x2, y2=y2)

    def label(self, css: str, x: float, y: float, text: str, **attributes: object) -> None:
        """Add text at a place in pixels."""
        self.add("text", css, text, x=round(x, 1), y=round(y, 1), **attributes)

    def axis_x(self, ticks: list[float], title: str) -> None:
        """Draw ticks, grid lines and the title of the horizontal axis."""
        foot = self.height - self.bottom
        for value in ticks:
            self.segment("grid", self.at_x(value), self.top, self.at_x(value), foot)
            self.label("tick", self.at_x(value), foot + 15, tick_text(value), text_anchor="middle")
        self.label("axis", (self.left + self.width - self.right) / 2, self.height - 6, title, text_anchor="middle")

    def axis_y(self, ticks: list[float], title: str) -> None:
        """Draw ticks, grid lines and the title of the vertical axis."""
        for value in ticks:
            self.segment("grid", self.left, self.at_y(value), self.width - self.right, self.at_y(value))
            self.label("tick", self.left - 6, self.at_y(value) + 4, tick_text(value), text_anchor="end")
        middle = (self.top + self.height - self.bottom) / 2
        self.label("axis", 12, middle, title, text_anchor="middle", transform=f"rotate(-90 12 {middle})")

    def line(self, css: str, xs: list[float], ys: list[float | None], dashes: str = "") -> None:
        """Draw a line through the points; None leaves a gap."""
        stretch: list[str] = []
        stretches = [stretch]
        for x, y in zip(xs, ys, strict=True):
            if y is None:
                stretch = []
                stretches.append(stretch)
            else:
                stretch.append(f"{self.at_x(x):g},{self.at_y(y):g}")
        for points in stretches:
            if len(points) > 1:
                self.add("polyline", f"line {css}", points=" ".join(points), stroke_dasharray=dashes)

    def spread(self, css: str, xs: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None]) -> None:
        """Fill the area between two lines, cut off where the axes end; None at either leaves a gap."""
        bottom, top = self.y
        stretch: list[tuple[float, float, float]] = []
        stretches = [stretch]
        for x, low, high in zip(xs, lows, highs, strict=True):
            if low is None or high is None or high < bottom or low > top:
                stretch = []
                stretches.append(stretch)
            else:
                stretch.append((self.at_x(x), self.at_y(max(low, bottom)), self.at_y(min(high, top))))
        for points in stretches:
            if len(points) > 1:
                around = [f"{x:g},{low:g}" for x, low, _ in points] + [f"{x:g},{high:g}" for x, _, high in reversed(points)]
                self.add("polygon", f"spread {css}", points=" ".join(around))

    def dot(self, css: str, x: float, y: float, size: float, says: str = "") -> None:
        """Draw a dot at a place in data; `says` is shown on hover."""
        hover = f"<title>{escape(says)}</title>" if says else ""
        self.parts.append(f'<circle class="dot {css}" cx="{self.at_x(x):g}" cy="{self.at_y(y):g}" r="{size:g}">{hover}</circle>')

    def svg(self, name: str, title: str, description: str) -> str:
        """Return the picture as SVG for a page; `name` must be unique on it, `description` tells the content to those who do not see it."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" role="img" '
            f'aria-labelledby="{name}-title {name}-text"><title id="{name}-title">{escape(title)}</title>'
            f'<desc id="{name}-text">{escape(description)}</desc>{"".join(self.parts)}</svg>'
        )

    def picture(self, title: str, description: str) -> str:
        """Return the drawing as an SVG file of its own, with its colours in it."""
        svg = self.svg("picture", title, description).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        return svg.replace("</desc>", f"</desc><style>{STYLE}</style><rect width='100%' height='100%' fill='#fff'/>", 1) + "\n"
