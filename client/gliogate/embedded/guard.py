"""Runs a server as the child of a process of its own, so that it is gone when its owner is, however the owner ended.

Run as a file, not as a module: the standard library is all it imports, so that it starts at once.

    python guard.py OWNER_PID GRACE_S FOLDER SHM_PREFIX COMMAND…

The guard asks the server to end on SIGTERM, and kills it on a second one, when it takes too long, and when the owner
(the guard's parent) is gone, whatever took it. It has one thread and no handlers: it waits for signals. Before it ends
it removes what the server would leave behind.
"""

import contextlib
import ctypes
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_POLL_S = 0.2
_PR_SET_PDEATHSIG = 1
_WAKING = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}


def run(owner: int, grace_s: float, folder: Path, shm_prefix: str, command: list[str]) -> int:
    """Runs the command until it ends, is to end, or its owner is gone; returns its exit code.

    Args:
        owner: the process id of the owner.
        grace_s: how long the server may take to end by itself before it is killed.
        folder: this start's own folder, removed at the end, in the server's.
        shm_prefix: what the names of the server's shared memory regions begin with; they are removed at the end.
        command: the server and its arguments.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAKING)
    libc = ctypes.CDLL(None)

    def in_child() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAKING)
        # Should the guard itself be killed. Safe here: the guard's only thread starts the server and stays.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    try:
        # A process group of its own: Triton's Python stubs are in it, the guard is not.
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=in_child, process_group=0)
        deadline = math.inf
        while server.poll() is None and os.getppid() == owner and time.monotonic() < deadline:
            woken = signal.sigtimedwait(_WAKING, _POLL_S)
            if woken is not None and woken.si_signo != signal.SIGCHLD:
                # The first signal asks the server to end, the second ends it.
                deadline = time.monotonic() + grace_s if deadline == math.inf else 0.0
                server.terminate()
        _kill_group(server.pid)
        return server.wait()
    finally:
        remove_traces(folder, shm_prefix)
        if os.getppid() != owner:
            shutil.rmtree(folder.parent, ignore_errors=True)  # The owner's, which it cannot remove any more.


def remove_traces(folder: Path, shm_prefix: str) -> None:
    """Removes the folder of a start and its shared memory regions."""
    shutil.rmtree(folder, ignore_errors=True)
    for region in Path("/dev/shm").glob(f"{shm_prefix}*"):  # noqa: S108  where Linux keeps POSIX shared memory
        region.unlink(missing_ok=True)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    owner, grace_s, folder, shm_prefix, *command = sys.argv[1:]
    code = run(int(owner), float(grace_s), Path(folder), shm_prefix, command)
    # Like a shell, for a server that a signal ended.
    sys.exit(code if code >= 0 else 128 - code)
