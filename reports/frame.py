"""The frame that every page stands in: one file that needs neither network nor scripts, in light, in dark, on paper."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gliogate.files import replacing

logger = logging.getLogger(__name__)

NONE = "\N{EN DASH}"
"""What stands for a figure that is not defined."""


def render(template: Path, **content: object) -> str:
    """Renders a page that extends `frame.html`.

    Args:
        template: the page; everything put into it is escaped, except what is `markupsafe.Markup`, such as a plot.
        content: what the page asks for; to leave anything out is an error.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "percents": percents, "span": span}
    return environment.get_template(template.name).render(content)


def write_page(path: Path, draw: Callable[[], str]) -> Path | None:
    """Writes a page, or logs in a line why there is none: figures that are written already are not lost with it.

    Args:
        path: the page; where it cannot be drawn, one from before goes, for it would be of other figures.
        draw: gives its HTML.

    Returns:
        The path; None where the page could not be drawn.

    Raises:
        OSError: it cannot be written.
    """
    try:
        content = draw()
    except Exception as error:
        path.unlink(missing_ok=True)
        logger.error("%s: cannot be drawn, the figures beside it are whole: %s: %s", path, type(error).__name__, error)
        return None
    with replacing(path) as partial:
        # A file's name that is shown need not be valid Unicode.
        partial.write_bytes(content.encode("utf-8", "replace"))
    return path


def number(value: float | None, digits: int = 3) -> str:
    """A figure with these many decimals, a count with its thousands apart; a dash for None."""
    if value is None or math.isnan(value):
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash for None."""
    return NONE if value is None else f"{100 * value:.{digits}f}%"


def percents(interval: tuple[float | None, float | None], digits: int = 1) -> str:
    """An interval of shares, `95.8% to 98.1%`; a dash where it is not defined."""
    low, high = interval
    return NONE if low is None or high is None else f"{percent(low, digits)} to {percent(high, digits)}"


def span(interval: tuple[float | None, float | None], digits: int = 3) -> str:
    """An interval, `0.871 to 0.902`; a dash where it is not defined."""
    low, high = interval
    return NONE if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"
