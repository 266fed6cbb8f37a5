"""What an analysis says of its mask, and how it is painted."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from gliogate import Analysis, BoundingBox, Detection, Reliability, Scan, demo
from gliogate.contract import Verdict, verdict_of
from gliogate.overlays import KNOWN, paint_mask
from gliogate.runs import VERDICT_STYLES, Outcome, Row, print_table, summary

WORTH = Reliability(limit=0.8, certain=(0.9, 1.1), uncertain=(0.5, 2.0))


def analysis_of(mask: np.ndarray, *, detected: bool | None = True, **facts) -> Analysis:
    picture = np.zeros((*mask.shape, 3), np.uint8)
    picture[..., 1] = 100
    return Analysis(
        tumor_probability=0.9,
        detected=detected,
        segmented=True,
        mask=mask,
        mask_probability=None,
        picture=picture,
        latency_s=0.02,
        request_id="abc",
        **facts,
    )


def test_area_and_bounding_box():
    mask = np.zeros((50, 60), np.uint8)
    mask[10:20, 30:45] = 1

    analysis = analysis_of(mask)

    assert analysis.area_px == 150
    assert analysis.bounding_box == BoundingBox(x=30, y=10, width=15, height=10)


def test_an_empty_mask_has_no_bounding_box_and_leaves_the_overlay_grey():
    analysis = analysis_of(np.zeros((50, 60), np.uint8))

    assert analysis.area_px == 0
    assert analysis.bounding_box is None
    assert (analysis.overlay() == 100).all()


@pytest.mark.parametrize(
    ("detected", "outlined", "verdict", "tumor"),
    [
        (True, True, "tumor", True),
        (True, False, "suspicious", False),
        (False, False, "no tumor", False),
        (False, True, "no tumor", False),  # The gate was told `always`.
        (None, False, "undecided", None),
        (None, True, "undecided", None),
    ],
)
def test_the_verdict_is_of_what_was_detected_and_outlined(detected, outlined, verdict, tumor):
    analysis = analysis_of(np.full((5, 5), outlined, np.uint8), detected=detected)

    assert verdict_of(detected=detected, outlined=outlined) == analysis.verdict == verdict
    assert analysis.tumor is tumor


@pytest.mark.parametrize(("detected", "verdict"), [(True, "suspicious"), (False, "no tumor")])
def test_a_detection_outlines_nothing_so_it_never_says_tumor(detected, verdict):
    detection = Detection(tumor_probability=0.9, detected=detected, latency_s=0.02, request_id="abc")

    assert detection.verdict == verdict
    with pytest.warns(DeprecationWarning, match=r"use Detection\.detected"):
        assert detection.tumor is detected


def test_the_overlay_has_an_outline_a_translucent_fill_and_leaves_the_rest():
    mask = np.zeros((50, 60), np.uint8)
    mask[10:20, 30:45] = 1
    analysis = analysis_of(mask)

    overlay = analysis.overlay(color=(255, 0, 0), fill=0.5)

    assert overlay.shape == (50, 60, 3)
    assert overlay[10, 30].tolist() == [255, 0, 0]
    assert overlay[15, 40].tolist() == [177, 50, 50]
    assert overlay[0, 0].tolist() == [100, 100, 100]
    assert analysis.picture[15, 40].tolist() == [0, 100, 0]


def test_the_overlay_can_show_all_channels():
    assert analysis_of(np.zeros((5, 5), np.uint8)).overlay(channel=None)[0, 0].tolist() == [0, 100, 0]


def test_the_outline_of_a_mask_that_touches_the_border_is_closed_and_grows_with_the_picture():
    painted = paint_mask(np.zeros((512, 512, 3), np.uint8), np.ones((512, 512), np.uint8), color=KNOWN, fill=0)

    outline = (painted == KNOWN).all(axis=2)
    assert outline[:2].all()
    assert outline[:, -2:].all()
    assert not outline[2:-2, 2:-2].any()


def test_an_analysis_prints_without_its_pixels():
    assert "array" not in repr(analysis_of(np.zeros((50, 60), np.uint8)))


def test_the_demo_shows_what_is_suspicious_in_a_color_of_its_own():
    found = analysis_of(np.zeros((50, 60), np.uint8))
    outcome = Outcome(Scan(Path("odd.png"), Path("odd")), found)

    card = demo._card(outcome, None, Row.of(outcome))

    assert '<article class="suspicious look">' in card
    assert '<p class="look">look at this one</p>' in card
    assert '<span class="verdict suspicious">suspicious</span>' in card
    assert ".verdict.suspicious { color: var(--suspicious); }" in demo._page([card], [Row.of(outcome)])
    assert set(VERDICT_STYLES) == set(get_args(Verdict))
    assert len(set(VERDICT_STYLES.values())) == len(VERDICT_STYLES)


@pytest.mark.parametrize(
    ("certainty", "needs_look", "interval"),
    [(0.9, False, (90.0, 110.0)), (0.8, False, (90.0, 110.0)), (0.79, True, (50.0, 200.0))],
)
def test_a_mask_below_the_limit_of_its_version_is_to_be_looked_at(certainty, needs_look, interval):
    assert WORTH.needs_look(certainty) is needs_look
    assert WORTH.volume_interval(100, certainty) == pytest.approx(interval)
    outlined = analysis_of(np.ones((5, 5), np.uint8), certainty=certainty, reliability=WORTH)
    assert outlined.needs_look is needs_look


def test_an_empty_mask_is_to_be_looked_at_where_it_is_suspicious():
    empty = np.zeros((5, 5), np.uint8)

    assert WORTH.needs_look(None) is False
    assert analysis_of(empty, detected=False, reliability=WORTH).needs_look is False
    assert analysis_of(empty, reliability=WORTH).needs_look is True
    assert analysis_of(empty).needs_look is True


@pytest.mark.parametrize("facts", [{}, {"certainty": 0.5}, {"reliability": WORTH}])
def test_whether_to_look_is_unknown_where_the_server_does_not_know(facts):
    assert analysis_of(np.ones((5, 5), np.uint8), **facts).needs_look is None


def rows_of(*analyses: Analysis) -> list[Row]:
    return [
        Row.of(Outcome(Scan(Path(f"{name}.png"), Path(name)), each))
        for name, each in zip("abcd", analyses, strict=False)
    ]


def test_the_table_and_the_summary_say_what_to_look_at(capsys):
    outlined = np.ones((5, 5), np.uint8)
    rows = rows_of(
        analysis_of(outlined, certainty=0.914, reliability=WORTH),
        analysis_of(outlined, certainty=0.614, reliability=WORTH),
        analysis_of(np.zeros((5, 5), np.uint8), reliability=WORTH),
        analysis_of(outlined),
    )

    print_table(rows)

    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["a"] == ["a", "0.900", "tumor", "yes", "25", "0.91", "20"]
    assert lines["b"] == ["b", "0.900", "tumor", "yes", "25", "look", "0.61", "20"]
    assert lines["c"] == ["c", "0.900", "suspicious", "yes", "0", "look", "-", "20"]
    assert lines["d"] == ["d", "0.900", "tumor", "yes", "25", "-", "20"]
    assert summary(rows) == "4 scans, 3 with tumor, 1 suspicious, 2 to look at, median latency 20 ms"
    assert summary(rows[:1]) == "1 scans, 1 with tumor, median latency 20 ms"


@pytest.mark.parametrize(("certainty", "marked"), [(0.914, False), (0.614, True)])
def test_the_demo_shows_the_certainty_and_marks_what_to_look_at(certainty, marked):
    found = analysis_of(np.ones((50, 60), np.uint8), certainty=certainty, reliability=WORTH)
    outcome = Outcome(Scan(Path("a.png"), Path("a")), found)

    card = demo._card(outcome, None, Row.of(outcome))

    assert f"<dt>Certainty</dt><dd>{certainty:.2f}</dd>" in card
    assert ("look at this one" in card) is marked
    assert ('<article class="tumor look">' in card) is marked
