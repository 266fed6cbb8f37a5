"""What Triton writes: read all the time, its end kept, and the reason of a failure found in it."""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from typing import IO, Final

_KEPT_LINES: Final = 500
_HARMLESS: Final = re.compile(r"NVML|CUDA|Cuda|DCGM|pinned")
"""What it says on every machine that has no GPU."""
_UNLOADING: Final = "All models are stopped, unloading models"
_ERROR: Final = re.compile(r'^E\d{4} [^"]*\] "(.*)"$|^\[libprotobuf ERROR [^]]*\] (.*)$')
_NOISE: Final = re.compile(r"ERROR: Failed to create instance: .*|Internal: |TritonModelException: |\\n\\nAt:.*")
"""What comes again in a later line, what kind of error Python's is to Triton, and Python's traceback."""


class Log:
    """The log of a running Triton. A thread reads it, so that Triton never waits for somebody to.

    Attributes:
        unloading: set when Triton ends, has answered every request and begins to unload its models.
    """

    def __init__(self, stream: IO[bytes], *, echo: bool) -> None:
        """Starts to read.

        Args:
            stream: what Triton writes; closed by `close`.
            echo: show every line on stderr as it comes.
        """
        self.unloading: threading.Event = threading.Event()
        self._stream = stream
        self._echo = echo
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reader = threading.Thread(target=self._read, name="triton-log", daemon=True)
        self._reader.start()

    def wait_for_end(self) -> None:
        """Waits until all that write to this log are gone: Triton, its Python stubs and its guard."""
        self._reader.join()

    def close(self) -> None:
        """Waits for the end, and closes the stream."""
        self.wait_for_end()
        self._stream.close()

    def tail(self, lines: int = 20) -> str:
        """Returns the last lines."""
        return "\n".join(list(self._lines)[-lines:])

    def reason(self) -> str:
        """Returns what Triton gives as reasons for a failure, in one line; its last line where it gives none."""
        found = (match[1] or match[2] for line in list(self._lines) if (match := _ERROR.match(line)))
        reasons = dict.fromkeys(filter(None, (_NOISE.sub("", text).replace(r"\n", " ").strip() for text in found)))
        return "; ".join(reasons) or f"its last line was {self.tail(1)!r}"

    def names_taken_port(self) -> bool:
        """Whether the reason is that a port is taken."""
        return "already in use" in self.reason()

    def names_lost_lock(self) -> bool:
        """Whether the reason is that one of Triton's processes waited in vain for another."""
        return "lock_exception" in self.reason()

    def _read(self) -> None:
        for raw in self._stream:
            line = raw.decode(errors="replace").rstrip()
            if _UNLOADING in line:
                self.unloading.set()
            if line and not _HARMLESS.search(line):
                self._lines.append(line)
                if self._echo:
                    print(line, file=sys.stderr, flush=True)
