"""The page of a cohort: one file that needs no network."""

import html
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from statistics import median
from string import Template
from typing import Any, Final
from urllib.parse import quote_from_bytes

from gliogate.cohort.table import NOT_DONE, Entry, in_order
from gliogate.runs import format_or_dash, printable

MAX_ROWS: Final = 2000
"""Studies on the page; a browser shows more of them no better. The table has all."""

MAX_ERRORS: Final = 200

_EDGES_ML: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, math.inf)
_WIDTH, _HEIGHT = 640, 190


def render(entries: Sequence[Entry], *, summary: str) -> bytes:
    """Draws the page, UTF-8.

    Args:
        entries: all studies, in the order of their names.
        summary: of them, in a line.
    """
    failed = [entry for entry in entries if entry.row["error"] not in (None, NOT_DONE)]
    done = [entry for entry in entries if entry.row["error"] is None]
    shown = [*failed, *done, *(entry for entry in entries if entry.row["error"] == NOT_DONE)][:MAX_ROWS]
    shown.sort(key=lambda entry: entry.study)
    looks = sum(entry.row["needs_look"] is True for entry in done)
    content = {
        "summary": _text(summary),
        "tiles": "\n".join(_tiles(entries, done, failed)),
        "volumes": _volumes([entry.row["tumor_volume_ml"] for entry in done]),
        "errors": _errors(failed),
        "rows": "\n".join(_row(entry) for entry in shown),
        "only": '<label><input type="checkbox" id="only"> only those to look at</label>' if looks else "",
        "shown": f"{len(shown):,} of {len(entries):,} are shown; the table has all."
        if len(shown) < len(entries)
        else "",
    }
    page = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).substitute(content)
    return page.encode("utf-8", "backslashreplace")


def _text(text: str) -> str:
    """A text as it may stand on a page, also between quotation marks."""
    return html.escape(printable(text))


def _tiles(entries: Sequence[Entry], done: Sequence[Entry], failed: Sequence[Entry]) -> list[str]:
    verdicts = Counter(entry.row["verdict"] for entry in done)
    facts: dict[str, tuple[str, int]] = {"studies": ("", len(entries))}
    facts |= {verdict: (_kind(verdict), verdicts[verdict]) for verdict in in_order(verdicts)}
    if looks := sum(entry.row["needs_look"] is True for entry in done):
        facts["to look at"] = ("look", looks)
    facts["failed"] = ("failed" if failed else "", len(failed))
    if left := len(entries) - len(done) - len(failed):
        facts[NOT_DONE] = ("", left)
    return [
        f'<div class="tile {kind}"><b>{count:,}</b><span>{_text(name)}</span></div>'
        for name, (kind, count) in facts.items()
    ]


def _kind(verdict: str | None) -> str:
    return {"tumor": "tumor", "suspicious": "suspicious", "no tumor": "clear"}.get(verdict or "", "")


def _volumes(volumes: Sequence[float | None]) -> str:
    """A histogram of the volumes above 0, and how many have none."""
    measured = [volume for volume in volumes if volume is not None]
    positive = [volume for volume in measured if volume > 0]
    if not positive:
        return f'<p class="quiet">No study has a measured volume above 0 ({len(volumes):,} done).</p>'
    places = Counter(bisect_right(_EDGES_ML, volume) - 1 for volume in positive)
    first, last = min(places), max(places)
    highest = max(places.values())
    left, right, bottom, top = 34, _WIDTH - 24, _HEIGHT - 38, 12
    width = (right - left) / (last - first + 1)
    drawn = []
    for place in range(first, last + 1):
        start, count = left + (place - first) * width, places[place]
        height = (bottom - top) * count / highest
        low, high = f"{_EDGES_ML[place]:g}", f"{_EDGES_ML[place + 1]:g}"
        told = f"{low} to {high} ml: {count:,}" if place + 2 < len(_EDGES_ML) else f"{low} ml and more: {count:,}"
        drawn.append(
            f'<rect x="{start + 1:.1f}" y="{bottom - height:.1f}" width="{width - 2:.1f}" height="{height:.1f}">'
            f"<title>{told}</title></rect>"
        )
        drawn.append(f'<text x="{start:.1f}" y="{bottom + 16}" text-anchor="middle">{low}</text>')
    if last + 2 < len(_EDGES_ML):
        drawn.append(f'<text x="{right}" y="{bottom + 16}" text-anchor="middle">{_EDGES_ML[last + 1]:g}</text>')
    drawn.append(f'<line x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    drawn.append(f'<text x="{left - 8}" y="{top + 4}" text-anchor="end">{highest:,}</text>')
    drawn.append(f'<text x="{left - 8}" y="{bottom + 4}" text-anchor="end">0</text>')
    drawn.append(f'<text x="{(left + right) / 2:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">tumor, ml</text>')
    told = f"{len(positive):,} with a volume above 0, median {median(positive):.1f} ml, largest {max(positive):.1f} ml"
    if empty := len(measured) - len(positive):
        told += f"; {empty:,} with none"
    if unknown := len(volumes) - len(measured):
        told += f"; {unknown:,} of unknown spacing"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="distribution of volumes">{"".join(drawn)}</svg>'
        f'<p class="quiet">{told}.</p>'
    )


