"""The table and the page of a cohort."""

import csv
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

import pyarrow.parquet
import pytest

from gliogate.cohort import summing_up
from gliogate.cohort.results import Result
from gliogate.cohort.summing_up import sum_up
from gliogate.cohort.table import COLUMNS

ODD = ("<script>alert(1)</script>", "=1+1", "@sum", "-a", "a\nb", 'quo"te', "ü 頭", "\udcff", "javascript:x", "p/../q")


def found(**facts):
    slices = [
        {"slice": 0, "tumor_probability": 0.25, "tumor": False, "segmented": False, "area_px": 0},
        {"slice": 1, "tumor_probability": 0.75, "tumor": True, "segmented": True, "area_px": 9},
    ]
    usual = {"verdict": "tumor", "tumor_volume_ml": 1.5, "largest_diameter_mm": 12.0, "components": [{}]}
    return usual | {"slices": slices, "notes": ["a note"]} | facts


def keep(output, study, error=None, files=(), run="1", **facts):
    folder = output / study
    folder.mkdir(parents=True, exist_ok=True)
    result = {"study": study, "run": run, "error": error, "seconds": 2.5, "files": files, "found": None}
    (folder / "result.json").write_text(json.dumps(result | ({} if error else {"found": found(**facts)})))


def read_csv(output):
    with (output / "cohort.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_for_each_study(tmp_path):
    keep(tmp_path, "b.nii")
    keep(tmp_path, "a", error="broken")
    keep(tmp_path, "c", tumor_volume_ml=None, largest_diameter_mm=None, verdict="no tumor", agreement=0.5)
    known = {"tumor_volume_interval_ml": [1.25, 2.5], "certainty": 0.75, "needs_look": True}
    keep(tmp_path, "e", **known)

    sums = sum_up(["c", "b.nii", "a", "d", "e"], tmp_path, rename=True)

    assert str(sums) == "5 studies, 2 with tumor, 1 no tumor, 1 to look at, 1 failed, 1 not done"
    assert sums.errors == {"a": "broken"}
    rows = pyarrow.parquet.read_table(tmp_path / "cohort.parquet").to_pylist()
    empty = dict.fromkeys(COLUMNS)
    measured = {"components": 1, "slices": 2, "slices_with_tumor": 1, "tumor_probability": 0.75, "notes": "a note"}
    ill = {"verdict": "tumor", "tumor_volume_ml": 1.5, "largest_diameter_mm": 12.0, "seconds": 2.5}
    sure = {"tumor_volume_low_ml": 1.25, "tumor_volume_high_ml": 2.5, "certainty": 0.75, "needs_look": True}
    assert rows == [
        empty | {"study": "a", "error": "broken", "seconds": 2.5},
        empty | measured | ill | {"study": "b.nii"},
        # What another version told beside.
        empty | measured | {"study": "c", "verdict": "no tumor", "seconds": 2.5},
        empty | {"study": "d", "error": "not done"},
        empty | measured | ill | sure | {"study": "e"},
    ]
    told = [{name: value or None for name, value in row.items()} for row in read_csv(tmp_path)]
    assert told == [{name: None if value is None else str(value) for name, value in row.items()} for row in rows]


def test_a_study_is_suspicious_where_slices_were_detected_and_none_outlined(tmp_path):
    nothing = [{"slice": 0, "tumor_probability": 0.75, "tumor": True, "segmented": True, "area_px": 0}]
    keep(tmp_path, "a", verdict="suspicious", slices=nothing)
    keep(tmp_path, "before there was this verdict", verdict="tumor", slices=nothing)
    keep(tmp_path, "before there were verdicts", verdict=None, tumor=True, slices=nothing)
    keep(tmp_path, "clear", verdict="no tumor")
    keep(tmp_path, "ill")
    keep(tmp_path, "ill, of old", verdict=None, tumor=True)
    keep(tmp_path, "ill, without slices", slices=[])
    keep(tmp_path, "of tomorrow", verdict="<maybe>")
    studies = [path.name for path in tmp_path.iterdir()]

    sums = sum_up(studies, tmp_path, rename=True)

    assert str(sums) == "8 studies, 3 with tumor, 3 suspicious, 1 no tumor, 1 <maybe>, 3 to look at"
    assert [row["verdict"] for row in read_csv(tmp_path)][:3] == ["suspicious"] * 3
    page = (tmp_path / "cohort.html").read_text(encoding="utf-8")
    assert '<div class="tile suspicious"><b>3</b><span>suspicious</span></div>' in page
    assert page.count('<td class="verdict suspicious">suspicious</td>') == 3
    assert ".suspicious { color:" in page


def test_what_somebody_should_look_at_stands_out_on_the_page(tmp_path):
    keep(tmp_path, "certain", tumor_volume_interval_ml=[1.2, 1.8], certainty=0.954, needs_look=False)
    keep(tmp_path, "not certain", tumor_volume_interval_ml=[0.75, 3.0], certainty=0.614, needs_look=True)
    keep(tmp_path, "of old")
    sum_up(["certain", "not certain", "of old"], tmp_path, rename=True)

    page = (tmp_path / "cohort.html").read_text(encoding="utf-8")
    assert '<div class="tile look"><b>1</b><span>to look at</span></div>' in page
    assert page.count("<tr class=look>") == 1
    [certain, doubtful, old] = re.findall(r"<tr[^>]*><th scope=\"row\">.*</tr>", page)
    assert (
        '<td class=number data-key="1.2">1.2\N{EN DASH}1.8</td><td class=number data-key="0.954">0.95</td>' in certain
    )
    assert '<td class=number data-key="0"></td>' in certain
    assert '<td class=number data-key="1"><b class=look>look</b></td>' in doubtful
    assert doubtful.startswith("<tr class=look>")
    assert old.count("<td class=number>-</td>") == 3
    assert '<input type="checkbox" id="only">' in page
    assert re.search(r"tr:not\(\.look\) { display: none; }", page)


def test_nothing_to_look_at_takes_no_place_on_the_page(tmp_path):
    keep(tmp_path, "certain", certainty=0.95, needs_look=False)
    sums = sum_up(["certain"], tmp_path, rename=True)

    assert str(sums) == "1 studies, 1 with tumor"
    page = (tmp_path / "cohort.html").read_text(encoding="utf-8")
    assert 'id="only">' not in page
    assert "to look at</span>" not in page


def test_columns_keep_their_types_where_all_failed(tmp_path):
    keep(tmp_path, "a", error="broken")
    sum_up(["a"], tmp_path, rename=True)
    failed = pyarrow.parquet.read_schema(tmp_path / "cohort.parquet")
    keep(tmp_path, "a")
    sum_up(["a"], tmp_path, rename=True)

    assert failed == pyarrow.parquet.read_schema(tmp_path / "cohort.parquet")
    assert failed.names == list(COLUMNS)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"study": "a"}', b"\xff", b'{"study": "a", "error": null, "files": [], "found": 3}'],
    ids=range(7),
)
def test_a_result_that_is_broken_is_one_study_to_do(content, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "result.json").write_bytes(content)

    assert Result.read(tmp_path / "a") is None
    assert sum_up(["a"], tmp_path, rename=True).not_done == 1


