"""Runs command lines that nobody would think of, on a real Triton: `python -m tests.fuzz_cli --seconds 1200`.

Each must end with an exit code of gliogate's, with a word where it is not 0, and write nothing but what it was told to.
What is found is printed as a list that `tests/client/test_command_lines.py` can keep.
"""

import os
import random
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # TLS to who speaks none is told by the command itself.
sys.path[:0] = [str(TESTS), str(TESTS.parent / "client")]
from support.command_lines import Workplace, draw  # noqa: E402  it lies beside this file
from support.fuzzing import Run  # noqa: E402
from support.tiny_networks import build_repository  # noqa: E402

from gliogate.embedded import EmbeddedServer, find_model_repository  # noqa: E402


def main() -> int:
    """Runs command lines for as long as it is told."""
    run = Run.parse("cli", __doc__)
    with tempfile.TemporaryDirectory() as models, tempfile.TemporaryDirectory() as folder:
        repository = build_repository(find_model_repository(), Path(models) / "tiny")
        with EmbeddedServer(repository) as server, Workplace(Path(folder) / "work", server.url).entered() as workplace:
            while not run.is_over:
                words = draw(random.Random(f"{run.seed} {run.inputs}"))
                run.inputs += 1
                if fault := workplace.fault_of(words):
                    run.found.append(f"{words!a}: {fault}")
    return run.tell()


if __name__ == "__main__":
    sys.exit(main())
