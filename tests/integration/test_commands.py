"""`gliogate analyze` and `gliogate demo` on a real Triton."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.tiny_networks import slices
from support.waiting import wait_for

from gliogate.cli import main


@pytest.fixture
def scans(tmp_path) -> Path:
    """Two cases, one slice with tumor each and one without, masks beside them, and a file that is no picture."""
    folder = tmp_path / "scans"
    for case, scale in (("case_1", 1), ("case_2", 2)):
        (folder / case).mkdir(parents=True)
        for number, image in enumerate(slices(0.75, 0.25), start=9):
            picture = np.kron(image, np.ones((scale, scale, 1), np.uint8))
            cv2.imwrite(str(folder / case / f"slice_{number}.tif"), picture)
            cv2.imwrite(str(folder / case / f"slice_{number}_mask.tif"), picture[..., 1] * (number == 9))
    (folder / "case_2" / "slice_11.png").write_text("no picture")
    return folder


MANY = 2000
"""More than are done before Ctrl-C."""


@pytest.fixture
def many_scans(tmp_path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    np.save(folder / "scan_0.npy", slices(0.75)[0])
    for number in range(1, MANY):
        (folder / f"scan_{number}.npy").symlink_to(folder / "scan_0.npy")
    return folder


def test_analyze_writes_lines_masks_and_overlays(tiny_server, scans, tmp_path, capsys):
    lines, output = tmp_path / "lines.json", tmp_path / "out"

    code = main(["analyze", str(scans), "--url", tiny_server.url, "--json", str(lines), "--output", str(output)])

    assert code == 1  # For the file that is no picture.
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [Path(record["path"]).relative_to(scans).as_posix() for record in records] == [
        "case_1/slice_9.tif",
        "case_1/slice_10.tif",
        "case_2/slice_9.tif",
        "case_2/slice_10.tif",
        "case_2/slice_11.png",
    ]
    with_tumor, without, *_, broken = records
    assert (
        with_tumor.items()
        >= {
            "verdict": "tumor",
            "tumor_probability": 0.75,
            "tumor": True,
            "segmented": True,
            "area_px": 192 * 256,
            "certainty": 1.0,
            "needs_look": None,
            "bounding_box": {"x": 0, "y": 0, "width": 192, "height": 256},
            "mask": str(output / "case_1" / "slice_9_mask.png"),
            "error": None,
        }.items()
    )
    assert (
        without.items()
        >= {"verdict": "no tumor", "tumor": False, "segmented": False, "area_px": 0, "bounding_box": None}.items()
    )
    assert broken.items() >= {"verdict": None, "tumor": None, "tumor_probability": None, "mask": None}.items()
    assert "slice_11.png: is damaged, cut short, or no picture at all" in broken["error"]
    for record in records[:-1]:
        mask = cv2.imread(record["mask"], cv2.IMREAD_UNCHANGED)
        known = cv2.imread(record["path"].replace(".tif", "_mask.tif"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(mask, known)
        assert cv2.imread(record["mask"].replace("_mask.", "_overlay.")).shape == (*known.shape, 3)
    table = capsys.readouterr().out
    assert re.search(r"case_1/slice_9 .* 0\.750 .* tumor .* yes .* 49,152", table)
    assert re.search(r"case_1/slice_9 .* 49,152 +1\.00 ", table)
    assert "slice_11.png: is damaged" in table
    assert "5 scans, 2 with tumor, 1 failed" in table


def test_analyze_prints_only_lines_where_they_go_to_stdout(tiny_server, scans, capsys):
    arguments = ["--url", tiny_server.url, "--json", "-", "--gate", "always", "--mask-threshold", "0"]

    assert main(["analyze", str(scans / "case_1"), *arguments]) == 0

    output, error = capsys.readouterr()
    first, second = (json.loads(line) for line in output.splitlines())
    assert first["area_px"] == second["area_px"] == 256 * 256
    assert (second["verdict"], second["tumor"]) == ("undecided", None)
    assert error.startswith("2 scans")


def test_what_opens_the_gate_and_is_not_outlined_is_suspicious(tiny_server, tmp_path, capsys):
    np.save(tmp_path / "ill.npy", slices(0.75)[0])
    np.save(tmp_path / "odd.npy", slices(0)[0])
    np.save(tmp_path / "head.npy", slices(0, 0))
    paths, lines = [str(path) for path in tmp_path.glob("*.npy")], tmp_path / "lines.json"

    arguments = ["--url", tiny_server.url, "--detection-threshold", "0", "--mask-threshold", "1", "--json", str(lines)]
    assert main(["analyze", *paths, *arguments, "--output", str(tmp_path / "out")]) == 0

    told = capsys.readouterr().out
    assert re.search(r"^ *odd .* 0\.000 .* suspicious .* yes .* 0 ", told, re.MULTILINE)
    assert re.search(r"^ *head .* 0\.000 .* suspicious .* 0 .* 0 .* 2", told, re.MULTILINE)
    assert "2 scans, 1 with tumor, 1 suspicious, 1 to look at" in told
    assert "1 volumes, 0 with tumor, 1 suspicious, 1 to look at" in told
    records = {Path(record["path"]).stem: record for record in map(json.loads, lines.read_text().splitlines())}
    assert {name: record["verdict"] for name, record in records.items()} == {
        "ill": "tumor",
        "odd": "suspicious",
        "head": "suspicious",
    }
    assert records["odd"]["tumor"] is records["head"]["tumor"] is False
    with (tmp_path / "out" / "head_slices.csv").open(newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["suspicious"] * 2


def test_analyze_starts_a_server_for_itself_and_stops_it(tiny_repository, scans, tmp_path):
    copy = shutil.copytree(tiny_repository, tmp_path / "repository")
    command = [*GLIOGATE, "analyze", scans / "case_1", "--model-repository", copy]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert "2 scans, 1 with tumor" in done.stdout
    assert "slice_10 " in done.stdout
    assert done.stderr == ""
    assert not tritons_of(copy)


@pytest.fixture
def interrupted(tiny_server, tmp_path):
    """Analyzes until so many lines are written, then presses Ctrl-C; returns the run and the lines."""

    def run(*arguments: object, after: int) -> tuple[subprocess.CompletedProcess, list[dict]]:
        lines = tmp_path / "lines.json"
        command = [*GLIOGATE, "analyze", *arguments, "--url", tiny_server.url, "--json", lines, "--in-flight", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_for(lambda: lines.exists() and lines.read_text().count("\n") >= after)
                process.send_signal(signal.SIGINT)
                output, error = process.communicate(timeout=30)
            finally:
                process.kill()
        records = [json.loads(line) for line in lines.read_text().splitlines()]
        return subprocess.CompletedProcess(command, process.returncode, output, error), records

    return run


def test_ctrl_c_tells_what_was_done_of_the_scans(interrupted, many_scans, tmp_path):
    done, records = interrupted(many_scans, "--output", tmp_path / "out", after=3)

    assert (done.returncode, done.stderr) == (130, "")
    assert 3 <= len(records) < MANY
    *table, summed_up = done.stdout.splitlines()
    shown = [line for line in table if re.search(r"scan_\d+ .* 0\.750 .* tumor", line)]
    assert abs(len(shown) - len(records)) <= 1  # Ctrl-C may come between a line and its row.
    assert re.fullmatch(rf"{len(shown)} scans, .*, {MANY - len(shown)} not done", summed_up)
    assert all(Path(record["mask"]).is_file() for record in records)


def test_ctrl_c_tells_what_was_done_of_the_heads(interrupted, tmp_path):
    np.save(tmp_path / "head_0.npy", np.stack(slices(0.25, 0.75)))
    for number in range(1, MANY):
        (tmp_path / f"head_{number}.npy").symlink_to(tmp_path / "head_0.npy")

    done, records = interrupted(*tmp_path.glob("head_*.npy"), "--output", tmp_path / "out", after=2)

    assert (done.returncode, done.stderr) == (130, "")
    assert 2 <= len(records) < MANY
    *table, summed_up = done.stdout.splitlines()
    shown = [line for line in table if re.search(r"head_\d+ .* tumor", line)]
    assert abs(len(shown) - len(records)) <= 1
    assert re.fullmatch(rf"{len(shown)} volumes, {len(shown)} with tumor, {MANY - len(shown)} not done", summed_up)
    assert all(Path(file).exists() for record in records for file in record["files"].values())


def test_ctrl_c_keeps_the_lines_and_stops_the_server(tiny_repository, many_scans, tmp_path):
    copy = shutil.copytree(tiny_repository, tmp_path / "repository")
    command = [*GLIOGATE, "analyze", many_scans, "--model-repository", copy, "--json", "-", "--in-flight", "1"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            others, error = process.communicate(timeout=30)
        finally:
            process.kill()

    assert process.returncode == 130, error
    lines = [json.loads(line) for line in (first + others).splitlines()]
    assert 1 <= len(lines) < MANY
    assert re.fullmatch(r"\d+ scans, .*, \d+ not done\n", error)
    assert not tritons_of(copy)


def test_a_reader_that_leaves_is_no_traceback(tiny_server, scans):
    command = [*GLIOGATE, "analyze", scans, "--url", tiny_server.url, "--json", "-"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        error = process.stderr.read()

    assert process.returncode == 1
    assert error == ""


def test_the_demo_shows_phantoms_on_one_page(tiny_server, tmp_path, capsys):
    assert main(["demo", "--url", tiny_server.url, "--output", str(tmp_path / "demo")]) == 0

    page = (tmp_path / "demo" / "index.html").read_text()
    table = capsys.readouterr().out
    for number in range(12):
        assert f"phantom-{number:04}" in page
        assert f"phantom-{number:04}" in table
        assert (tmp_path / "demo" / f"phantom-{number:04}_overlay.png").is_file()
    assert page.count("Research use only; not a medical device") == 1
    assert page.count("data:image/webp;base64,") == 24
    assert not re.search(r"https?://|\$\w", page)
    assert table.count(" analyze ") == 1


def test_the_demo_measures_against_masks_that_are_known_and_escapes_names(tiny_server, tmp_path, capsys):
    folder = tmp_path / "a<b>&c"
    folder.mkdir()
    cv2.imwrite(str(folder / "t<i>.png"), slices(0.75)[0])
    cv2.imwrite(str(folder / "t<i>_mask.png"), slices(0.5)[0][..., 1])
    cv2.imwrite(str(folder / "[red]u.png"), slices(0.25)[0])
    cv2.imwrite(str(folder / "[red]u_mask.png"), np.zeros((9, 9), np.uint8))
    (folder / "broken.png").write_text("no picture")

    assert main(["demo", str(folder), "--url", tiny_server.url, "--output", str(tmp_path / "demo")]) == 1

    page = (tmp_path / "demo" / "index.html").read_text()
    table, error = capsys.readouterr()
    assert "t&lt;i&gt;" in page
    assert "<i>" not in page
    assert "a&lt;b&gt;&amp;c/broken.png: is damaged" in page
    assert re.search(r"t<i> .* 0\.750 .* 0\.800 ", table)  # 2 · 128 / (128 + 192)
    assert re.search(r"\[red\]u .* 0\.250 .* - ", table)
    assert "No Dice: " in error
    assert "[red]u.png: is (256, 256), the mask beside it (9, 9)" in error


GLIOGATE = [sys.executable, "-c", "import sys; from gliogate.cli import main; sys.exit(main())"]


def tritons_of(repository: Path) -> list[str]:
    """The processes that have a repository among their arguments, after a moment for the last to leave."""
    time.sleep(0.2)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"--model-repository={repository}".encode() in arguments:
            found.append(arguments.decode())
    return found
