"""Which task works on which study, told by files in the folder that all tasks write their results to.

    OUTPUT/.cohort/claims/DIGEST    a study is being worked on; made by one task alone, and it says by which
    OUTPUT/.cohort/tasks/TASK/alive   written anew all the time by the task

No server is needed, and none can be lost. A task whose file has not been written for a while is over, and others take
its studies. The times that are compared were all given by the file system, for the clocks of nodes differ. A task on
the same machine is looked up among its processes, so that a run which was killed is taken up at once.

A claim saves work, it guards no result: should two tasks take over one study at the same moment, both do it, and both
write whole files.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from enum import Enum, auto
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

STALE_S: Final = 120.0
"""How long a task may be silent before its studies are others'. File systems on a network remember for a minute."""

_BEATS: Final = 12
"""How often a task shows itself in that time."""


class Taking(Enum):
    """What became of trying to take a study."""

    TAKEN = auto()
    HELD = auto()
    """Another task works on it."""
    UNSURE = auto()
    """Another task did; whether it is still there will show."""


@dataclass(frozen=True)
class Owner:
    """A task, as its claims tell of it.

    Attributes:
        task: its folder's name.
        place: the machine since its start, and the name space of its processes; empty where that is not known.
        pid: its process there.
        born: when that began, as the machine counts.
        lost: how many tasks were killed while they had the study before this one.
    """

    task: str
    place: str
    pid: int
    born: str
    lost: int = 0

    @classmethod
    def myself(cls) -> Self:
        """This process."""
        return cls(uuid4().hex, _place(), os.getpid(), _born(os.getpid()))

    def is_dead(self) -> bool | None:
        """Whether its process has ended; None where that cannot be seen from here."""
        if not self.place or self.place != _place():
            return None
        return _born(self.pid) != self.born


class Claims:
    """The claims of one task, for as long as the context.

    Attributes:
        scratch: a folder of this task's own, on the file system of the results; gone with the task.
    """

    def __init__(self, output: Path, *, stale_s: float = STALE_S) -> None:
        """Describes them; nothing is written yet.

        Args:
            output: the folder of results.
            stale_s: see `STALE_S`.
        """
        self._me = Owner.myself()
        self._claims = output / ".cohort" / "claims"
        self._tasks = output / ".cohort" / "tasks"
        self.scratch = self._tasks / self._me.task
        self._stale_s = stale_s
        self._over = Event()
        self._held: dict[Path, int] = {}
        self._beat_at = (0.0, 0.0)  # By the file system's clock, by ours.
        self._seen: dict[str, float] = {}
        self._count, self._counted_at = 1, float("-inf")
        self._heart = Thread(target=self._beat_on, daemon=True, name="gliogate-claims")

    def __enter__(self) -> Self:
        """Begins to show that the task is there.

        Raises:
            OSError: the folder cannot be written.
        """
        self._claims.mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(parents=True)
        self._beat()
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Gives back what is held."""
        self._over.set()
        self._heart.join(self._stale_s)
        for path in self._held:
            with contextlib.suppress(OSError):
                path.unlink()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def take(self, study: str) -> Taking:
        """Takes a study, if nobody has it, or nobody who is still there.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self._path(study)
        lost = 0
        for _ in range(2):
            try:
                # By one alone, on every file system.
                number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                owner = _read_owner(path)
                is_over = self._is_over(path, owner)
                if not is_over:
                    return Taking.HELD if is_over is False else Taking.UNSURE
                self._remove(path, owner)
                lost = owner.lost + 1 if owner else 0
                continue
            self._held[path] = lost
            with os.fdopen(number, "w", encoding="ascii") as file:
                json.dump(asdict(replace(self._me, lost=lost)), file)
            return Taking.TAKEN
        return Taking.UNSURE

    def has(self, study: str) -> bool:
        """Whether a study that was taken is still this task's: others may have thought it over."""
        owner = _read_owner(self._path(study))
        return owner is not None and owner.task == self._me.task

    def lost(self, study: str) -> int:
        """How many tasks were killed while they had a study that this one has now."""
        return self._held.get(self._path(study), 0)

    def forget(self) -> None:
        """Forgets who was seen to be there: it counts who shows up from now on."""
        self._seen.clear()

    def count_tasks(self) -> int:
        """How many tasks there are, this one included, those that died of late, too."""
        if time.monotonic() > self._counted_at + self._stale_s / _BEATS:
            with contextlib.suppress(OSError):
                self._count = max(1, len(os.listdir(self._tasks)))  # noqa: PTH208  a count, no paths
            self._counted_at = time.monotonic()
        return self._count

    def release(self, study: str) -> None:
        """Gives a study back, done or not.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self._path(study)
        self._held.pop(path, None)
        if self.has(study):
            path.unlink(missing_ok=True)

    def _path(self, study: str) -> Path:
        return self._claims / hashlib.sha256(os.fsencode(study)).hexdigest()[:32]

    def _is_over(self, claim: Path, owner: Owner | None) -> bool | None:
        """Whether a claim's task is over; None where it may be, and time will tell."""
        try:
            if owner is None:  # Whoever made it had no time to say who they are, or it is gone.
                return self._now() - claim.stat().st_mtime > self._stale_s or None
            dead = owner.is_dead()
            seen = self._seen_at(owner)
        except FileNotFoundError:
            return True
        if dead or self._now() - seen > self._stale_s:
            self._bury(owner)
            return True
        first = self._seen.setdefault(owner.task, seen)
        return False if dead is False or seen != first else None

    def _remove(self, claim: Path, owner: Owner | None) -> None:
        """Removes the claim of a task that is over, unless another has just done so and taken the study."""
        grave = self.scratch / uuid4().hex
        try:
            claim.rename(grave)
        except FileNotFoundError:
            return
        except OSError:  # A store that cannot rename.
            claim.unlink(missing_ok=True)
            return
        if _read_owner(grave) != owner:
            with contextlib.suppress(OSError):
                claim.hardlink_to(grave)
        grave.unlink(missing_ok=True)

    def _seen_at(self, owner: Owner) -> float:
        """When a task last showed itself. Opening the file makes a network's file system ask its server."""
        with (self._tasks / owner.task / "alive").open("rb") as file:
            return os.fstat(file.fileno()).st_mtime

    def _bury(self, owner: Owner) -> None:
        """Removes what a task left: half of a study's files, say."""
        shutil.rmtree(self._tasks / owner.task, ignore_errors=True)

    def _now(self) -> float:
        """By the clock of the file system."""
        theirs, ours = self._beat_at
        return theirs + time.monotonic() - ours

    def _beat(self) -> None:
        path = self.scratch / "alive"
        path.parent.mkdir(parents=True, exist_ok=True)  # Others may have buried us, who were asleep.
        # Written, not just touched: that takes the file server's time, and works where times cannot be set.
        path.write_bytes(b"alive\n")
        self._beat_at = (path.stat().st_mtime, time.monotonic())

    def _beat_on(self) -> None:
        while not self._over.wait(self._stale_s / _BEATS):
            # On a disk that is full, or away, results cannot be written either: that tells.
            with contextlib.suppress(OSError):
                self._beat()


def _read_owner(claim: Path) -> Owner | None:
    try:
        return Owner(**json.loads(claim.read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process began, in ticks since its machine did; empty where there is none."""
    try:
        # What stands in parentheses is a name, which may hold anything.
        state, *numbers = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except (OSError, ValueError):
        return ""
    return "" if state in "ZX" else numbers[18]
