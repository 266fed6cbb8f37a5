"""A process that runs commands of `python -m loadtests`, one after the other: what they import takes seconds."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


class LoadCommands:
    """Runs commands in a process of their own, which is started with the first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, words: list[str], variables: dict[str, str]) -> tuple[int, str, str]:
        """The exit code of a command, and what it said on stdout and on stderr."""
        if self._process is None:
            pipe = subprocess.PIPE
            command = [sys.executable, "-m", "tests.support.load_commands"]
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=CHECKOUT)
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([words, variables]), file=self._process.stdin, flush=True)
        code, out, err = json.loads(self._process.stdout.readline())
        return code, out, err

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.communicate(timeout=60)


def main() -> None:
    """Reads commands, a line each; tells what became of them, a line each."""
    from loadtests import __main__ as loadtests

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        words, variables = json.loads(line)
        sys.argv = [loadtests.__file__, *words]
        os.environ.update(variables)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            code = 1
            with _instead(1, out), _instead(2, err):
                try:
                    code = loadtests.main(words)
                except SystemExit as end:
                    code = end.code
                except BaseException:
                    traceback.print_exc()
            print(json.dumps([code, _read(out), _read(err)]), file=answers, flush=True)
        for name in variables:
            del os.environ[name]


@contextlib.contextmanager
def _instead(number, file):
    kept = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept, number)
        os.close(kept)


def _read(file) -> str:
    file.seek(0)
    return file.read()


if __name__ == "__main__":
    main()
