"""What the command line says before any server is asked."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest
import trustme
from support.volume_files import axial_dicom_affine, make_instances, write_dicom, write_kaggle

from gliogate.cli import main
from gliogate.embedded import EmbeddedServer, find_model_repository
from gliogate.errors import EmbeddedServerError
from gliogate.pictures import write_png


@pytest.fixture
def scan(tmp_path) -> Path:
    cv2.imwrite(str(tmp_path / "scan.png"), np.zeros((8, 8, 3), np.uint8))
    return tmp_path / "scan.png"


def usage_error(capsys, *arguments: object) -> str:
    """Runs a command line that must be refused, and returns what it says."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    output, error = capsys.readouterr()
    assert output == ""
    return error


def test_help_and_version(capsys):
    for option in ("--help", "--version"):
        with pytest.raises(SystemExit, match="0"):
            main([option])
    text = capsys.readouterr().out

    assert "research use only" in text
    assert "gliogate 0." in text


def test_a_folder_without_scans(capsys, tmp_path):
    (tmp_path / "empty").mkdir()

    assert f"{tmp_path / 'empty'}: no scans in this folder" in usage_error(capsys, "analyze", tmp_path / "empty")


def test_what_was_mistyped_is_told_before_a_server_is_started(capsys, scan):
    for arguments in (["analyze", scan, "absent"], ["analyze", scan, "--pre", "absent"], ["demo", "absent"]):
        assert usage_error(capsys, *arguments) == "gliogate: error: absent: no such file or folder\n"
    assert "File name too long" in usage_error(capsys, "analyze", "a" * 300)


def test_outputs_that_cannot_be_written(capsys, scan):
    assert str(scan) in usage_error(capsys, "analyze", scan, "--output", scan)
    assert "nowhere" in usage_error(capsys, "analyze", scan, "--json", scan.parent / "nowhere" / "lines.json")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--detection-threshold", "1.5"], "1.5 is no probability, expected 0 to 1"),
        (["--mask-threshold", "nan"], "nan is no probability"),
        (["--gate", "ajar"], "invalid choice: 'ajar'"),
        (["--in-flight", "0"], "0 is not above 0"),
        (["--in-flight", "many"], "invalid int value: 'many'"),
        (["--in-flight", "129"], "--in-flight: in_flight is 129, expected a whole number from 1 to 128: one server"),
        (["--url", "triton.example:1", "--proxy", "http://p:1"], "which would see everything in clear text"),
        (["--url", "triton.example:1", "--proxy", "p:1", "--tls"], "the proxy p:1 is none that gRPC takes"),
        (["--timeout-s", "-1"], "-1 is not above 0"),
        (["--timeout-s", "100000"], "100000 is too large, expected at most 86400"),
        (["--url", "http://localhost:8000"], "expected HOST:PORT"),
        ([""], "argument PATH: expected a path, not an empty text"),
        (["--output", ""], "argument --output: expected a path, not an empty text"),
    ],
)
def test_options_with_values_that_none_can_have(capsys, scan, arguments, told):
    assert told in usage_error(capsys, "analyze", scan, *arguments)


def test_a_server_that_is_not_there(capsys, scan):
    assert main(["analyze", str(scan), "--url", "127.0.0.1:1"]) == 1

    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("gliogate: error: no Triton answers gRPC at 127.0.0.1:1")


def test_without_the_extra_the_error_says_what_to_install(capsys, scan, monkeypatch):
    monkeypatch.setitem(sys.modules, "gliogate.embedded", None)
    monkeypatch.delattr("gliogate.embedded", raising=False)

    assert main(["analyze", str(scan)]) == 1
    assert main(["serve"]) == 1

    assert capsys.readouterr().err.count("pip install 'gliogate[embedded]'") == 2


