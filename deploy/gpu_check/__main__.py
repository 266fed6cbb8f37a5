"""`make gpu-check`: everything that only a GPU can show, on the models of this checkout."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.gpu_check.checks import (
    OF_THE_FIRST_START,
    OF_THE_SECOND_START,
    Check,
    Machine,
    WrongError,
    query_gpu,
)
from deploy.gpu_check.server import StartError, serving
from gliogate import GliogateError

OUTPUT = Path("build/gpu-check/report.json")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code.

    0 if all is well, or there is no GPU: then it says what it would do. 1 where a check fails, 2 where nothing can be
    started, 130 at Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.gpu_check", description=__doc__)
    parser.add_argument("--image", help="the server's image, run by docker; default: the `tritonserver` on PATH")
    parser.add_argument(
        "--output",
        type=Path,
        default=OUTPUT,
        metavar="FILE",
        help="the report; Triton's logs are beside it; default: %(default)s",
    )
    arguments = parser.parse_args(argv)
    try:
        query_gpu("name")
    except WrongError as error:
        print(f"Nothing was checked: there is no GPU here ({error}).")
        print("On a machine with one, this would start Triton twice, and find out whether it is so that:")
        print("\n".join(f"- {_told(check)}" for check in (*OF_THE_FIRST_START, *OF_THE_SECOND_START)))
        return 0
    program = "tritonserver" if arguments.image is None else "docker"
    if shutil.which(program) is None:
        print(f"gpu-check: {program} is not on PATH; --image NAME runs the server's image by docker", file=sys.stderr)
        return 2
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.output.parent) as name:
        try:
            report = _check(arguments.image, Path(name), arguments.output)
        except StartError as error:
            print(f"gpu-check: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("\ngpu-check: interrupted", file=sys.stderr)
            return 130
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    print(arguments.output)
    return 0 if report["passed"] else 1


def _check(image: str | None, folder: Path, output: Path) -> dict[str, object]:
    with serving(image, folder, output.with_suffix(".1.log")) as server:
        machine = Machine(server, folder / "cache")
        results = [_result(check, machine) for check in OF_THE_FIRST_START]
    first = server.ready_s
    with serving(image, folder, output.with_suffix(".2.log")) as server:
        machine.server, machine.first_ready_s = server, first
        results += [_result(check, machine) for check in OF_THE_SECOND_START]
    return {"passed": all(result["error"] is None for result in results), "checks": results, "found": machine.found}


def _result(check: Check, machine: Machine) -> dict[str, object]:
    before = set(machine.found)
    try:
        check(machine)
    except (WrongError, GliogateError) as error:
        problem: str | None = str(error)
    else:
        problem = None
    print(f"{'FAILED' if problem else 'passed'}: {_told(check)}")
    for name in machine.found.keys() - before:
        print(f"    {name}: {machine.found[name]}")
    if problem:
        print(f"    {problem}")
    return {"name": check.__name__, "error": problem}


def _told(check: Check) -> str:
    return str(check.__doc__).partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
