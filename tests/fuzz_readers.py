"""Breaks files until a reader of volumes breaks: `python -m tests.fuzz_readers --seconds 1200`, with atheris.

What is found goes to `build/fuzz`; `crash-*`, `oom-*` and `timeout-*` there are bugs. A file that is to be kept goes to
`tests/client/volumes/corpus`, where the tests read it: `python -m tests.fuzz_readers --keep FOUND…`.
"""

import math
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
KEPT = TESTS / "client" / "volumes" / "corpus"

sys.path[:0] = [str(TESTS), str(TESTS.parent / "client")]
from support.fuzzing import FOUND, Run  # noqa: E402  it lies beside this file

LIMITS = ("-rss_limit_mb=6000", "-timeout=20", "-max_len=40000", f"-artifact_prefix={FOUND}/", "-print_final_stats=1")
BUGS = "crash-*", "oom-*", "timeout-*"
ENGINE = "--engine"
"""What has this process be the fuzzer itself, which ends at the first bug."""


def names() -> list[str]:
    """The kinds of files; the first byte of an input says which it is."""
    from support.broken_files import WHOLE

    return sorted(WHOLE)


def split(data: bytes) -> tuple[str, bytes]:
    """The first byte says what kind of file the others are."""
    kinds = names()
    return kinds[data[0] % len(kinds)], data[1:]


def fuzz(*options: str) -> None:
    """Breaks files until one is found, with libFuzzer's options."""
    import atheris

    with atheris.instrument_imports(include=["gliogate.volumes", "gliogate.codestream", "pydicom", "nibabel"]):
        from support.broken_files import WHOLE, read_or_refuse

    seeds = FOUND / "corpus"
    seeds.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names()):
        (seeds / name).write_bytes(bytes([index]) + WHOLE[name])
    folder = FOUND / "tried"
    folder.mkdir(exist_ok=True)

    def try_one(data: bytes) -> None:
        if data:
            name, content = split(data)
            path = folder / name
            path.write_bytes(content)
            read_or_refuse(path)

    atheris.Setup([sys.argv[0], *LIMITS, *options, str(seeds)], try_one)
    atheris.Fuzz()


def keep(*found: str) -> None:
    """Makes tests of what was found."""
    KEPT.mkdir(exist_ok=True)
    for path in map(Path, found):
        name, content = split(path.read_bytes())
        (KEPT / f"{path.name[-8:]}-{name}").write_bytes(content)


def bugs() -> set[str]:
    """What lies there that was found."""
    return {str(path) for kind in BUGS for path in FOUND.glob(kind)}


def main() -> int:
    """Fuzzes for as long as it is told, bug after bug."""
    run = Run.parse("readers", __doc__)
    known, rounds = bugs(), 0
    while not run.is_over:
        options = [
            f"-max_total_time={math.ceil(run.left_s)}",
            f"-runs={run.count - run.inputs}",
            f"-seed={run.seed + rounds}",
        ]
        command = [sys.executable, __file__, ENGINE, *options]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        executed = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
        if not executed:
            sys.exit(f"{done.stderr[-2000:]}\nno fuzzer: is the extra `fuzz` installed?")
        run.inputs += int(executed[1])
        rounds += 1
    run.found = sorted(bugs() - known)
    return run.tell()


if __name__ == "__main__":
    if sys.argv[1:2] == [ENGINE]:
        fuzz(*sys.argv[2:])
    elif sys.argv[1:2] == ["--keep"]:
        keep(*sys.argv[2:])
    else:
        sys.exit(main())