def test_a_file_made_of_rgb_is_written_in_that_order(tmp_path):
    write_png(tmp_path / "red.png", np.full((2, 2, 3), (255, 0, 0), np.uint8))

    assert cv2.imread(str(tmp_path / "red.png"))[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "bmp"], "'bmp' is no format, expected of mask, overlays, nifti, dicom-seg, montage, csv, json"),
        (["--format", "nifti"], "--format nifti is for volumes, and there are none among the paths"),
        (["--format", "mask"], "--format is of files: say with --output where they go"),
        (["--series", "7"], "--series: for volumes, and the paths hold none"),
        (["--volume", "--window"], "--volume and --window: for volumes, and the paths hold none"),
        (["--min-component-ml", "0.1"], "--min-component-ml: for volumes, and the paths hold none"),
        ([__file__, "--pre", __file__], "--pre and --post go with one PATH"),
        (["--volume", "--series", "a", "--series", "b"], "--series: several, expected each of pre, flair, post once"),
        (["--series", "pre=a", "--series", "pre=b"], "--series: several, expected each"),
        (["--ca", "ca.pem"], "TLS, tokens and proxies are for a running server: name it with --url"),
        (["--url", "a:1", "--ca", "absent.pem"], "absent.pem: cannot be used for TLS"),
        (["--url", "a:1", "--tls", "--token-file", "absent"], "absent"),
        (["--url", "a:1", "--token-file", __file__], "a token goes over TLS only"),
        (["--url", "a:1", "--tls", "--token-file", __file__], "the token cannot be sent: expected printable ASCII"),
        (["--header", "x-site=Süd"], "the value of metadata 'x-site' cannot be sent"),
        (["--url", "a:1", "--cert", "c.pem"], "a certificate and its private_key go together"),
        (["--header", "x-site"], "'x-site' is no header, expected NAME=VALUE"),
        (["--header", "X Site=1"], "metadata 'X Site': expected lower-case"),
        (["--attempts", "9"], "attempts is 9, expected 1 to 5"),
    ],
)
def test_options_that_go_with_nothing_are_refused_before_anything_is_asked(capsys, scan, arguments, told):
    assert told in usage_error(capsys, "analyze", scan, *arguments)


def test_the_environment_names_the_server_where_no_option_does(capsys, scan, monkeypatch):
    monkeypatch.setenv("GLIOGATE_URL", "127.0.0.1:1")

    assert main(["analyze", str(scan)]) == 1

    assert "no Triton answers gRPC at 127.0.0.1:1" in capsys.readouterr().err


def test_what_an_earlier_run_found_stays_until_the_server_answers(scan, triton, tmp_path):
    lines = tmp_path / "lines.json"
    lines.write_text("found\n")

    assert main(["analyze", str(scan), "--url", "127.0.0.1:1", "--json", str(lines)]) == 1
    assert lines.read_text() == "found\n"
    assert main(["analyze", str(scan), "--url", triton.url, "--json", str(lines)]) == 0
    assert json.loads(lines.read_text())["path"] == str(scan)