def _errors(failed: Sequence[Entry]) -> str:
    if not failed:
        return ""
    items = "\n".join(
        f"<dt>{_text(entry.study)}</dt><dd>{_text(entry.row['error'])}</dd>" for entry in failed[:MAX_ERRORS]
    )
    more = f'<p class="quiet">The first {MAX_ERRORS} of {len(failed):,}.</p>' if len(failed) > MAX_ERRORS else ""
    return f'<section class="card"><h2>Failed</h2><dl>{items}</dl>{more}</section>'


def _row(entry: Entry) -> str:
    row = entry.row
    error = row["error"]
    state = row["verdict"] if error is None else NOT_DONE if error == NOT_DONE else "failed"
    kind = "failed" if state == "failed" else _kind(state)
    cells = [
        f'<th scope="row">{_text(entry.study)}</th>',
        f'<td class="verdict {kind}">{_text(str(state))}</td>',
        _number(row["tumor_probability"], ".3f"),
        _number(row["tumor_volume_ml"], ".1f"),
        _interval(row["tumor_volume_low_ml"], row["tumor_volume_high_ml"]),
        _number(row["certainty"], ".2f"),
        _look(row["needs_look"]),
        _number(row["largest_diameter_mm"], ".0f"),
        _number(row["slices_with_tumor"], "d"),
        _number(row["slices"], "d"),
        f"<td class=files>{' '.join(_link(entry.study, file) for file in entry.files if '_overlay.' not in file)}</td>",
    ]
    return f"<tr{' class=look' * bool(row['needs_look'])}>{''.join(cells)}</tr>"


def _interval(low: float | None, high: float | None) -> str:
    """Between which millilitres the true volume lies; sorted by the lower."""
    if low is None or high is None:
        return _number(None, "")
    return f'<td class=number data-key="{low}">{low:.1f}\u2013{high:.1f}</td>'


def _look(needs_look: bool | None) -> str:
    if needs_look is None:
        return _number(None, "")
    return f'<td class=number data-key="{int(needs_look)}">{"<b class=look>look</b>" * needs_look}</td>'


def _number(value: Any, format_spec: str) -> str:
    key = "" if value is None else f' data-key="{value}"'
    return f"<td class=number{key}>{format_or_dash(value, format_spec)}</td>"


def _link(study: str, file: str) -> str:
    """A link to a file beside the page; a colon in a name would be taken for a scheme without the dot."""
    address = "./" + "/".join(
        quote_from_bytes(part.encode("utf-8", "surrogateescape")) for part in (*study.split("/"), *file.split("/"))
    )
    name = file.rpartition("/")[2]
    label = next((label for ending, label in _LABELS.items() if name.endswith(ending)), name)
    return f'<a href="{html.escape(address)}">{_text(label)}</a>'


_LABELS: Final = {
    "_mask.nii.gz": "mask",
    "_seg.dcm": "SEG",
    "_montage.png": "montage",
    "_slices.csv": "slices",
    ".json": "JSON",
}
