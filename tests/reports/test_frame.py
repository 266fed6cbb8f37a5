"""The frame of every page: what is put in is escaped, nothing is left out, and figures outlive a page that fails."""

import pytest
from jinja2 import UndefinedError

from reports.frame import NONE, number, percent, percents, render, span, write_page


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "page.html"
    path.write_text('{% extends "frame.html" %}{% block main %}<p>{{ text }}, {{ share | percent }}</p>{% endblock %}')
    return path


def test_a_page_is_one_file_that_needs_nothing_else(template):
    page = render(template, text="<script>", share=0.5)
    assert "<p>&lt;script&gt;, 50.0%</p>" in page
    assert "svg.plot" in page, "the style is inside"
    assert not any(outside in page for outside in ("<script", "<link", "@import", "url(", "src="))
    assert page.lower().count("research use only") == 1


def test_to_leave_anything_out_is_an_error(template):
    with pytest.raises(UndefinedError, match="share"):
        render(template, text="")


def test_figures_that_are_not_defined_are_a_dash():
    assert [number(None), number(float("nan")), percent(None), span((None, None))] == [NONE] * 4
    assert [number(1234), number(0.12345), percents((0.5, 0.75)), span((0.5, 0.75))] == [
        "1,234",
        "0.123",
        "50.0% to 75.0%",
        "0.500 to 0.750",
    ]


def test_a_page_that_cannot_be_drawn_is_told_in_a_line_and_none_of_others_is_left(tmp_path, caplog):
    path = write_page(tmp_path / "report.html", lambda: "of before")
    assert path.read_text() == "of before"
    assert write_page(path, lambda: str(1 / 0)) is None
    [told] = caplog.messages
    assert told.startswith(f"{path}: cannot be drawn")
    assert told.endswith("ZeroDivisionError: division by zero")
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_that_is_no_unicode_is_no_obstacle(tmp_path):
    assert write_page(tmp_path / "page.html", lambda: "a\udcff").read_text() == "a?"


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/page\.html"):
        write_page(tmp_path / "nowhere" / "page.html", lambda: "")
