"""The survey as a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

from gliogate.contract import CHANNELS
from gliogate.overlays import paint_mask
from reports.frame import render
from reports.pictures import TRUE, brightened, embed
from reports.plots import Axis, Plot
from training.data.kaggle import TUMOR_ABOVE, find_slices, read_slice
from training.explore.survey import AIR

BIN = 8
"""Values that a point of an intensity plot stands for: a set that was scaled lacks single ones."""

LISTED = 100
"""Items of a finding that the page names; `explore.json` has them all."""

WEIGHTS = {"stop": "training refuses", "look": "worth a look", "note": "good to know"}
"""What each weight of a finding means."""

TROUBLES = {
    "missing_mask": "Slice without a mask",
    "missing_image": "Mask without a slice",
    "unreadable": "File that cannot be read",
    "wrong_shape": "Picture of another shape",
    "wrong_type": "Picture of another type",
    "wrong_values": "Mask with no value above half of 255",
    "wrong_name": "File whose name is not of the layout",
    "named_twice": "Slice or mask that is there twice",
    "no_slices": "Folder of a case without slices",
}


@dataclass(frozen=True)
class Finding:
    """Something to know of the dataset.

    Attributes:
        weight: see `WEIGHTS`.
        title: what it is, in the singular.
        count: how often.
        meaning: what follows from it.
        where: files, patients or rows.
    """

    weight: Literal["stop", "look", "note"]
    title: str
    count: int
    meaning: str
    where: Sequence[str]


@dataclass(frozen=True)
class Sample:
    """A slice as the page shows it: its channels side by side, the mask outlined in FLAIR."""

    name: str
    tumor_px: int
    picture: str


def render_page(survey: dict[str, Any], root: Path) -> str:
    """Makes a page of a survey; sample slices are read anew."""
    findings = sorted(_findings(survey), key=lambda finding: list(WEIGHTS).index(finding.weight))
    return render(
        Path(__file__).with_name("page.html"),
        survey=survey,
        name=root.resolve().name,
        findings=[finding for finding in findings if finding.count],
        absent=[finding.title for finding in findings if not finding.count],
        listed=LISTED,
        weights=WEIGHTS,
        balance=_balance(survey["cases"]),
        mask_sizes=_histogram(
            "mask size in px", "slices with tumor", [size for case in survey["cases"] for size in case["mask_sizes_px"]]
        ),
        slice_counts=_histogram("slices", "patients", [case["slices"] for case in survey["cases"]]),
        tumor_shares=_histogram(
            "share of slices with tumor, %", "patients", [100 * case["tumor_slice_share"] for case in survey["cases"]]
        ),
        channels=[{"name": channel["channel"], "plot": _densities(channel)} for channel in survey["intensity"]],
        air=AIR,
        samples=list(_samples(survey["samples"], root)),
    )


def _findings(survey: dict[str, Any]) -> Iterator[Finding]:
    for kind, title in TROUBLES.items():
        items = [f"{trouble['file']}: {trouble['what']}" for trouble in survey["troubles"] if trouble["kind"] == kind]
        yield Finding("stop", title, len(items), "", items)
    across = [_duplicate(group) for group in survey["duplicates"] if len(group["patients"]) > 1]
    within = [_duplicate(group) for group in survey["duplicates"] if len(group["patients"]) == 1]
    yield Finding(
        "look",
        "Slice that is the same in several patients",
        len(across),
        "A split by patient cannot keep such slices out of the validation.",
        across,
    )
    yield Finding("note", "Slice that is the same twice in one patient", len(within), "It weighs more.", within)
    yield Finding(
        "look",
        "Mask with values other than 0 and 255",
        len(survey["masks_of_other_values"]),
        f"Values above {TUMOR_ABOVE} are read as tumor.",
        [f"{mask['file']}: {mask['pixels']:,} px" for mask in survey["masks_of_other_values"]],
    )
    yield Finding(
        "look",
        "Slice of which all pixels are equal",
        len(survey["blank_slices"]),
        "Nothing can be learned from it.",
        survey["blank_slices"],
    )
    yield Finding(
        "look",
        "Gap in the slice numbers of a case",
        len(survey["gaps"]),
        "Neighbours in such a volume are no neighbours on the axis.",
        [f"{gap['case']}: {gap['first_missing']} to {gap['last_missing']}" for gap in survey["gaps"]],
    )
    yield Finding(
        "note",
        "Channel of a patient that is a copy of FLAIR",
        len(survey["copies_of_flair"]),
        "That sequence is missing, and FLAIR stands in its place: less than one grey level apart on average.",
        [f"{copy['patient']}: {copy['channel']}" for copy in survey["copies_of_flair"]],
    )
    yield Finding(
        "look",
        "Channel of a patient with a grey background",
        len(survey["grey_backgrounds"]),
        "Its air is not black, which shifts the mean that a slice is standardized by.",
        [f"{grey['patient']}: {grey['channel']}, {grey['level']}" for grey in survey["grey_backgrounds"]],
    )
    yield Finding(
        "look",
        "Picture that is not read",
        len(survey["unread_pictures"]),
        "Slices are <case>/<case>_<n>.tif; this is elsewhere, or of another format.",
        survey["unread_pictures"],
    )
    table = survey["patient_table"] or {"rows": 0, "wrong_rows": 0, "wrong_cases": [], "absent_cases": []}
    yield Finding(
        "look",
        "Case in data_mask.csv without a folder",
        len(table["absent_cases"]),
        "Part of the download may be missing.",
        [f"{case['case']}: {case['rows']:,} rows" for case in table["absent_cases"]],
    )
    yield Finding(
        "note",
        "Case to which data_mask.csv gives another patient",
        len(table["wrong_cases"]),
        f"patient_id disagrees with the folder in {table['wrong_rows']:,} of {table['rows']:,} rows. "
        "The folders are trusted: the patient is the first three words of a folder's name.",
        [f"{case['case']}: patient_id {', '.join(case['patient_ids'])}" for case in table["wrong_cases"]],
    )


def _duplicate(group: dict[str, Any]) -> str:
    return " = ".join(group["files"])


def _samples(names: Sequence[str], root: Path) -> Iterator[Sample]:
    files = {one.image.relative_to(root).as_posix(): one for one in find_slices(root)[0]} if names else {}
    for name in names:
        read = read_slice(files[name])
        if isinstance(read, list):
            continue
        image, values = read
        mask = (values > TUMOR_ABOVE).astype(np.uint8)
        panels = [brightened(image[..., channel]) for channel in range(len(CHANNELS))]
        flair = CHANNELS.index("FLAIR")
        panels[flair] = paint_mask(panels[flair], mask, color=TRUE, fill=0)
        yield Sample(Path(name).stem, int(mask.sum()), embed(np.hstack(panels)))


def _balance(cases: Sequence[dict[str, Any]]) -> Markup:
    """A bar a patient, from most slices to fewest: all its slices, and before them those with tumor."""
    cases = sorted(cases, key=lambda case: (-case["slices"], -case["tumor_slices"]))
    slices = Axis.over("slices", [0, *(case["slices"] for case in cases)])
    plot = Plot(Axis("patients", 0, max(len(cases), 1), ()), slices, label="Slices per patient", size=(1100, 260))
    for place, case in enumerate(cases):
        note = f"{case['patient']}: {case['tumor_slices']} of {case['slices']} slices with tumor"
        plot.bar(place, place + 1, case["slices"], ink="second", note=note)
        plot.bar(place, place + 1, case["tumor_slices"], note=note)
    return plot.svg()


def _histogram(name: str, of: str, values: Sequence[float], bins: int = 20) -> Markup:
    axis = Axis.over(name, [0, *values])
    counts, edges = np.histogram(values, bins=bins, range=(axis.low, axis.high))
    plot = Plot(axis, Axis.over(of, [0, *counts]), label=f"{name}, {of}")
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        plot.bar(low, high, count, note=f"{low:,.0f} to {high:,.0f}: {count}")
    return plot.svg()


def _densities(channel: dict[str, Any]) -> Markup:
    """How the values above air are spread, outside of the masks and inside."""
    low = AIR + 1
    values = [low + BIN * (index + 0.5) for index in range((256 - low) // BIN)]
    outside, inside = (_density(channel[f"counts_{where}_masks"][low:], len(values)) for where in ("outside", "inside"))
    shares = Axis.over(f"share of pixels per {BIN} values, %", [0, *outside, *inside])
    plot = Plot(Axis("value", 0, 255, (0, 50, 100, 150, 200, 250)), shares, label=f"Values in {channel['channel']}")
    plot.line(values, outside, ink="second")
    plot.line(values, inside)
    return plot.svg()


def _density(counts: Sequence[int], bins: int) -> list[float]:
    binned = np.reshape(counts[: bins * BIN], (bins, BIN)).sum(axis=1)
    shares: list[float] = (100 * binned / max(sum(counts), 1)).tolist()
    return shares
