"""What Triton writes: read all the time, its end kept, and the reason of a failure found in it."""

from __future__ import annotations

import os
import re
import secrets
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEPT_LINES: Final = 500
_KEPT_FILES: Final = 10
_ENDED_WITHIN_S: Final = 10.0
_HARMLESS: Final = re.compile(r"NVML|CUDA|Cuda|DCGM|pinned|evhtp")
"""What it says on every machine that has no GPU, and of a socket that is none of TCP."""
_UNLOADING: Final = "All models are stopped, unloading models"
_ERROR: Final = re.compile(r'^E\d{4} [^"]*\] "(.*)"$|^\[libprotobuf ERROR [^]]*\] (.*)$')
_NOISE: Final = re.compile(r"ERROR: Failed to create instance: .*|Internal: |TritonModelException: |\\n\\nAt:.*")
"""What comes again in a later line, what kind of error Python's is to Triton, and Python's traceback."""


class Log:
    """The log of a running Triton. A thread reads it, so that Triton never waits for somebody to.

    Attributes:
        unloading: set when Triton ends, has answered every request and begins to unload its models.
    """

    def __init__(self, stream: IO[bytes], *, echo: bool, aliases: Mapping[str, str]) -> None:
        """Starts to read.

        Args:
            stream: what Triton writes; closed by `close`.
            echo: show every line on stderr as it comes.
            aliases: paths as Triton knows them, and as its user does.
        """
        self._aliases = aliases
        self.unloading: threading.Event = threading.Event()
        self._stream = stream
        self._echo = echo
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reader = threading.Thread(target=self._read, name="triton-log", daemon=True)
        self._reader.start()

    def wait_for_end(self) -> None:
        """Waits until all that write to this log are gone: Triton, its Python stubs and its guard; not for ever."""
        self._reader.join(_ENDED_WITHIN_S)

    def close(self) -> None:
        """Waits for the end, and closes the stream."""
        self.wait_for_end()
        if not self._reader.is_alive():
            self._stream.close()

    def tail(self, lines: int = 20) -> str:
        """Returns the last lines."""
        return "\n".join(list(self._lines)[-lines:])

    def keep(self) -> str:
        """Writes what is left of the log into a file, and says which in a few words; the oldest of many is removed."""
        name = f"gliogate-triton-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.log"
        for place in (_state_folder, _temporary_folder):
            try:
                folder = place()
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                # New, and nobody else's to read: it may lie where everybody may write.
                with (folder / name).open("x", encoding="utf-8") as file:
                    os.fchmod(file.fileno(), 0o600)
                    file.write(self.tail(_KEPT_LINES) + "\n")
                for old in sorted(folder.glob("gliogate-triton-*.log"))[:-_KEPT_FILES]:
                    old.unlink(missing_ok=True)
            except (OSError, RuntimeError):  # There may be no home, or no room.
                continue
            return f"its log is {folder / name}"
        return "its log could not be kept"

    def reason(self) -> str:
        """Returns what Triton gives as reasons for a failure, in one line; its last line where it gives none."""
        found = (match[1] or match[2] for line in list(self._lines) if (match := _ERROR.match(line)))
        reasons = dict.fromkeys(filter(None, (_NOISE.sub("", text).replace(r"\n", " ").strip() for text in found)))
        return "; ".join(reasons) or f"its last line was {self.tail(1)!r}"

    def names_lost_lock(self) -> bool:
        """Whether the reason is that one of Triton's processes waited in vain for another."""
        return "lock_exception" in self.reason()

    def _read(self) -> None:
        for raw in self._stream:
            line = raw.decode(errors="replace").rstrip()
            for alias, path in self._aliases.items():
                line = line.replace(alias, path)
            if _UNLOADING in line:
                self.unloading.set()
            if line and not _HARMLESS.search(line):
                self._lines.append(line)
                if self._echo:
                    print(line, file=sys.stderr, flush=True)


def _state_folder() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "gliogate"


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir())