def test_a_name_that_is_no_text_ends_no_run(capsys, triton, tmp_path):
    folder = tmp_path / os.fsdecode(b"gr\xfc\xdfe")
    folder.mkdir()
    cv2.imwrite(str(tmp_path / "scan.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "scan.png").rename(folder / "scan.png")
    np.save(folder / "head.npy", np.zeros((3, 8, 8), np.uint8))
    paths, options = [str(folder / "scan.png"), str(folder / "head.npy")], ["--url", triton.url]

    assert main(["analyze", *paths, *options, "--output", str(tmp_path / "out"), "--json", str(tmp_path / "l")]) == 0
    assert main(["info", *paths]) == 0
    assert r"gr\udcfc\udcdfe" in capsys.readouterr().out
    assert main(["analyze", *paths, *options, "--json", "-"]) == 0

    for lines in ((tmp_path / "l").read_text(), capsys.readouterr().out):
        assert [json.loads(line)["path"] for line in lines.splitlines()] == paths


def test_a_file_that_cannot_be_written_costs_only_itself(capsys, triton, tmp_path):
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
        np.save(tmp_path / f"head_{name}.npy", np.zeros((3, 8, 8), np.uint8))
    out, inputs = tmp_path / "out", sorted(tmp_path.iterdir())
    for taken in ("a_mask.png", "head_a.json"):
        (out / taken).mkdir(parents=True)

    assert main(["analyze", *map(str, inputs), "--url", triton.url, "--output", str(out), "--json", "-"]) == 1

    first, second, head, other = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["error"] == f"{out / 'a_mask.png'}: Is a directory"
    assert (first["verdict"], first["tumor"], first["mask"]) == ("no tumor", False, None)
    assert head["error"] == f"{out / 'head_a.json'}: Is a directory"
    assert head["tumor"] is False
    assert (set(head["files"]), set(other["files"])) == (
        {"nifti", "montage", "csv"},
        {"nifti", "montage", "csv", "json"},
    )
    assert second["error"] is other["error"] is None
    assert {path.name for path in out.glob("[ab]_*")} == {"a_mask.png", "a_overlay.png", "b_mask.png", "b_overlay.png"}


def test_no_output_among_the_pictures_of_a_head(capsys, tmp_path):
    case = write_kaggle(tmp_path / "case", np.zeros((3, 8, 9, 3), np.uint8), np.zeros((3, 8, 9), np.uint8))

    for output in (case, case / "out"):
        told = usage_error(capsys, "analyze", case, "--volume", "--output", output)
        assert f"--output {output} lies in {case}, all of whose pictures are one head" in told


@pytest.fixture
def guarded(triton_of, tmp_path):
    """A server that wants a certificate of its authority, and a token; and the options that let one in."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "token").write_text("open sesame\n")
    pair = (certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())
    triton = triton_of(grpc.ssl_server_credentials([pair]))
    triton.token = "open sesame"  # noqa: S105
    options = ["--url", triton.url, "--ca", str(tmp_path / "ca.pem"), "--token-file", str(tmp_path / "token")]
    return triton, options


def test_a_server_behind_tls_and_a_token(capsys, scan, guarded):
    triton, options = guarded

    code = main(["analyze", str(scan), *options, "--header", "x-site=ward-3", "--compression", "gzip", "--json", "-"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["tumor"] is False
    assert triton.metadata[0]["x-site"] == "ward-3"


def test_a_token_that_lets_nobody_in_is_told(capsys, scan, guarded, tmp_path):
    _, options = guarded
    (tmp_path / "token").write_text("expired")

    assert main(["analyze", str(scan), *options]) == 1
    assert main(["doctor", *options]) == 1

    output, error = capsys.readouterr()
    assert "does not let this client in" in error
    assert re.search(r"^failed .*does not let this client in", output, re.MULTILINE)


def test_attempts_are_as_many_as_are_asked_for(scan, triton):
    triton.failures = 1000

    assert main(["analyze", str(scan), "--url", triton.url, "--attempts", "2"]) == 1

    assert len(triton.requests) == 2


def test_doctor_tells_what_is_absent_from_what_is_broken(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    (tmp_path / "openjpeg.py").write_text("raise OSError('libopenjp2.so is missing')")
    monkeypatch.delitem(sys.modules, "openjpeg", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    assert main(["doctor", "--url", "127.0.0.1:1"]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok      gliogate        0.")
    assert "absent  extra nifti     nibabel not installed" in lines
    assert any(line.startswith("failed  extra dicom     openjpeg cannot be imported (libopenjp2.so") for line in lines)
    assert any(line.startswith("failed  server 127.0.0.1:1 no Triton answers gRPC") for line in lines)
    # One command, with what is there, too.
    assert [line for line in lines if "pip install" in line] == lines[-1:]
    assert lines[-1].endswith(": pip install 'gliogate[cohort,dicom,embedded,nifti,otel]'")


def test_doctor_without_a_server_is_well(capsys, monkeypatch):
    monkeypatch.setenv("GLIOGATE_URL", "")  # As good as unset.
    monkeypatch.setattr("gliogate.cli.doctor.DEFAULT_URL", "127.0.0.1:1")

    assert main(["doctor"]) == 0

    assert "absent  server 127.0.0.1:1 none here: `gliogate serve` starts one" in capsys.readouterr().out


def test_doctor_says_which_models_would_be_served(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("gliogate.cli.doctor.DEFAULT_URL", "127.0.0.1:1")

    assert main(["doctor"]) == 0
    assert main(["doctor", "--model-repository", str(tmp_path)]) == 1

    ours, theirs = re.findall(r"^(.*?) +models +(.*)$", capsys.readouterr().out, re.MULTILINE)
    assert ours[0] == "ok"
    assert re.fullmatch(r"the checkout's, version \d+, .*/model_repository", ours[1])
    assert theirs == ("failed", f"the model repository {tmp_path} lacks tumor_detector/config.pbtxt")


def test_doctor_finds_a_numpy_that_triton_cannot_take(capsys, monkeypatch, tmp_path):
    """A later release is found first, as pip would have left it."""
    monkeypatch.setattr("gliogate.cli.doctor.DEFAULT_URL", "127.0.0.1:1")
    (tmp_path / "numpy-2.4.6.dist-info").mkdir()
    (tmp_path / "numpy-2.4.6.dist-info" / "METADATA").write_text("Metadata-Version: 2.4\nName: numpy\nVersion: 2.4.6\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert main(["doctor"]) == 1

    command = "pip install 'gliogate[cohort,dicom,embedded,nifti,otel]'"
    told = f"the embedded Triton needs NumPy 1, and 2.4.6 is installed: {command}"
    assert f"failed  extra embedded  {told}" in capsys.readouterr().out.splitlines()
    with pytest.raises(EmbeddedServerError) as error:
        EmbeddedServer(find_model_repository()).start()
    assert str(error.value) == told


def test_info_says_how_a_volume_would_be_read(capsys, tmp_path):
    head, affine = axial_dicom_affine()
    write_dicom(tmp_path / "study", make_instances(head, affine))

    assert main(["info", str(tmp_path / "study")]) == 0
    assert main(["info", str(tmp_path / "study"), "--json", "-"]) == 0

    output = capsys.readouterr().out
    told, record = output[: output.index("{")], json.loads(output[output.index("{") :])
    assert f"{tmp_path / 'study'} volume" in told
    assert re.search(r"size +8 x 36 x 40", told)
    assert re.search(rf"read from +{re.escape(record['series'][0])}", told)
    assert re.search(r"spacing +0\.9 x 0\.8 x 5 mm", told)
    assert re.search(r"note +.*FLAIR stands in for pre-contrast and post-contrast", told)
    assert record["kind"] == "volume"
    assert (record["plane"], record["shape"], record["sequences"]) == ("axial", [8, 36, 40], ["FLAIR"])


def test_info_says_how_pictures_would_be_read_and_what_cannot_be(capsys, tmp_path):
    (tmp_path / "broken.nii").write_bytes(b"no")
    cv2.imwrite(str(tmp_path / "scan.png"), np.zeros((8, 8, 3), np.uint8))
    np.save(tmp_path / "head.npy", np.zeros((5, 8, 9), np.uint8))
    np.save(tmp_path / "slice.npy", np.zeros((8, 9), np.uint16))
    names = ("", "scan.png", "slice.npy", "head.npy", "broken.nii", "absent.png")

    assert main(["info", *(str(tmp_path / name) for name in names), "--json", "-"]) == 1

    folder, picture, grey, head, broken, absent = map(json.loads, capsys.readouterr().out.splitlines())
    # The folder has a NIfTI file, so it is a volume, and a broken one.
    assert (folder["kind"], picture["kind"], grey["kind"], head["kind"]) == ("volume", "picture", "picture", "volume")
    assert (picture["shape"], grey["dtype"], head["shape"]) == ([8, 8, 3], "uint16", [5, 8, 9])
    assert "broken.nii" in broken["error"]
    assert absent["error"].endswith("absent.png: No such file or directory")


def test_a_folder_of_pictures_is_a_volume_only_where_it_is_said_to_be(capsys, tmp_path):
    write_kaggle(tmp_path / "case", np.zeros((3, 8, 9, 3), np.uint8), np.zeros((3, 8, 9), np.uint8))

    assert main(["info", str(tmp_path / "case")]) == 0
    assert main(["info", str(tmp_path / "case"), "--volume"]) == 0

    output = capsys.readouterr().out
    assert re.search(r"case pictures\n +pictures +3\n +note +analyzed one by one", output)
    assert re.search(r"case volume\n +size +3 x 8 x 9", output)


def test_info_says_what_means_nothing_for_a_picture_and_goes_on_past_what_cannot_be_looked_at(capsys, scan):
    assert main(["info", "a" * 300, str(scan), "--series", "3", "--volume", "--json", "-"]) == 1

    unknown, picture = map(json.loads, capsys.readouterr().out.splitlines())
    assert unknown["error"].endswith(": File name too long")
    assert picture["notes"] == ["--volume and --series: for volumes, which this is not"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_the_commands_and_the_shell_takes_it(capsys, shell, tmp_path):
    assert main(["completion", shell]) == 0

    script = capsys.readouterr().out
    assert all(word in script for word in ("analyze", "doctor", "--min-component-ml", "--format"))
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_the_shell_completes_a_command(capsys):
    main(["completion", "bash"])
    script = capsys.readouterr().out
    ask = "COMP_WORDS=(gliogate do); COMP_CWORD=1; _shtab_gliogate; echo ${COMPREPLY[@]}"

    told = subprocess.run(["bash"], input=f"{script}\n{ask}\n", capture_output=True, text=True, check=True)

    assert told.stdout.split() == ["doctor"]
