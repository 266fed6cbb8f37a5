"""Tables and files of a report that is not whole, and of errors that look like markup."""

import io
import json

import pytest
from rich.console import Console

from benchmarks import report

ROW = {
    "name": "Triton, one fused ONNX graph",
    "engine": "onnxruntime",
    "kind": "gliogate",
    "prevalence": 0.35,
    "in_flight": 16,
    "images_per_s": 40.0,
    "images_per_s_range": [39.0, 41.0],
    "p50_ms": 300.0,
    "p99_ms": 600.0,
    "ratio_to_limit": None,
    "ratio_to_limit_range": None,
    "peak_mb": 900.0,
    "opened": 45,
    "slices": 96,
    "rounds": 1,
}


def document(*rows):
    machine = {"cpu": "a processor", "cores": 2}
    starts, savings = [], []
    return {
        "is_complete": False,
        "machine": machine,
        "slices": 96,
        "rounds": 1,
        "rows": [*rows],
        "savings": savings,
        "starts": starts,
    }


def shown(*rows):
    console = Console(file=io.StringIO(), width=report.WIDTH)
    report.show(document(*rows), console)
    return console.file.getvalue()


@pytest.mark.parametrize("error", ["no extra [serve]", "cannot open [/usr/lib/python]"])
def test_an_error_is_printed_as_it_is(error):
    assert f"FastAPI, ours: {error}" in shown({"name": "FastAPI", "engine": "ours", "kind": "peer", "error": error})


def test_what_is_piped_has_whole_names(capsys):
    report.show(document(ROW), report.terminal())

    assert "Triton, one fused ONNX graph" in capsys.readouterr().out


def test_an_interrupted_one_says_so_everywhere(tmp_path):
    report.write(document(ROW), tmp_path)
    report.draw(document(ROW), tmp_path)

    assert json.loads((tmp_path / "bench.json").read_text())["is_complete"] is False
    assert "Interrupted" in (tmp_path / "bench.html").read_text()
    assert "interrupted: not all was measured" in shown(ROW)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["bench.html", "bench.json"]


def test_one_without_any_row_is_written_too(tmp_path):
    report.write(document(), tmp_path)
    report.draw(document(), tmp_path)

    assert "interrupted" in shown()


def test_figures_outlive_a_page_that_cannot_be_drawn(tmp_path, caplog):
    broken = document(ROW) | {"rows": [{key: ROW[key] for key in ROW if key != "p50_ms"}]}
    report.write(broken, tmp_path)
    report.draw(broken, tmp_path)

    assert f"{tmp_path / 'bench.html'}: cannot be drawn" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
