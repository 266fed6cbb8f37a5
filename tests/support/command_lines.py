"""Command lines that nobody would think of, and what a command may do with one."""

import contextlib
import io
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
from support.broken_files import WHOLE
from support.tiny_networks import slices

from gliogate.cli import main
from gliogate.pictures import encode

EXIT_CODES = (0, 1, 2, 75)

# No null character: no system hands one to a program.
JUNK = (
    *(
        "",
        " ",
        "-",
        "--",
        "-1",
        "0",
        "1",
        "1e9",
        "1e-320",
        "nan",
        "inf",
        "-inf",
        "9" * 40,
        "٣",
        "½",
        "0x10",
        "1_0",
        "true",
        "None",
    ),
    *(
        "ü",
        "頭",
        "\udcff",
        "\n",
        "\t",
        "\x1b[2J",
        "\u202e",
        "x" * 300,
        "$(id)",
        "`id`",
        "%s",
        "{0}",
        "[/]",
        "'",
        '"',
        "\\",
    ),
    *("=", "a=", "=b", "a=b", "a=\udcff", "A=b", ",", ",,", ";", ":", "::", "/", "//", ".", "*", "?", "~", "@absent"),
)
URLS = (
    "127.0.0.1:9",
    "[::1]:9",
    "127.0.0.1:9,127.0.0.2:9",
    "ipv4:1",
    "127.0.0.1:99999",
    "unix:x",
    "127.0.0.1",
    ":",
    "[::]:0",
)
PROXIES = (
    "environment",
    "http://127.0.0.1:9",
    "http://a:b@127.0.0.1:9",
    "https://127.0.0.1:9",
    "127.0.0.1:9",
    "http://[",
)
PATHS = ("scan.png", "grey.npy", "scans", "empty", "absent", "broken.png", "odd \udcff\n.png", "loop", *WHOLE)
OUTPUTS = ("out", "out/a/b", "file", "file/x")
LINES = ("lines", "-", "out", "absent/lines", "file/x")
FORMATS = ("mask", "overlays", "nifti", "dicom-seg", "montage", "csv", "json", "mask,json", "csv,csv", ",", "jpeg")
NUMBERS = ("0", "1", "4", "16", "128", "129", "0.5", "1.0", "-1", "1e3", "2e5")

SERVER = {
    "--url": URLS,
    "--model-repository": ("absent", "scans"),
    "--tls": None,
    "--ca": PATHS,
    "--cert": PATHS,
    "--key": PATHS,
    "--server-name": ("triton",),
    "--token-file": PATHS,
    "--header": ("a=b", "A=b", "grpc-x=1", "x"),
    "--proxy": PROXIES,
    "--compression": ("gzip", "deflate", "zip"),
    "--attempts": NUMBERS,
}
VOLUMES = {
    "--volume": None,
    "--series": ("flair=1", "1", "pre=1", "flair=", "x"),
    "--window": None,
    "--pre": PATHS,
    "--post": PATHS,
}
COMMANDS = {
    "analyze": SERVER
    | VOLUMES
    | {
        "--output": OUTPUTS,
        "--format": FORMATS,
        "--json": LINES,
        "--detection-threshold": NUMBERS,
        "--mask-threshold": NUMBERS,
        "--gate": ("auto", "always", "never", "ajar"),
        "--timeout-s": NUMBERS,
        "--in-flight": NUMBERS,
        "--min-component-ml": NUMBERS,
    },
    "cohort": SERVER
    | {
        "--output": OUTPUTS,
        "--studies": ("*", "*/*", "**", "..", "empty", "*.dcm"),
        "--workers": NUMBERS,
        "--format": FORMATS,
        "--json": LINES,
        "--gate": ("auto", "ajar"),
        "--in-flight": NUMBERS,
        "--study-s": ("1e3", "0", "nan"),
        "--run-name": ("a", ""),
        "--no-rename": None,
        "--window": None,
        "--min-component-ml": NUMBERS,
    },
    "info": VOLUMES | {"--json": LINES},
    "demo": SERVER | {"--output": OUTPUTS},
    "doctor": SERVER,
    "completion": {},
}
WEIGHTS = {"analyze": 8, "cohort": 2, "info": 8, "demo": 1, "doctor": 1, "completion": 1}
POSITIONAL = {"completion": ("bash", "zsh", "tcsh", "fish"), "cohort": ("heads", "heads", "scans", "empty", "absent")}


