"""Analyzes a shard of the studies in a folder, and goes on where an earlier run ended.

python batch.py INPUT OUTPUT [OPTION …] [-- OPTION OF `gliogate analyze` …]

A study is a file or a folder below INPUT that `gliogate analyze` reads. Its name alone says which shard it is in, so
shards agree on that without talking to each other. Its files go to OUTPUT/STUDY/files, and OUTPUT/STUDY/result.json is
written last: a study that has one without an error is done, and is not done again.

0: all are done. 1: some failed, and their result.json says why. 2: the folders cannot be used. 75: the server or a
volume was not there; another try may go on. 143: it was told to end.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from gliogate import TLS, Client, GliogateError
from gliogate.files import replacing

_DONE, _FAILED, _UNUSABLE, _TRY_AGAIN, _TERMINATED = 0, 1, 2, 75, 128 + signal.SIGTERM
_RESULT, _FILES = "result.json", "files"
# The server may go away during the first.
_ATTEMPTS = 2


def main() -> int:
    """Runs the command line; returns its exit code, see above."""
    # The first process of a container ignores SIGTERM unless it says otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    arguments = _parse()
    if arguments.output.resolve().is_relative_to(arguments.input.resolve()):
        return _refuse(f"{arguments.output}: is in {arguments.input}, and would be taken for studies")
    studies = find_studies(arguments.input, arguments.studies)
    if not studies:
        return _refuse(f"{arguments.input}: no study is named {arguments.studies}")
    mine = [name for name in studies if shard_of(name, arguments.shards) == arguments.shard]
    counts = Counter(analyzed=0, failed=0, done_before=0)
    try:
        with Client(arguments.url, tls=_tls(arguments.certificates)) as client:
            for name in mine:
                if is_done(arguments.output / name):
                    counts["done_before"] += 1
                    continue
                begin = time.monotonic()
                for _ in range(_ATTEMPTS):
                    client.wait_until_ready(arguments.ready_s)
                    error = _analyze(name, arguments)
                    if error is None:
                        break
                counts["failed" if error else "analyzed"] += 1
                _log(study=name, seconds=round(time.monotonic() - begin, 3), error=error)
    except (GliogateError, OSError) as lost:
        _log(shard=arguments.shard, studies=len(mine), **counts, error=str(lost))
        return _TRY_AGAIN
    _log(shard=arguments.shard, studies=len(mine), **counts, error=None)
    return _FAILED if counts["failed"] else _DONE


def find_studies(folder: Path, pattern: str) -> list[str]:
    """Returns the studies' names, relative to the folder, sorted; hidden ones and a volume's lost+found are none."""
    names = [path.relative_to(folder) for path in folder.glob(pattern) if path != folder]
    return sorted(
        str(name) for name in names if not any(part.startswith(".") or part == "lost+found" for part in name.parts)
    )


def shard_of(name: str, shards: int) -> int:
    """Returns the number of the shard that has a study, from 0."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8]) % shards


def is_done(folder: Path) -> bool:
    """Whether a study was analyzed, and all of it is in its folder."""
    try:
        return json.loads((folder / _RESULT).read_text(encoding="utf-8"))["error"] is None
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _analyze(name: str, arguments: argparse.Namespace) -> str | None:
    """Analyzes a study and keeps what was found; returns what went wrong, or None."""
    target = arguments.output / name
    with tempfile.TemporaryDirectory() as scratch:
        # A process of its own: a file that brings down its reader, or takes all memory, costs only this study.
        command = ["gliogate", "analyze", str(arguments.input.absolute() / name), "--output", _FILES, "--json", "-"]
        options = ["--url", arguments.url, *_tls_options(arguments.certificates), *arguments.analyze]
        error, found = None, []
        try:
            done = subprocess.run(
                [*command, *options],
                cwd=scratch,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=arguments.study_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            error = f"took longer than {arguments.study_s:g} s"
        else:
            if done.returncode >= 0:
                found = [json.loads(line) for line in done.stdout.splitlines()]
            if done.returncode:
                said = [each["error"] for each in found if each["error"]] or done.stderr.splitlines()[-1:]
                error = "; ".join(said) or f"gliogate analyze ended with {done.returncode}"
        written = [] if error else sorted(path for path in Path(scratch, _FILES).rglob("*") if path.is_file())
        files = [str(path.relative_to(scratch)) for path in written]
        for file, path in zip(files, written, strict=True):
            _keep(path, target / file, rename=arguments.rename)
        result = Path(scratch) / _RESULT
        result.write_text(json.dumps({"study": name, "error": error, "files": files, "found": found}), encoding="utf-8")
        _keep(result, target / _RESULT, rename=arguments.rename)
    return error


def _keep(source: Path, target: Path, *, rename: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not rename:
        shutil.copyfile(source, target)
        return
    with replacing(target) as partial:
        shutil.copyfile(source, partial)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="batch.py", epilog="What follows -- is for `gliogate analyze`.")
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--studies", default="*", metavar="GLOB")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--shard", type=int, default=int(os.environ.get("JOB_COMPLETION_INDEX", "0")))
    parser.add_argument("--ready-s", type=float, default=600.0)
    parser.add_argument("--study-s", type=float, default=1800.0)
    parser.add_argument("--certificates", type=Path, help="with ca.crt and, for mutual TLS, tls.crt and tls.key")
    parser.add_argument("--no-rename", dest="rename", action="store_false", help="OUTPUT is on a store that cannot")
    own, analyze = sys.argv[1:], []
    if "--" in own:
        cut = own.index("--")
        own, analyze = own[:cut], own[cut + 1 :]
    return parser.parse_args(own, argparse.Namespace(analyze=analyze))


def _tls(folder: Path | None) -> TLS | None:
    if folder is None:
        return None
    certificate = folder / "tls.crt"
    if not certificate.exists():
        return TLS(root_certificates=folder / "ca.crt")
    return TLS(root_certificates=folder / "ca.crt", certificate=certificate, private_key=folder / "tls.key")


def _tls_options(folder: Path | None) -> list[str]:
    tls = _tls(folder)
    if tls is None:
        return []
    own = [] if tls.certificate is None else ["--cert", str(tls.certificate), "--key", str(tls.private_key)]
    return ["--ca", str(tls.root_certificates), *own]


def _refuse(reason: str) -> int:
    _log(error=reason)
    return _UNUSABLE


def _log(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    sys.exit(main())
