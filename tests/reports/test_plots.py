"""Plots: SVG whose texts are text, on axes with round ticks."""

from xml.etree import ElementTree as ET

import pytest

from reports.plots import Axis, Plot


def test_plot_is_svg_whose_texts_are_escaped() -> None:
    plot = Plot(Axis.over("area, px", [0, 4321]), Axis.share("share"), label='"a" < b')
    plot.line([0, 4321], [0, 1])
    plot.dot(100, 2.0, note="<b>")
    svg = ET.fromstring(str(plot.svg()))  # noqa: S314, made above
    assert svg.get("aria-label") == '"a" < b'
    (circle,) = svg.iter("circle")
    assert circle[0].text == "<b>"
    assert float(circle.get("cy", 0)) == 10.0, "a value above the axis is drawn at its end"


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 4321], (0, 1000, 2000, 3000, 4000, 5000)),
        ([0.12, 0.31], (0.1, 0.15, 0.2, 0.25, 0.3, 0.35)),
        ([7, 7], (6, 8)),
        ([], (0, 0.2, 0.4, 0.6, 0.8, 1)),
    ],
)
def test_axis_holds_its_values_between_round_ticks(values: list[float], ticks: tuple[float, ...]) -> None:
    axis = Axis.over("", values)
    assert axis.ticks == ticks
    assert (axis.low, axis.high) == (ticks[0], ticks[-1])
