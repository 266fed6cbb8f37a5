"""A campaign: fault after fault, a calm after each, and what became of the right requests meanwhile."""

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path

from .faults import FAULTS, Fault, good_version
from .load import DEADLINE_S, Load, Sent
from .stage import Stage

CALM_S = 8.0
AFTER_A_RESTART_S = 150.0
"""From one fault that has Triton started again to the next: a server does that five times in ten minutes at most."""
HEALED_WITHIN_S = 90.0
HEALED_BY = 30
PROMPT_S = 2.0
"""A server is healed that has answered so many requests in a row within so many seconds."""
TO_SPARE_S = 2.0
"""How much later than its deadline an error may come on a machine that is made busy."""


@dataclass
class Occurrence:
    """A fault that happened.

    Attributes:
        fault: which.
        began: when, in seconds on the monotonic clock.
        ended: when the next one began.
        gap_s: the longest time in which no right request was answered.
        sent: the right requests that were due meanwhile.
    """

    fault: Fault
    began: float
    ended: float = 0.0
    gap_s: float = 0.0
    sent: list[Sent] = field(default_factory=list)


@dataclass(frozen=True)
class Usage:
    """What the server's processes take, in MiB resident and open files."""

    memory_mib: float
    descriptors: int


@dataclass(frozen=True)
class Outcome:
    """What a campaign found.

    Attributes:
        occurrences: the faults, in their order.
        sent: all right requests.
        before: what the server took before the first fault.
        after: what it took after the last.
        said: what the server said of restarts.
        seconds: how long it took.
    """

    occurrences: Sequence[Occurrence]
    sent: Sequence[Sent]
    before: Usage
    after: Usage
    said: Sequence[str]
    seconds: float


def run(repository: Path, *, minutes: float, rate: float, seed: int) -> Outcome:
    """Runs a campaign.

    Args:
        repository: what is served.
        minutes: after how many no fault begins any more.
        rate: right requests in a second.
        seed: of the faults' choices.
    """
    chance = random.Random(seed)
    stage = Stage(repository)
    try:
        load = Load(stage.relay.url, rate)
        _calm(load, rate)
        # Two versions are loaded from the first new one on; so they are before, too.
        with good_version(stage, chance):
            _calm(load, rate)
        begin = time.monotonic()
        before = Usage(stage.memory_mib(), stage.descriptors())
        occurrences: list[Occurrence] = []
        turns = _turns(stage)
        while time.monotonic() - begin < 60 * minutes:
            occurrences.append(_let_happen(next(turns), stage, load, chance))
        seconds = time.monotonic() - begin
        _calm(load, rate)
        after = Usage(stage.memory_mib(), stage.descriptors())
        load.stop()
        _assign(occurrences, load.sent)
        return Outcome(occurrences, load.sent, before, after, stage.said, seconds)
    finally:
        stage.close()


def _turns(stage: Stage) -> Iterator[Fault]:
    """Whose turn it is: those that have Triton started again, as soon as they may; the others, between them."""
    possible = [fault for fault in FAULTS if stage.has_own_shared_memory or not fault.fills_shared_memory]
    restarting = cycle([fault for fault in possible if fault.restarts])
    others = cycle([fault for fault in possible if not fault.restarts])
    while True:
        last_restart = time.monotonic()
        yield next(restarting)
        while time.monotonic() - last_restart < AFTER_A_RESTART_S:
            yield next(others)


def _let_happen(fault: Fault, stage: Stage, load: Load, chance: random.Random) -> Occurrence:
    occurrence = Occurrence(fault, time.monotonic())
    print(f"{fault.name} …", flush=True)
    with fault.begin(stage, chance):
        time.sleep(fault.lasts_s)
    over = time.monotonic()
    while time.monotonic() - over < HEALED_WITHIN_S and not _is_healed(load, over):
        time.sleep(0.5)
    time.sleep(CALM_S)
    occurrence.ended = time.monotonic()
    print(f"  {stage.memory_mib():,.0f} MiB", flush=True)
    return occurrence


def _is_healed(load: Load, since: float) -> bool:
    """Whether what was sent in the last seconds was answered, and soon, and nothing older is left."""
    now = time.monotonic()
    recent = [each for each in load.sent[-2000:] if since < each.due < now - PROMPT_S]
    waiting = any(each.done is None for each in load.sent[-2000:] if each.due < now - PROMPT_S)
    last = recent[-HEALED_BY:]
    prompt = (each.done is not None and not each.error and each.done - each.due < PROMPT_S for each in last)
    return len(last) == HEALED_BY and not waiting and all(prompt)


def _calm(load: Load, rate: float) -> None:
    """Waits for the answers of ten seconds."""
    begin, due = time.monotonic(), 10 * rate
    while sum(1 for each in load.sent if each.due > begin and each.done and not each.error) < due:
        if time.monotonic() - begin > HEALED_WITHIN_S:
            raise TimeoutError("right requests are not answered in calm")
        time.sleep(0.2)


def _assign(occurrences: Sequence[Occurrence], sent: Sequence[Sent]) -> None:
    for occurrence in occurrences:
        begin, end = occurrence.began, occurrence.ended
        # One that was under way when the fault began is its victim, too.
        occurrence.sent = [each for each in sent if each.due < end and (each.done is None or each.done > begin)]
        answered = sorted(each.done for each in sent if each.done and not each.error and begin <= each.done <= end)
        times = [begin, *answered, end]
        occurrence.gap_s = max(later - earlier for earlier, later in pairwise(times))


def lost(sent: Sequence[Sent]) -> int:
    """How many have neither an answer nor an error."""
    return sum(1 for each in sent if each.done is None)


def beyond_deadline(sent: Sequence[Sent]) -> int:
    """How many were told of later than their deadline allows."""
    return sum(1 for each in sent if each.done and each.done - each.began > DEADLINE_S + TO_SPARE_S)


def lateness_s(sent: Sequence[Sent]) -> float:
    """How much later than due a request was sent, at most: the load's own clock."""
    return max(each.began - each.due for each in sent)


def latency_ms(sent: Sequence[Sent], share: float) -> float:
    """A percentile of the time from when a request was due to its answer."""
    times = sorted(each.done - each.due for each in sent if each.done and not each.error)
    return 1000 * statistics.quantiles(times, n=1000)[round(1000 * share) - 1]
