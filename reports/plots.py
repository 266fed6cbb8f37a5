"""Plots as SVG that stands in a page: its colours and its type are the page's, also in the dark and on paper."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup

Ink = Literal["first", "second"]
"""Which of the page's two colours."""


@dataclass(frozen=True)
class Axis:
    """One axis of a plot.

    Attributes:
        name: what it shows, with the unit.
        low: value where it begins.
        high: value where it ends.
        ticks: values that are labelled.
    """

    name: str
    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, name: str, values: Iterable[float]) -> Self:
        """An axis that holds these values, its ticks at steps of 1, 2 or 5 times a power of ten."""
        array = np.fromiter(values, float)
        low, high = (float(array.min()), float(array.max())) if len(array) else (0.0, 1.0)
        rough = (high - low or abs(high) or 1.0) / 4
        power = 10.0 ** np.floor(np.log10(rough))
        step = power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough))
        first, last = int(np.floor(low / step)), max(int(np.ceil(high / step)), int(np.floor(low / step)) + 1)
        ticks = tuple(round(float(index * step), 10) for index in range(first, last + 1))
        return cls(name, ticks[0], ticks[-1], ticks)

    @classmethod
    def share(cls, name: str) -> Self:
        """From 0 to 1."""
        return cls(name, 0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


class Plot:
    """A plot to draw on; values outside the axes are drawn at their ends.

    >>> plot = Plot(Axis.share("false alarms"), Axis.share("tumors found"), label="ROC curve")
    >>> plot.line([0, 0.1, 1], [0, 0.9, 1])
    >>> str(plot.svg())[:4]
    '<svg'
    """

    def __init__(self, x: Axis, y: Axis, *, label: str, size: tuple[int, int] = (330, 290)) -> None:
        """Begins an empty plot.

        Args:
            x: the horizontal axis.
            y: the vertical axis.
            label: what the plot shows, for who cannot see it.
            size: width and height in the plot's own pixels; on the page it fills the width that there is.
        """
        self._x, self._y = x, y
        width, height = size
        self._left, self._right, self._top, self._bottom = 44.0, width - 8.0, 10.0, height - 40.0
        self._svg = ET.Element(
            "svg", {"class": "plot", "viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": label}
        )
        self._draw_axes()

    def line(self, x: Sequence[float], y: Sequence[float], *, ink: Ink = "first") -> None:
        """Draws a line from point to point."""
        points = " ".join(f"{self._across(a):.1f},{self._up(b):.1f}" for a, b in zip(x, y, strict=True))
        self._add("polyline", {"class": f"{ink} line", "points": points})

    def guide(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draws a quiet dashed line to compare with."""
        self._segment("guide", start, end)

    def stem(self, x: float, low: float, high: float, *, ink: Ink = "second") -> None:
        """Draws a thin upright line between two values."""
        self._segment(f"{ink} stem", (x, low), (x, high))

    def dot(self, x: float, y: float, *, ink: Ink = "first", radius: float = 3.5, note: str = "") -> None:
        """Draws a dot; the pointer that rests on it shows the note."""
        self._circle(f"{ink} dot", x, y, radius, note)

    def mark(self, x: float, y: float, *, name: str) -> None:
        """Draws a ring with its name beside it, for the one point that matters."""
        self._circle("mark", x, y, 5, name)
        left = self._across(x) > (self._left + self._right) / 2
        text = self._text("mark-name", self._across(x) + (-11 if left else 11), self._up(y) + 16, name)
        text.set("text-anchor", "end" if left else "start")

    def bar(self, low: float, high: float, value: float, *, ink: Ink = "first", note: str = "") -> None:
        """Draws a bar from one value of x to another, from the foot of the plot up to `value`."""
        start, end, top = self._across(low) + 0.5, self._across(high) - 0.5, self._up(value)
        bar = self._add(
            "rect",
            {
                "class": f"{ink} bar",
                "x": f"{start:.1f}",
                "width": f"{max(end - start, 0.5):.1f}",
                "y": f"{top:.1f}",
                "height": f"{self._bottom - top:.1f}",
            },
        )
        self._explain(bar, note)

    def svg(self) -> Markup:
        """The plot so far, to stand in a page as it is."""
        return Markup(ET.tostring(self._svg, encoding="unicode"))  # noqa: S704, ElementTree has escaped it

    def _draw_axes(self) -> None:
        for tick in self._y.ticks:
            self._segment("grid-line", (self._x.low, tick), (self._x.high, tick))
            self._text("", self._left - 8, self._up(tick) + 4, f"{tick:,.10g}").set("text-anchor", "end")
        for tick in self._x.ticks:
            self._text("", self._across(tick), self._bottom + 17, f"{tick:,.10g}").set("text-anchor", "middle")
        middle = (self._left + self._right) / 2
        self._text("name", middle, self._bottom + 35, self._x.name).set("text-anchor", "middle")
        upright = self._text("name", 0, 0, self._y.name)
        upright.set("text-anchor", "middle")
        upright.set("transform", f"translate(10 {(self._top + self._bottom) / 2:.1f}) rotate(-90)")

    def _across(self, value: float) -> float:
        return float(np.interp(value, (self._x.low, self._x.high), (self._left, self._right)))

    def _up(self, value: float) -> float:
        return float(np.interp(value, (self._y.low, self._y.high), (self._bottom, self._top)))

    def _add(self, tag: str, attributes: dict[str, str]) -> ET.Element:
        return ET.SubElement(self._svg, tag, attributes)

    def _segment(self, kind: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        ends = {"x1": self._across(start[0]), "y1": self._up(start[1])}
        ends |= {"x2": self._across(end[0]), "y2": self._up(end[1])}
        self._add("line", {"class": kind} | {name: f"{value:.1f}" for name, value in ends.items()})

    def _circle(self, kind: str, x: float, y: float, radius: float, note: str) -> None:
        place = {"cx": f"{self._across(x):.1f}", "cy": f"{self._up(y):.1f}", "r": f"{radius:g}"}
        self._explain(self._add("circle", {"class": kind} | place), note)

    def _text(self, kind: str, x: float, y: float, text: str) -> ET.Element:
        element = self._add("text", {"class": kind, "x": f"{x:.1f}", "y": f"{y:.1f}"})
        element.text = text
        return element

    @staticmethod
    def _explain(element: ET.Element, note: str) -> None:
        if note:
            ET.SubElement(element, "title").text = note


def range_bar(value: float | None, interval: tuple[float | None, float | None], *, label: str) -> Markup:
    """A figure from 0 to 1 with its interval, as a strip to stand under a number; empty where it is not defined."""
    svg = ET.Element("svg", {"class": "plot", "viewBox": "0 0 200 10", "role": "img", "aria-label": label})
    ET.SubElement(svg, "line", {"class": "grid-line", "x1": "4", "x2": "196", "y1": "5", "y2": "5"})
    low, high = interval
    if low is not None and high is not None:
        start, width = 4 + 192 * low, 192 * (high - low)
        band = {"class": "first bar band", "x": f"{start:.1f}", "width": f"{width:.1f}", "y": "1", "height": "8"}
        ET.SubElement(svg, "rect", band | {"rx": "3"})
    if value is not None:
        ET.SubElement(svg, "circle", {"class": "first dot", "cx": f"{4 + 192 * value:.1f}", "cy": "5", "r": "3.5"})
    return Markup(ET.tostring(svg, encoding="unicode"))  # noqa: S704, ElementTree has escaped it
