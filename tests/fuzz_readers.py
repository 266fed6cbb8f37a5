"""Breaks files until a reader of volumes breaks: `python tests/fuzz_readers.py -max_total_time=1200`, with atheris.

What is found goes to `build/fuzz`; `crash-*`, `oom-*` and `timeout-*` there are bugs. A file that is to be kept goes to
`tests/client/volumes/corpus`, where the tests read it: `python tests/fuzz_readers.py --keep FOUND…`.
"""

import sys
from pathlib import Path

import atheris

CHECKOUT = Path(__file__).parents[1]
FOUND = CHECKOUT / "build" / "fuzz"
KEPT = CHECKOUT / "tests" / "client" / "volumes" / "corpus"

LIMITS = ("-rss_limit_mb=6000", "-timeout=20", "-max_len=40000", f"-artifact_prefix={FOUND}/")

sys.path[:0] = [str(CHECKOUT / "tests"), str(CHECKOUT / "client")]
with atheris.instrument_imports(include=["gliogate.volumes", "gliogate.codestream", "pydicom", "nibabel"]):
    from support.broken_files import WHOLE, read_or_refuse

NAMES = sorted(WHOLE)


def split(data: bytes) -> tuple[str, bytes]:
    """The first byte says what kind of file the others are."""
    return NAMES[data[0] % len(NAMES)], data[1:]


def main() -> None:
    """Fuzzes, or keeps what was found."""
    if sys.argv[1:2] == ["--keep"]:
        KEPT.mkdir(exist_ok=True)
        for path in map(Path, sys.argv[2:]):
            name, content = split(path.read_bytes())
            (KEPT / f"{path.name[-8:]}-{name}").write_bytes(content)
        return
    seeds = FOUND / "corpus"
    seeds.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(NAMES):
        (seeds / name).write_bytes(bytes([index]) + WHOLE[name])
    folder = FOUND / "tried"
    folder.mkdir(exist_ok=True)

    def try_one(data: bytes) -> None:
        if data:
            name, content = split(data)
            path = folder / name
            path.write_bytes(content)
            read_or_refuse(path)

    atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[1:], str(seeds)], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