def test_what_another_version_found_is_no_reason_to_fail(tmp_path):
    odd = {"slices": [None, {"area_px": None}], "components": "x", "notes": None, "verdict": 3, "certainty": "high"}
    odd |= {"tumor_volume_interval_ml": ["low", None], "needs_look": 1}
    keep(tmp_path, "a", **odd)

    assert sum_up(["a"], tmp_path, rename=True).errors == {}
    assert Result("a", "1", None, 0.0).is_settled("2")
    assert Result("a", "1", "broken", 0.0).is_settled("1")
    assert not Result("a", "1", "broken", 0.0).is_settled("2")


def test_a_spreadsheet_runs_no_name_as_a_formula(tmp_path):
    for name in ODD:
        keep(tmp_path, name.replace("/", "|"), error=f"={name}")
    sum_up([name.replace("/", "|") for name in ODD], tmp_path, rename=True)

    rows = read_csv(tmp_path)
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {"'=1+1", "'@sum", "'-a", "a\nb", "\\udcff"} <= {row["study"] for row in rows}
    exact = pyarrow.parquet.read_table(tmp_path / "cohort.parquet").column("study").to_pylist()
    assert {"=1+1", "@sum", "-a"} <= set(exact)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.attributes = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in ("href", "src")]


def test_the_page_shows_any_name_and_links_to_its_files(tmp_path):
    for name in ODD[:-1]:
        keep(tmp_path, name.replace("/", "|"), files=["files/a b#?.csv"])
        (tmp_path / name.replace("/", "|") / "files").mkdir()
        (tmp_path / name.replace("/", "|") / "files" / "a b#?.csv").touch()
    keep(tmp_path, "broken", error="<img src=x onerror=alert(2)>")
    sum_up(["broken", *(name.replace("/", "|") for name in ODD[:-1])], tmp_path, rename=True)

    page = Page()
    page.feed((tmp_path / "cohort.html").read_text(encoding="utf-8"))

    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert "onerror" not in page.attributes
    assert len(page.links) == len(ODD) - 1
    for link in page.links:
        assert link.startswith("./")
        assert (tmp_path / unquote_to_bytes(link).decode("utf-8", "surrogateescape")).exists()
    assert not re.search(r"https?://", (tmp_path / "cohort.html").read_text(encoding="utf-8"))


def test_a_cohort_of_many_has_a_page_that_opens(tmp_path, monkeypatch):
    monkeypatch.setattr(summing_up.page, "MAX_ROWS", 2)
    for name in "abc":
        keep(tmp_path, name, tumor_volume_ml=0.0)
    keep(tmp_path, "z", error="broken")
    sum_up([*"abcz"], tmp_path, rename=True)

    page = (tmp_path / "cohort.html").read_text(encoding="utf-8")
    assert page.count('<th scope="row">') == 2
    assert "2 of 4 are shown" in page
    assert '<th scope="row">z</th>' in page


def test_who_looked_too_early_looks_again(tmp_path, monkeypatch):
    """Another task ends its study, and writes the table, while this one writes its own."""
    keep(tmp_path, "a")
    write = summing_up._write

    def write_late(*arguments, **options):
        if not (tmp_path / "b" / "result.json").exists():
            keep(tmp_path, "b")
        return write(*arguments, **options)

    monkeypatch.setattr(summing_up, "_write", write_late)
    sums = sum_up(["a", "b"], tmp_path, rename=False)

    assert sums.not_done == 0
    assert [row["error"] for row in read_csv(tmp_path)] == ["", ""]
