"""Files, folders and texts with every name that a file system lets one have."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.tiny_networks import slices

from gliogate.cli import main
from gliogate.pictures import encode

NAMES = (
    b"a b",
    "müller 頭".encode(),
    b"no text \xff\xfe",
    b"new\nline\ttab\rreturn",
    b"$(touch OWNED) `touch OWNED`; touch OWNED",
    b"<script>alert(1)<b>&amp;",
    b"quo\"te's",
    b"-dash",
    b"steers\x1b[2J\x1b]0;title\x07",
    "right\u202eleft".encode(),
    b"[bold]x[bold] {y} %s %20 a#b?c*~",
    b"=cmd|calc,a;b",
    b"x" * 200,
)


@pytest.fixture(params=NAMES, ids=ascii)
def odd(request, tmp_path, monkeypatch) -> Path:
    """A folder of the name that holds a scan and a head of the name; work is done elsewhere."""
    name = os.fsdecode(request.param)
    folder = tmp_path / name
    for kind in ("scans", "head"):
        (folder / kind).mkdir(parents=True)
    (folder / "scans" / f"{name}.png").write_bytes(encode(slices(0.75)[0], ".png"))
    np.save(folder / "head" / f"{name}.npy", np.stack(slices(0.75, 0.25)))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_every_command_takes_them_and_steers_no_terminal(tiny_server, odd, capsys):
    (scan,), (head,) = (odd / "scans").iterdir(), (odd / "head").iterdir()
    broken = odd / "broken.png"
    broken.write_text("no picture")
    lines, out, asked = odd / "lines", odd / "out", ["--url", tiny_server.url]
    told = ["--output", str(out), "--json", str(lines)]

    assert main(["analyze", *asked, *told, "--", str(odd / "scans"), str(head)]) == 0
    of_scan, of_head = (json.loads(line) for line in lines.read_text().splitlines())
    assert main(["analyze", *asked, "--", str(broken)]) == 1
    assert main(["analyze", *asked, "--output", str(scan), "--", str(scan)]) == 2
    assert main(["info", "--", str(odd / "scans"), str(head), str(scan)]) == 0
    assert main(["info", f"--series={odd.name}", "--", str(head)]) == 1
    assert main(["demo", *asked, "--output", str(out), "--", str(odd / "scans")]) == 0
    output, error = capsys.readouterr()

    assert Path(of_scan["path"]) == scan
    assert Path(of_head["path"]) == head
    assert all(Path(file).exists() for file in (of_scan["mask"], *of_head["files"].values()))
    assert all(character.isprintable() or character == "\n" for character in output + error)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert not list(Path.cwd().iterdir())


def test_a_terminal_shows_progress_under_names_that_look_like_markup(tiny_server, tmp_path):
    heads = [tmp_path / "x[" / "bold].npy", tmp_path / "y.npy"]
    heads[0].parent.mkdir()
    for head in heads:
        np.save(head, np.stack(slices(0.75, 0.25)))
    ours, its = pty.openpty()
    code = "import sys; from gliogate.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "analyze", "--url", tiny_server.url, *heads]

    with os.fdopen(its), os.fdopen(ours):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=its, text=True, timeout=60, check=False)

    assert done.returncode == 0
    assert "2 volumes, 2 with tumor" in done.stdout
