"""The demo: scans with known masks, or the user's own, analyzed and shown on one page that needs no network."""

import base64
import html
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS
from gliogate.errors import GliogateError, ImageError
from gliogate.overlays import KNOWN, PREDICTED, Color, paint_mask
from gliogate.phantom import make_phantoms
from gliogate.pictures import encode, write_png
from gliogate.results import Analysis
from gliogate.runs import (
    Outcome,
    Row,
    Server,
    analyze_scans,
    connect,
    format_or_dash,
    print_table,
    printable,
    summary,
    write_mask,
    write_overlay,
)
from gliogate.scans import MASK_SUFFIX, Scan, find_scans

PHANTOMS: Final = 12
PREVALENCE: Final = 0.5
"""How many synthetic scans the demo draws, and the share of them with tumor."""

MAX_CARDS: Final = 200
"""Scans on the page; a browser shows more of them no better."""

MAX_PICTURE_PX: Final = 512
"""Longer side of a picture on the page."""


def run_demo(paths: Sequence[Path], *, output: Path, server: Server) -> bool:
    """Analyzes scans and makes a page of them; synthetic scans where `paths` is empty.

    Args:
        paths: scans and folders of scans. A mask beside a scan, `<stem>_mask.*`, is taken as the truth.
        output: a folder for the page, the masks, the overlays and, under `scans`, the synthetic scans.
        server: the one to ask.

    Returns:
        Whether every scan was analyzed.

    Raises:
        GliogateError: no scans were found, or no server.
        OSError: the output folder cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    scans = find_scans(paths or [_draw_phantoms(output / "scans")])
    rows: list[Row] = []
    cards: list[str] = []
    with connect(server) as client:
        # One request at a time, so that the latency is a single request's own.
        for outcome in analyze_scans(client, scans, in_flight=1):
            known = None
            if isinstance(outcome.result, Analysis):
                write_mask(outcome.result, outcome.scan.name, output)
                write_overlay(outcome.result, outcome.scan.name, output)
                known = _known_mask(outcome.scan, outcome.result)
            rows.append(Row.of(outcome, dice=_dice(outcome, known)))
            if len(cards) < MAX_CARDS:
                cards.append(_card(outcome, known, rows[-1]))
    page = output / "index.html"
    # A file's name may be no text at all.
    page.write_text(_page(cards, rows), encoding="utf-8", errors="backslashreplace")

    print_table(rows)
    print(f"{summary(rows)}\n\nOpen {printable(str(page))} in a browser. Then try")
    # As it was called: the environment that holds it need not be on PATH.
    program = "gliogate" if shutil.which("gliogate") else sys.argv[0]
    scan = printable(shlex.quote(str(paths[0] if paths else output / "scans")))
    print(f"  {program} analyze {scan} --json -  # the same as JSON lines")
    print(f"  {program} demo {'' if paths else 'path/to/scans'}  # {'synthetic scans' if paths else 'your own scans'}")
    print(f'  {program} serve  # a server that stays, for gliogate.Client("localhost:8001")')
    return not any(row.error for row in rows)


def _draw_phantoms(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for phantom in make_phantoms(PHANTOMS, prevalence=PREVALENCE):
        write_png(folder / f"{phantom.name}.png", phantom.image)
        write_png(folder / f"{phantom.name}{MASK_SUFFIX}.png", phantom.mask * np.uint8(255))
    return folder


def _known_mask(scan: Scan, analysis: Analysis) -> NDArray[np.uint8] | None:
    """The mask beside a scan; None without one that fits."""
    try:
        known = scan.read_known_mask()
        if known is not None and known.shape != analysis.mask.shape:
            raise ImageError(f"{scan.path}: is {analysis.mask.shape}, the mask beside it {known.shape}")
    except ImageError as error:
        print(f"No Dice: {printable(str(error))}", file=sys.stderr)
        return None
    return known


def _dice(outcome: Outcome, known: NDArray[np.uint8] | None) -> float | None:
    """Twice the overlap over the sum of both masks; None without a known mask, or where both are empty."""
    if known is None or not isinstance(outcome.result, Analysis):
        return None
    total = np.count_nonzero(known) + outcome.result.area_px
    return 2 * np.count_nonzero(known & outcome.result.mask) / total if total else None


def _page(cards: Sequence[str], rows: Sequence[Row]) -> str:
    shown = f" The first {len(cards)} are shown." if len(cards) < len(rows) else ""
    return _template("page").substitute(
        summary=f"{summary(rows)}.{shown}",
        predicted=_css(PREDICTED),
        known=_css(KNOWN),
        cards="\n".join(cards),
    )


def _card(outcome: Outcome, known: NDArray[np.uint8] | None, row: Row) -> str:
    name, result = html.escape(str(outcome.scan.name)), outcome.result
    if isinstance(result, GliogateError):
        return _template("failure").substitute(name=name, error=html.escape(str(result)))
    overlay = result.overlay()
    if known is not None:
        # Around the known mask, not on its rim, so that two equal outlines are both seen.
        around = cv2.dilate(known, np.ones((3, 3), np.uint8)).astype(np.uint8)
        overlay = paint_mask(overlay, around, color=KNOWN, fill=0)
    return _template("card").substitute(
        name=name,
        verdict=result.verdict,
        kind=result.verdict.replace(" ", "-"),
        mark=" look" * bool(row.needs_look),
        look='<p class="look">look at this one</p>' * bool(row.needs_look),
        certainty=format_or_dash(row.certainty, ".2f"),
        probability=f"{result.tumor_probability:.3f}",
        gate="opened" if result.segmented else "shut",
        area=f"{result.area_px:,}",
        dice=format_or_dash(row.dice, ".3f"),
        latency=f"{1000 * result.latency_s:.0f}",
        scan=_embed(result.picture[..., CHANNELS.index("FLAIR")]),
        overlay=_embed(overlay),
    )


def _template(name: str) -> Template:
    return Template(files(__name__).joinpath(f"{name}.html").read_text(encoding="utf-8"))


def _embed(picture: NDArray[np.uint8]) -> str:
    """Makes a picture a data URL, small enough for a page of many."""
    factor = MAX_PICTURE_PX / max(picture.shape[:2])
    if factor < 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return f"data:image/webp;base64,{base64.b64encode(encode(picture, '.webp')).decode()}"


def _css(color: Color) -> str:
    return "rgb({} {} {})".format(*color)