def draw(chance: random.Random) -> list[str]:
    """A command line: mostly options that the command has, with values that may suit, and now and then anything."""
    (command,) = chance.choices(list(COMMANDS), [WEIGHTS[name] for name in COMMANDS])
    options = COMMANDS[command]
    words: list[str] = []
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3, 5))):
        if not options:
            break
        name = chance.choice(list(options))
        values = options[name]
        value = _or_junk(chance, values or ("",), 0.1)
        if chance.random() < 0.1:
            name = name[: chance.randrange(2, len(name) + 1)]  # argparse takes what is unambiguous.
        joined = [f"{name}={value}"] if chance.random() < 0.3 else [name, value]
        words += joined if values or chance.random() < 0.05 else [name]
    for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 2, 3))):
        value = chance.choice(POSITIONAL.get(command, PATHS))
        words.insert(chance.choice((0, len(words))), _or_junk(chance, (value,), 0.1))
    # It needs an output, and would wait for who is nowhere.
    words = [command, *(["--output", "out", "--ready-s", "0.1"] if command == "cohort" else []), *words]
    while chance.random() < 0.15:
        place = chance.randrange(len(words))
        change = chance.randrange(4)
        if change == 0:
            words.insert(place, chance.choice(JUNK))
        elif change == 1 and len(words) > 1:
            del words[place]
        elif change == 2:
            words.insert(place, chance.choice(("-h", "--help", "--version", "--", *SERVER)))
        else:
            words[place] += chance.choice(JUNK)
    return words


def _or_junk(chance: random.Random, values: tuple[str, ...], share: float) -> str:
    return chance.choice(JUNK if chance.random() < share else values)


class Workplace:
    """Inputs in a folder that is the current one, and a server for whoever names none."""

    def __init__(self, folder: Path, url: str) -> None:
        picture = encode(slices(0.75)[0], ".png")
        self._inputs = dict(WHOLE) | {"scan.png": picture, "odd \udcff\n.png": picture, "broken.png": picture[:50]}
        self._inputs |= {"scans/1.png": picture, "scans/2.png": encode(slices(0.25)[0], ".png"), "file": b"no folder"}
        self._inputs |= {f"heads/{name}": WHOLE[name] for name in ("head.nii", "head.npy", "jls.dcm", "study.zip")}
        self._folder, self._url = folder, url

    @contextmanager
    def entered(self) -> Iterator[Self]:
        """In it."""
        self._folder.mkdir(parents=True)
        with contextlib.chdir(self._folder), _set("GLIOGATE_URL", self._url):
            self.tidy()
            yield self

    def tidy(self) -> None:
        """Everything is as it was at the beginning."""
        for path in self._folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        for name in ("heads", "scans", "empty"):
            (self._folder / name).mkdir()
        for name, content in self._inputs.items():
            (self._folder / name).write_bytes(content)
        np.save(self._folder / "grey.npy", np.zeros((32, 32), np.uint8))
        (self._folder / "loop").symlink_to("loop")
        self._before = self._contents()

    def _contents(self) -> dict[Path, tuple[int, int]]:
        return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in self._folder.parent.rglob("*")}

    def fault_of(self, words: list[str]) -> str | None:
        """Runs a command line; what is wrong with how it ended and what it left, or None."""
        fault = _fault_of(words)
        after = self._contents()
        if after == self._before:
            return fault
        self.tidy()
        # What was told to write may have been told to write anywhere here; a page has a place of its own.
        may_write = any(word.startswith(("--j", "--o")) for word in words) or "demo" in words
        beside = {path for path in after if not path.is_relative_to(self._folder)} - set(self._before)
        return fault or (f"wrote {sorted(beside)}" if beside else None if may_write else "wrote")


@contextmanager
def _set(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _fault_of(words: list[str]) -> str | None:
    output, error = (io.TextIOWrapper(io.BytesIO(), "utf-8", "strict", write_through=True) for _ in range(2))
    error.reconfigure(errors="backslashreplace")
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
            code = main(words)
    except SystemExit as ended:
        code = ended.code
    except BaseException as exception:  # Whatever it is, it is a fault.
        return f"{type(exception).__name__}: {exception}"
    told = (output.buffer.getvalue() + error.buffer.getvalue()).decode(errors="replace")
    if code not in EXIT_CODES:
        return f"exit code {code}"
    if code and not told.strip():
        return f"exit code {code} without a word"
    return "a traceback" if "Traceback" in told else None
